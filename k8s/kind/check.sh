#!/usr/bin/env bash
# Fails unless the cluster gives what a shop needs: names, a network across nodes, volumes that outlive pods and nodes,
# metrics, and, with built images, no way out. Stops a worker and starts it again. Two minutes; kind-load comes first.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
namespace=kind-check outside=$cluster-outside
trap 'docker rm -f "$outside" "$outside-here" > /dev/null 2>&1 || true; "$root/k8s/kind/start-node.sh" "$cluster-worker"; kubectl delete namespace "$namespace" --wait=false > /dev/null 2>&1 || true' EXIT
kubectl delete namespace "$namespace" --ignore-not-found > /dev/null
kubectl create namespace "$namespace" > /dev/null
kubectl -n "$namespace" apply -f - > /dev/null << MANIFESTS
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{port: 6379}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: server}
spec:
  serviceName: server
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      nodeSelector: {kubernetes.io/hostname: $cluster-worker}
      securityContext: {runAsUser: 10001, fsGroup: 10001}
      containers:
      - name: redis
        image: $cluster/redis:kind
        command: [redis-server, --protected-mode, "no", --dir, /data, --appendonly, "yes", --appendfsync, always]
        readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 100Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeSelector: {kubernetes.io/hostname: $cluster-worker2}
  containers:
  - {name: redis, image: $cluster/redis:kind, command: [redis-server, --port, "7000", --save, ""]}
MANIFESTS

fail() { echo "FAIL  $*" >&2; exit 1; }
system=$(kubectl -n kube-system get pods,configmaps -o yaml)
for setting in "--unsafe-no-fsync=true" "--endpointslice-updates-batch-period=200ms" "-endpoints-controller" "minSyncPeriod: 100ms"; do
  [[ $system = *"$setting"* ]] || fail "kind has not taken the setting $setting of up.sh"
done
ready() { kubectl -n "$namespace" wait --for=condition=Ready "pod/$1" --timeout=120s > /dev/null || fail "pod $1 is not ready"; }
client() { timeout 10 kubectl -n "$namespace" exec client -- redis-cli "$@" 2>&1; }
server() { client -h "server.$namespace.svc.cluster.local" "$@"; }
# answers ARGUMENT... within 60 s: the service's rules and the API follow a pod with some delay.
answers() {
  local want=$1 got end=$((SECONDS + 60))
  shift
  while (( SECONDS < end )); do
    got=$(server "$@") && [[ $got = "$want" ]] && return
    sleep 1
  done
  fail "redis-cli $*: got \"$got\", want \"$want\""
}

kubectl -n "$namespace" rollout status statefulset/server --timeout=120s > /dev/null
ready client
answers OK set coat ticket-7
echo "ok    a pod on one worker finds a service by name and reaches its pod on the other"

kubectl -n "$namespace" delete pod server-0 --grace-period=1 > /dev/null
answers ticket-7 get coat
echo "ok    a volume made on demand outlives its pod"

[[ $(kubectl top nodes --no-headers | grep -c '%') = 3 ]] || fail "kubectl top nodes does not know three nodes"
echo "ok    metrics of three nodes"

if [[ $(way) = build ]]; then
  # shellcheck disable=SC2016
  slack=$(docker exec "$cluster-worker2" sh -c 'cat /proc/$(pgrep -n redis-server)/timerslack_ns')
  [[ $slack = 5000000 ]] || fail "a process in a pod has a timer slack of $slack ns, not the 5 ms that its node has"
  echo "ok    what runs in a pod has its node's timer slack"

  # One listens on this machine and one behind it, on addresses that belong to nobody. Any other container may call both.
  listen() { docker run -d --name "$1" --network "$2" "$cluster/redis:kind" redis-server --port "$3" --protected-mode no --save "" > /dev/null; }
  listen "$outside" none 16399
  listen "$outside-here" host 16400
  behind=$(docker inspect -f '{{.State.Pid}}' "$outside")
  ip link add "$cluster-out" type veth peer name eth0 netns "$behind"
  ip address add 198.51.100.1/30 dev "$cluster-out"
  ip link set "$cluster-out" up
  nsenter -t "$behind" -n sh -c 'ip address add 198.51.100.2/30 dev eth0 && ip link set eth0 up && ip route add default via 198.51.100.1'
  for call in "-h 198.51.100.1 -p 16400" "-h 198.51.100.2 -p 16399"; do
    read -ra call <<< "$call"
    for _ in {1..20}; do
      heard=$(docker run --rm "$cluster/redis:kind" redis-cli "${call[@]}" ping 2>&1) && [[ $heard = PONG ]] && break
      sleep 1
    done
    [[ $heard = PONG ]] || fail "nobody answers redis-cli ${call[*]}, so that nothing can be told: $heard"
    got=$(client "${call[@]}" ping) && true
    [[ $got = *"Connection refused"* ]] || fail "a pod's redis-cli ${call[*]} gets \"$got\", not a refusal"
    got=$(docker exec "$cluster-worker2" bash -c "< /dev/tcp/${call[1]}/${call[3]}" 2>&1) && fail "a node reaches ${call[*]}"
    [[ $got = *"Connection refused"* ]] || fail "a node that calls ${call[*]} gets \"$got\", not a refusal"
  done
  echo "ok    neither a pod nor a node reaches this machine or what is beyond"
fi

docker stop -t 1 "$cluster-worker" > /dev/null
kubectl wait --for=condition=Ready=Unknown "node/$cluster-worker" --timeout=120s > /dev/null || fail "nobody noticed that a worker was stopped"
"$root/k8s/kind/start-node.sh" "$cluster-worker"
since=$SECONDS
kubectl wait --for=condition=Ready "node/$cluster-worker" --timeout=120s > /dev/null || fail "the worker did not come back"
answers ticket-7 get coat
echo "ok    a worker that was stopped serves again, with its volumes, $((SECONDS - since)) s after its start"
