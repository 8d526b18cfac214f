#!/usr/bin/env bash
# Installs the shop on the kind cluster, in namespace coatcheck, or upgrades it; the images are there (load.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."
source k8s/kind/settings.sh
namespace=coatcheck

kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - > /dev/null
kubectl label --overwrite namespace "$namespace" pod-security.kubernetes.io/enforce=restricted > /dev/null
helm -n "$namespace" upgrade --install coatcheck helm/coatcheck -f helm/coatcheck/ci/kind-values.yaml --wait --timeout 5m > /dev/null
# A Deployment beside an autoscaler starts with one pod, which the autoscaler then finds too few.
for part in gateway auth cart; do
  kubectl -n "$namespace" wait --for=jsonpath='{.status.readyReplicas}'=3 "deployment/coatcheck-$part" --timeout=3m > /dev/null
done
echo "the shop is on http://127.0.0.1:$http_port; its pods: kubectl --kubeconfig .run/kind/kubeconfig -n $namespace get pods"
