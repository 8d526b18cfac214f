#!/usr/bin/env bash
# Deletes the cluster with all its volumes. What was built stays in the cache.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
kind delete cluster --name "$cluster"
rm -rf "$KUBECONFIG" "$root/.run/kind/images" # what trials reported stays
if docker network inspect "$cluster" > /dev/null 2>&1; then "$root/k8s/kind/source/isolate.sh" off; fi
