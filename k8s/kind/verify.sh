#!/usr/bin/env bash
# Fails unless the scripts pass shellcheck and the go.mod files have the versions of versions.env.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
cd "$root/k8s"
shellcheck -x -P SCRIPTDIR -- *.sh kind/*.sh kind/source/*.sh kind/source/pod-routes ../helm/test/*.sh ../.ci/engine.sh ../.ci/run

wrong=0
has() { # MODULE-FOLDER MODULE VERSION
  local version
  version=$(go -C "$1" list -m -f '{{.Version}}' "$2")
  [[ $version = "$3" ]] || { echo "k8s/$1/go.mod has $2 $version, versions.env has $3" >&2; wrong=1; }
}
has tools sigs.k8s.io/kind "$KIND"
has tools helm.sh/helm/v4 "$HELM"
has tools helm.sh/helm/v3 "$HELM3"
has tools/kube-score github.com/zegl/kube-score "$KUBE_SCORE"
has tools/cert-manager github.com/cert-manager/cert-manager "$CERT_MANAGER"
has kind/source k8s.io/kubernetes "$KUBERNETES"
has kind/source go.etcd.io/etcd/server/v3 "$ETCD"
grep -q "\"$NODE_IMAGE\"" "$(go -C tools list -m -f '{{.Dir}}' sigs.k8s.io/kind)/pkg/apis/config/defaults/image.go" ||
  { echo "NODE_IMAGE in versions.env is not the one that kind $KIND was released with" >&2; wrong=1; }
exit $wrong
