#!/usr/bin/env bash
# manifests.sh   what k8s/README.md says, on the kind cluster of make kind-up with the images of make kind-load: the secrets,
# install.yaml, and overlays/kind in its place. Each shop must keep every promise. It needs node port 30080 and the
# namespace coatcheck, which it deletes in the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=../../k8s/kind/settings.sh
source k8s/kind/settings.sh
namespace=coatcheck forwarded=18080

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
fail() { say "FAIL: $*" >&2; exit 1; }
k() { kubectl -n "$namespace" "$@"; }
[[ -z $(kubectl get namespace "$namespace" --ignore-not-found -o name) ]] || fail "the namespace $namespace is there already"
cleanup() {
  status=$?
  if [[ -n ${forward:-} ]]; then kill "$forward" 2> /dev/null || true; fi
  if [[ $status != 0 ]]; then
    k get pods -o wide || true
    k get events --sort-by=.lastTimestamp | tail -20 || true
  fi >&2
  kubectl delete namespace "$namespace" --ignore-not-found > /dev/null
}
trap cleanup EXIT
keeps() { # WHAT URL: the shop is whole, and keeps its promises
  k rollout status statefulset/coatcheck-redis --timeout=3m > /dev/null
  for part in gateway auth cart; do
    k rollout status "deployment/coatcheck-$part" --timeout=3m > /dev/null
    k wait --for=jsonpath='{.status.readyReplicas}'=3 "deployment/coatcheck-$part" --timeout=2m > /dev/null
  done
  for _ in {1..50}; do curl -sf "$2/readyz" > /dev/null && break; sleep 0.2; done
  kept=$(.bin/trial promise -target "$2") || fail "$1: $kept"
  say "$1: $(grep -c '^kept' <<< "$kept") promises kept"
}

kubectl apply --server-side -f k8s/base/namespace.yaml > /dev/null
k8s/secrets.sh | kubectl create -f - > /dev/null
! k8s/secrets.sh | kubectl create -f - > /dev/null 2>&1 || fail "secrets that are there are drawn anew"
# The official Redis, or what stands in for it.
sed 's#docker.io/library/redis:.*#coatcheck/redis:kind#' k8s/install.yaml | kubectl apply --server-side -f - > /dev/null
k wait --for=jsonpath='{.status.readyReplicas}' deployment/coatcheck-gateway --timeout=3m > /dev/null
k port-forward service/coatcheck-gateway "$forwarded:80" > /dev/null &
forward=$!
keeps "kubectl apply -f k8s/install.yaml" "http://127.0.0.1:$forwarded"

kubectl apply --server-side -k k8s/overlays/kind > /dev/null
keeps "kubectl apply -k k8s/overlays/kind" "http://127.0.0.1:$http_port"
