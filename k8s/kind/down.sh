#!/usr/bin/env bash
# Deletes the cluster with all its volumes. What was built stays in the cache.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
way=$(KIND_IMAGES=pull way)
kind delete cluster --name "$cluster"
rm -rf "$root/.run/kind"
[[ $way = pull ]] || "$root/k8s/kind/source/isolate.sh" off
