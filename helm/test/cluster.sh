#!/usr/bin/env bash
# cluster.sh [helm|helm3]   the chart on the kind cluster of make kind-up, with the images of make kind-load: every shape as
# the API server sees it, then one shop: install, helm test, an upgrade that changes nothing, a roll-out to other images and
# back under traffic, uninstall. It needs node port 30080, and a namespace that is its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=../../k8s/kind/settings.sh
source k8s/kind/settings.sh
helm=${1:-helm} namespace=chart-test chart=helm/coatcheck
target=http://127.0.0.1:$http_port
logs=.run/kind/chart-test

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
fail() { say "FAIL: $*" >&2; exit 1; }
k() { kubectl -n "$namespace" "$@"; }
upgrade() { "$helm" -n "$namespace" upgrade shop "$chart" -f "$chart/ci/kind-values.yaml" --wait --timeout 5m "$@" > /dev/null; }
# All that is in the namespace, but what Kubernetes puts into each, and what it derives from the rest.
objects() {
  local kinds
  kinds=$(kubectl api-resources --verbs=list,delete --namespaced -o name | grep -vE '^(events|endpoints|endpointslices|leases|controllerrevisions)' | paste -sd,)
  k get "$kinds" -o name | grep -v -e '^configmap/kube-root-ca.crt$' -e '^serviceaccount/default$' || true
}
# What an upgrade must not change by itself.
secrets() { k get secrets -l app.kubernetes.io/instance=shop -o jsonpath='{.items[*].data}'; }
# Of the Deployments in the order of their names, auth first.
generations() { k get deployments,statefulsets -o jsonpath='{.items[*].metadata.generation}'; }

# The fault under traffic: to other images and back. The trial calls this script for it.
if [[ ${1:-} = roll ]]; then
  helm=$2
  upgrade --set image.tag=again
  images=$(k get pods -l 'app.kubernetes.io/component in (gateway, auth, cart)' --field-selector=status.phase=Running -o jsonpath='{.items[*].spec.containers[*].image}')
  [[ $(tr ' ' '\n' <<< "$images" | grep -c ':again$') -ge 9 ]] || fail "the roll-out left $images"
  "$helm" -n "$namespace" rollback shop --wait --timeout 5m > /dev/null
  # Helm waits for the new pods; it is over when the old ones have drained.
  while [[ -n $(k get pods -o jsonpath='{.items[?(@.metadata.deletionTimestamp)].metadata.name}') ]]; do sleep 1; done
  echo "rolled out to other images and back"
  exit
fi

cleanup() {
  status=$?
  if [[ $status != 0 ]]; then
    k get pods -o wide || true
    k get events --sort-by=.lastTimestamp | tail -20 || true
    k logs --prefix --tail=20 -l app.kubernetes.io/instance=shop || true
  fi >&2
  kubectl delete namespace "$namespace" --ignore-not-found --wait=false > /dev/null
}
mkdir -p "$logs"
kubectl delete namespace "$namespace" --ignore-not-found > /dev/null
trap cleanup EXIT
kubectl create namespace "$namespace" > /dev/null
kubectl label namespace "$namespace" pod-security.kubernetes.io/{enforce,warn}=restricted > /dev/null

accepted() { # NAME, manifests on standard input
  k apply --server-side --dry-run=server -f - > /dev/null 2> "$logs/complaints" || fail "$1: $(cat "$logs/complaints")"
  [[ ! -s $logs/complaints ]] || fail "$1: $(cat "$logs/complaints")"
}
# Kinds of other projects are left to the tests that decode them: this cluster does not know them.
for values in "$chart"/ci/*-values.yaml; do
  "$helm" template shop "$chart" -n "$namespace" -f "$values" --kube-version "${KUBERNETES#v}" \
    --set httpRoute.enabled=false,metrics.serviceMonitor.enabled=false,metrics.prometheusRule.enabled=false | accepted "$values"
done
for overlay in base overlays/kind overlays/production; do
  kubectl kustomize "k8s/$overlay" | sed "s/^  namespace: coatcheck$/  namespace: $namespace/; s/^  name: coatcheck$/  name: $namespace/" | accepted "k8s/$overlay"
done
say "the API server takes every shape and warns of none"

"$helm" -n "$namespace" install shop "$chart" -f "$chart/ci/kind-values.yaml" --wait --timeout 5m > "$logs/notes"
# A Deployment beside an autoscaler starts with one pod, which the autoscaler then finds too few.
for part in gateway auth cart; do
  k wait --for=jsonpath='{.status.readyReplicas}'=3 "deployment/shop-coatcheck-$part" --timeout=2m > /dev/null
done
say "installed: $(k get pods --no-headers | wc -l) pods"
"$helm" -n "$namespace" test shop > "$logs/tests" || fail "helm test: $(cat "$logs/tests")"
say "helm test: $(grep -c 'Phase: *Succeeded' "$logs/tests") promises kept"

drawn=$(secrets) pods=$(generations)
upgrade
[[ $drawn = "$(secrets)" && $pods = "$(generations)" ]] || fail "an upgrade to the same changes secrets or pods"
say "an upgrade to the same changes nothing"

# The way to change the signing key: the new one before the old one. Only who reads it may start anew.
key=$( { openssl genpkey -algorithm ed25519; k get secret shop-coatcheck-auth -o jsonpath='{.data.signing-keys\.pem}' | base64 -d; } | base64 -w 0)
k patch secret shop-coatcheck-auth -p "{\"data\": {\"signing-keys.pem\": \"$key\"}}" > /dev/null
upgrade
[[ ${pods#* } = "$(generations | cut -d' ' -f2-)" && ${pods%% *} != "$(generations | cut -d' ' -f1)" ]] || fail "another signing key must roll auth and nothing else"
keys=$(curl -sf "$target/.well-known/jwks.json" | grep -o '"kid"' | wc -l)
[[ $keys = 2 ]] || fail "$keys signing keys are known, want the old one and the new one"
drawn=$(secrets)
say "another signing key rolls auth alone"

TAG=again k8s/kind/images.sh > /dev/null # others: their version is a label of theirs
kind load docker-image --name "$cluster" coatcheck/{gateway,auth,cart}:again 2> "$logs/load" || fail "$(cat "$logs/load")"
# A gateway that ends breaks the connections that idle meanwhile: an attempt may fail, a request may not.
.bin/trial run -target "$target" -rate 40 -length 100s -dir "$logs/trial" -fault-class gateway -fault-command "helm/test/cluster.sh roll $helm" > "$logs/traffic" 2>&1 ||
  fail "traffic: $(tail -30 "$logs/traffic")"
[[ $drawn = "$(secrets)" ]] || fail "the roll-outs change secrets"
say "rolled out and back under traffic: $(tail -1 "$logs/traffic")"

"$helm" -n "$namespace" uninstall shop --wait > /dev/null
for _ in {1..60}; do
  left=$(objects)
  [[ $left != *pod/* ]] && break
  sleep 1
done
[[ $left = persistentvolumeclaim/data-shop-coatcheck-redis-0 ]] || fail "uninstall leaves $left"
say "uninstall leaves nothing but the volume"
