#!/usr/bin/env bash
# cluster.sh [helm|helm3]   the chart on the kind cluster of make kind-up, with the images of make kind-load: every shape as
# the API server sees it, then one shop: install, helm test, an upgrade that changes nothing, a roll-out to other images and
# back under traffic, other keys by the CronJob, TLS between all parts with given certificates and with those of
# cert-manager, uninstall, and an install on a Redis that was there before. It needs node port 30080, a namespace that is its
# own, and a cluster without cert-manager.
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
# Until the last pod that ends is gone.
settled() {
  local ending
  for _ in {1..120}; do
    ending=$(k get pods -o jsonpath='{.items[?(@.metadata.deletionTimestamp)].metadata.name}')
    [[ -n $ending ]] || return 0
    sleep 1
  done
  fail "two minutes later these pods still end: $ending"
}
# What an upgrade must not change by itself.
secrets() { k get secrets -l app.kubernetes.io/instance=shop -o jsonpath='{.items[*].data}'; }
generations() { k get deployments,statefulsets -o jsonpath='{.items[*].metadata.generation}'; }
# The same of pods alone: an autoscaler at work changes a generation too.
revisions() { k get deployments,statefulsets -o jsonpath='{range .items[*]}{.metadata.annotations.deployment\.kubernetes\.io/revision}{.status.updateRevision} {end}'; }

# The fault under traffic: to other images and back. The trial calls this script for it.
if [[ ${1:-} = roll ]]; then
  helm=$2
  upgrade --set image.tag=again
  images=$(k get pods -l 'app.kubernetes.io/component in (gateway, auth, cart)' --field-selector=status.phase=Running -o jsonpath='{.items[*].spec.containers[*].image}')
  [[ $(tr ' ' '\n' <<< "$images" | grep -c ':again$') -ge 9 ]] || fail "the roll-out left $images"
  "$helm" -n "$namespace" rollback shop --wait --timeout 5m > /dev/null
  # Helm waits for the new pods; it is over when the old ones have drained.
  settled
  echo "rolled out to other images and back"
  exit
fi

# cert-manager's kinds, as its module has them for its own chart.
issuing_kinds() {
  local crds crd
  crds=$(go -C k8s/tools/cert-manager list -m -f '{{.Dir}}/deploy/crds' github.com/cert-manager/cert-manager)
  for crd in "$crds"/crd-*.yaml; do
    echo ---
    sed '/{{/d' "$crd"
  done
}
cleanup() {
  status=$?
  for job in ${forward:-} ${manager:-} ${others:-}; do kill "$job" 2> /dev/null || true; done
  if [[ $status != 0 ]]; then
    k get pods -o wide || true
    k get events --sort-by=.lastTimestamp | tail -20 || true
    k logs --prefix --tail=20 -l app.kubernetes.io/instance=shop || true
  fi >&2
  kubectl delete namespace "$namespace" --ignore-not-found --wait=false > /dev/null
  if [[ -n ${manager:-} ]]; then issuing_kinds | kubectl delete --ignore-not-found -f - > /dev/null; fi
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
own_kinds() { awk 'BEGIN { RS = ORS = "---\n" } !/\nkind: (HTTPRoute|ServiceMonitor|PrometheusRule|Certificate)\n/'; }
for values in "$chart"/ci/*-values.yaml; do
  "$helm" template shop "$chart" -n "$namespace" -f "$values" --kube-version "${KUBERNETES#v}" | own_kinds | accepted "$values"
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
keeps() { # WHEN: every promise is tried, and kept
  local want kept
  want=$(grep 'range .promise' "$chart/templates/tests/promises.yaml" | grep -o '"' | wc -l)
  "$helm" -n "$namespace" test shop > "$logs/tests" || fail "helm test $1: $(cat "$logs/tests")"
  kept=$(grep -c 'Phase: *Succeeded' "$logs/tests")
  ((kept > 0 && 2 * kept == want)) || fail "helm test $1 tries $kept promises of $((want / 2))"
  say "helm test $1: $kept promises kept"
}
keeps "after the install"

# The chart's Prometheus finds every pod, and has the rules.
k port-forward service/shop-coatcheck-prometheus 19090:9090 > /dev/null &
forward=$!
asked() { curl -s http://127.0.0.1:19090/api/v1/"$1"; }
for _ in {1..60}; do
  [[ $(asked 'query?query=count(up==1)') != *'"9"'* ]] || break
  sleep 1
done
[[ $(asked 'query?query=count(up==1)') = *'"9"'* ]] || fail "Prometheus scrapes $(asked 'query?query=up')"
[[ $(asked rules | grep -o '"type":"alerting"' | wc -l) = $(cat "$chart"/rules/*.yaml | grep -c '^ *- alert:') ]] || fail "Prometheus has the rules $(asked rules)"
kill "$forward"
forward=
say "its Prometheus scrapes nine pods, and has every alert"

drawn=$(secrets) pods=$(generations)
upgrade
[[ $drawn = "$(secrets)" && $pods = "$(generations)" ]] || fail "an upgrade to the same changes secrets or pods"
say "an upgrade to the same changes nothing"

# By hand: the new key behind the old one. auth takes it up by itself, and nobody starts anew.
keys() { curl -sf "$target/.well-known/jwks.json" | grep -o '"kid":"[0-9a-f]*"' | cut -d'"' -f4; }
known() { # NUMBER of keys that there must be, in two minutes: a kubelet brings a changed Secret within one or so
  for _ in {1..120}; do
    [[ $(keys | wc -l) = "$1" ]] && return
    sleep 1
  done
  fail "$(keys | wc -l) signing keys are known, want $1"
}
pods=$(revisions)
key=$( { k get secret shop-coatcheck-auth -o jsonpath='{.data.signing-keys\.pem}' | base64 -d; openssl genpkey -algorithm ed25519; } | base64 -w 0)
k patch secret shop-coatcheck-auth -p "{\"data\": {\"signing-keys.pem\": \"$key\"}}" > /dev/null
upgrade
# While the kubelets take their time: other images, whose version is a label of theirs.
{ TAG=again k8s/kind/images.sh > /dev/null && kind load docker-image --name "$cluster" coatcheck/{gateway,auth,cart}:again; } 2> "$logs/load" &
others=$!
known 2
[[ $pods = "$(revisions)" ]] || fail "another signing key must roll nobody"
drawn=$(secrets)
say "another signing key is taken without a restart"

wait "$others" || fail "no other images: $(cat "$logs/load")"
others=
# A gateway that ends breaks the connections that idle meanwhile: an attempt may fail, a request may not.
.bin/trial run -target "$target" -rate 40 -length 100s -dir "$logs/trial" -fault-class gateway -fault-command "helm/test/cluster.sh roll $helm" > "$logs/traffic" 2>&1 ||
  fail "traffic: $(tail -30 "$logs/traffic")"
[[ $drawn = "$(secrets)" ]] || fail "the roll-outs change secrets"
say "rolled out and back under traffic: $(tail -1 "$logs/traffic")"

# By the CronJob, in a Secret that is not the release's.
k get secret shop-coatcheck-auth -o jsonpath='{.data.signing-keys\.pem}' | base64 -d > "$logs/keys.pem"
k create secret generic shop-keys --from-file=signing-keys.pem="$logs/keys.pem" > /dev/null
rm "$logs/keys.pem"
rotation=(--set "auth.existingSecret=shop-keys,keyRotation.enabled=true,keyRotation.leadMinutes=3")
upgrade "${rotation[@]}"
may() { kubectl auth can-i -n "$namespace" --as="system:serviceaccount:$namespace:shop-coatcheck-$1" "${@:2}" 2> /dev/null || true; }
[[ $(may key-rotation patch secret/shop-keys) = yes && $(may key-rotation get secret/shop-coatcheck-redis) = no && $(may key-rotation list secrets) = no &&
  $(may auth get secret/shop-keys) = no ]] || fail "rights are others than those on the one Secret"
pods=$(revisions) signing=$(keys | head -1)
for run in one two; do
  k create job "rotate-$run" --from=cronjob/shop-coatcheck-key-rotation > /dev/null
  k wait --for=condition=complete "job/rotate-$run" --timeout=3m > /dev/null || fail "the job does not end: $(k logs "job/rotate-$run")"
  first=${second:-} second=$(k logs "job/rotate-$run") # the CronJob keeps one job
done
rotated=$(date +%s)
[[ $second = "Nothing to do"* ]] || fail "a second rotation says $second"
known 3
[[ $(keys | head -1) = "$signing" ]] || fail "the new key signs before all know it"
while [[ $(keys | head -1) = "$signing" ]]; do
  (($(date +%s) - rotated < 210)) || fail "the new key does not sign: $first"
  sleep 1
done
keeps "after a rotation"
[[ $pods = "$(revisions)" ]] || fail "a rotation must roll nobody"
say "keys rotated by the CronJob: $first"

# TLS with certificates of an authority of the test's.
tls=$logs/tls
rm -rf "$tls" && mkdir -p "$tls"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=test -keyout "$tls/ca.key" -out "$tls/ca.crt" 2> "$tls/log"
for part in gateway auth cart redis; do
  name=shop-coatcheck-$part
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$part" -keyout "$tls/$part.key" -out "$tls/$part.csr" 2>> "$tls/log"
  openssl x509 -req -days 1 -in "$tls/$part.csr" -CA "$tls/ca.crt" -CAkey "$tls/ca.key" -CAcreateserial -out "$tls/$part.crt" 2>> "$tls/log" \
    -extfile <(echo "subjectAltName=DNS:$name.$namespace.svc,DNS:$name-pods,DNS:$name"; echo "extendedKeyUsage=serverAuth,clientAuth")
  k create secret generic "tls-$part" --from-file=tls.crt="$tls/$part.crt" --from-file=tls.key="$tls/$part.key" --from-file=ca.crt="$tls/ca.crt" > /dev/null
done
k create secret tls authority --cert="$tls/ca.crt" --key="$tls/ca.key" > /dev/null
rm -rf "$tls"
over_tls() { # WHOSE certificates, the chart's values
  upgrade "${rotation[@]}" --set tls.enabled=true "${@:2}"
  settled
  keeps "over TLS with certificates $1"
}
given=()
for part in gateway auth cart redis; do given+=(--set "tls.existingSecrets.$part=tls-$part"); done
over_tls "that were given" "${given[@]}"

# cert-manager's controller runs beside the cluster, as another of its clients.
issuing_kinds | kubectl apply --server-side -f - > /dev/null
kubectl wait --for=condition=Established crd/{certificates,certificaterequests,issuers}.cert-manager.io --timeout=1m > /dev/null
.bin/cert-manager --kubeconfig "$KUBECONFIG" --namespace "$namespace" --leader-elect=false --metrics-listen-address 127.0.0.1:0 > "$logs/cert-manager" 2>&1 &
manager=$!
k apply -f - > /dev/null << 'ISSUER'
{apiVersion: cert-manager.io/v1, kind: Issuer, metadata: {name: authority}, spec: {ca: {secretName: authority}}}
ISSUER
over_tls "of cert-manager" --set tls.issuerRef.name=authority
for part in gateway auth cart redis; do
  k wait --for=condition=Ready "certificate/shop-coatcheck-$part" --timeout=10s > /dev/null || fail "no certificate of cert-manager for $part: $(tail "$logs/cert-manager")"
done

"$helm" -n "$namespace" uninstall shop --wait > /dev/null
k delete jobs --all > /dev/null
# cert-manager leaves what it has made, unless it was told otherwise.
k delete issuer authority > /dev/null
k delete secret shop-keys authority tls-{gateway,auth,cart,redis} shop-coatcheck-{gateway,auth,cart,redis}-tls > /dev/null
for _ in {1..60}; do
  left=$(objects)
  [[ $left != *pod/* ]] && break
  sleep 1
done
[[ $left = persistentvolumeclaim/data-shop-coatcheck-redis-0 ]] || fail "uninstall leaves $left"
say "uninstall leaves nothing but the volume"

# On a Redis that was there before, and wants a password.
k create secret generic own-redis --from-literal=password="$(openssl rand -hex 16)" > /dev/null
k apply -f - > /dev/null << 'REDIS'
apiVersion: v1
kind: Service
metadata: {name: own-redis}
spec: {selector: {app: own-redis}, ports: [{port: 6379}]}
---
apiVersion: v1
kind: Pod
metadata: {name: own-redis, labels: {app: own-redis}}
spec:
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: redis
    image: coatcheck/redis:kind
    command: [redis-server, --save, "", --requirepass, $(PASSWORD)]
    env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: own-redis, key: password}}}]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
REDIS
k wait --for=condition=Ready pod/own-redis --timeout=1m > /dev/null
"$helm" -n "$namespace" install shop "$chart" -f "$chart/ci/kind-values.yaml" --wait --timeout 5m \
  --set 'redis.enabled=false,redis.external.addrs={own-redis:6379},redis.external.existingSecret=own-redis,prometheus.enabled=false' > /dev/null
keeps "on a Redis of one's own"
password=$(k get secret own-redis -o jsonpath='{.data.password}' | base64 -d)
size=$(k exec -i own-redis -- redis-cli --no-auth-warning -a "$password" dbsize)
[[ $size =~ ^[1-9] && -z $(k get statefulsets -o name) ]] || fail "the shop keeps nothing in the Redis that it was given: $size"
"$helm" -n "$namespace" uninstall shop --wait > /dev/null # its node port is the next one's
