#!/usr/bin/env bash
# trial.sh STEP...   the trial on the shop of make kind-shop. A step is a scenario of `trial scenarios` for a cluster, or
# "autoscale": load until the autoscalers have worked, then little, in which they must come down again, or
# "chaos": traffic while k8s/chaos.sh, and not the trial itself, takes pods.
#   LENGTH=5m         of a scenario's traffic, instead of its own
#   RATE=180          requests a second
#   SCALE=scale-pods  the scenario under which autoscale loads the shop, instead of "scale", which has no faults
# But for autoscale, there are three replicas of each part: the autoscalers are held there meanwhile.
set -euo pipefail
cd "$(dirname "$0")/../.."
source k8s/kind/settings.sh
# The trial shares the machine with the cluster, and one processor takes a quarter less of it than two.
export GOMAXPROCS=${GOMAXPROCS:-1}
namespace=coatcheck target=http://127.0.0.1:$http_port
parts=(gateway auth cart)

k() { kubectl -n "$namespace" "$@"; }
# whole: every part has what its autoscaler wants, and all of it is Ready.
whole() {
  for part in "${parts[@]}"; do k rollout status "deployment/$namespace-$part" --timeout=180s > /dev/null; done
  k rollout status "statefulset/$namespace-redis" --timeout=180s > /dev/null
}
scenario() { # NAME [FLAG...]
  .bin/trial run -target "$target" -namespace "$namespace" -scenario "$1" -dir ".run/kind/trial/$1" \
    -node-exec 'docker exec NODE' -node-stop 'docker stop -t 0 NODE > /dev/null' \
    -node-start 'k8s/kind/start-node.sh NODE' "${@:2}"
}
ready() { k get deployment "$namespace-$1" -o jsonpath='{.status.readyReplicas}'; }

# most PART FILE: the most Ready pods of the part that FILE, which a watch has written, tells of.
most() { awk -v name="$namespace-$1" '$1 == name && $2 > most { most = $2 } END { print most + 0 }' "$2"; }

autoscale() {
  local dir=.run/kind/trial/autoscale
  mkdir -p "$dir"
  # One watch, for a kubectl takes a fifth of a second of CPU to begin.
  kubectl -n "$namespace" get deployments -w -o jsonpath='{.metadata.name} {.status.readyReplicas}{"\n"}' > "$dir/ready" &
  watch=$!
  # The load goes on while pods are deleted where SCALE says so.
  scenario "${SCALE:-scale}" ${LENGTH:+-length "$LENGTH"} ${RATE:+-rate "$RATE"} -dir "$dir/up" &
  traffic=$!
  trap 'kill $traffic $watch 2> /dev/null || true; release' EXIT
  wait $traffic
  kill $watch
  wait $watch 2> /dev/null || true
  local gateways carts
  gateways=$(most gateway "$dir/ready") carts=$(most cart "$dir/ready")
  echo "scaled up: gateway 3 to $gateways, cart 3 to $carts"
  k get events --field-selector reason=SuccessfulRescale --sort-by=.lastTimestamp \
    -o custom-columns=TIME:.lastTimestamp,WHO:.involvedObject.name,WHAT:.message | tail -12
  (( gateways > 3 && carts >= ${WANT:-8} )) || { echo "FAIL  the autoscalers did not follow the load: cart must reach ${WANT:-8}" >&2; exit 1; }

  # All the way down while there is traffic.
  scenario calm -dir "$dir/down"
  [[ $(ready gateway)$(ready cart) = 33 ]] || { echo "FAIL  the autoscalers did not come down again: gateway $(ready gateway), cart $(ready cart)" >&2; exit 1; }
  echo "scaled down: gateway and cart to 3"
}

# chaos: first what it must not do, then what it does.
chaos() {
  ! k8s/chaos.sh -n kube-system -c 1 2> /dev/null || { echo "FAIL  chaos.sh takes pods of what is no shop" >&2; exit 1; }
  before=$(k get pods -o name)
  k8s/chaos.sh -n "$namespace" -p gateway,auth,cart,redis -e 0 -c 5 -d
  [[ $before = "$(k get pods -o name)" ]] || { echo "FAIL  a dry run of chaos.sh takes pods" >&2; exit 1; }
  k8s/chaos.sh -n "$namespace" -p redis -w delete -c 1
  .bin/trial run -target "$target" -rate "${RATE:-150}" -length "${LENGTH:-60s}" -dir .run/kind/trial/chaos \
    -fault-command "k8s/chaos.sh -n $namespace -w delete,force,evict -e 1 -c 2"
}

# past_proxy sends the traffic to the node itself where that can be reached: Docker's proxy takes as much CPU as the trial,
# keeps two files open for each connection that a stopped node does not answer, and ends when it has no more.
past_proxy() {
  local direct
  direct=http://$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$cluster-control-plane"):30080
  ! curl -s -m 2 -o /dev/null "$direct/livez" || target=$direct
}

# hold has the autoscalers of the three parts leave them at three replicas, and at what a trial scales them to; release
# has them work again.
autoscalers() { # SELECT-POLICY, in either direction
  for part in "${parts[@]}"; do
    k patch hpa "$namespace-$part" --patch "{\"spec\":{\"behavior\":{\"scaleUp\":{\"selectPolicy\":\"$1\"},\"scaleDown\":{\"selectPolicy\":\"$1\"}}}}" > /dev/null
  done
}
hold() {
  autoscalers Disabled
  k scale "${parts[@]/#/deployment/$namespace-}" --replicas=3 > /dev/null
}
release() { autoscalers Max; }
trap release EXIT

past_proxy
for step; do
  printf '\n--- %s\n' "$step"
  if [[ $step = autoscale ]]; then release; else hold; fi
  whole
  case $step in
    autoscale | chaos) "$step" ;;
    *) scenario "$step" ${LENGTH:+-length "$LENGTH"} ${RATE:+-rate "$RATE"} ;;
  esac
done
