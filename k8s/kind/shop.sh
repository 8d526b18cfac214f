#!/usr/bin/env bash
# Installs the shop on the kind cluster, in namespace coatcheck, or upgrades it; the images are there (load.sh).
#   GRAFANA=1   with a Grafana, whose image the cluster pulls
set -euo pipefail
cd "$(dirname "$0")/../.."
source k8s/kind/settings.sh
namespace=coatcheck
values=(-f helm/coatcheck/ci/kind-values.yaml)
if [[ -n ${GRAFANA:-} ]]; then
  [[ $(way) = pull ]] || { echo "Grafana's image is pulled by the cluster, and this one reaches no registry" >&2; exit 1; }
  values+=(--set grafana.enabled=true)
fi
# Images keep their names when they are built anew, and pods that run would keep the old ones.
for part in gateway auth cart; do
  id=$(docker inspect -f '{{.Id}}' "coatcheck/$part:$(app_version)")
  values+=(--set-string "$part.podAnnotations.image=$id")
done

kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - > /dev/null
kubectl label --overwrite namespace "$namespace" pod-security.kubernetes.io/enforce=restricted > /dev/null
# A trial that was ended by force has left the autoscalers held, in its own name.
helm -n "$namespace" upgrade --install --force-conflicts coatcheck helm/coatcheck "${values[@]}" --wait --timeout 5m > /dev/null
# A Deployment beside an autoscaler starts with one pod, which the autoscaler then finds too few.
for part in gateway auth cart; do
  kubectl -n "$namespace" wait --for=jsonpath='{.status.readyReplicas}'=3 "deployment/coatcheck-$part" --timeout=3m > /dev/null
done
echo "the shop is on http://127.0.0.1:$http_port; its pods: kubectl --kubeconfig .run/kind/kubeconfig -n $namespace get pods"
watch() { echo "$1: kubectl --kubeconfig .run/kind/kubeconfig -n $namespace port-forward service/coatcheck-$1 $2"; }
watch prometheus 9090
[[ -z ${GRAFANA:-} ]] || watch grafana 3000
