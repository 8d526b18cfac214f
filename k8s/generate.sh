#!/usr/bin/env bash
# Makes base/coatcheck.yaml, install.yaml and overlays/kind/prometheus.yaml from the chart, here or in the folder that is named. Neither carries a
# secret: secrets.sh makes them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
into=${1:-$here}
export PATH=$here/../.bin:$PATH

# Who applies these is not Helm, so its labels would be wrong; and a test pod would start at once.
render() {
  helm template coatcheck "$here/../helm/coatcheck" --namespace coatcheck --skip-tests \
    --set auth.existingSecret=coatcheck-auth,redis.existingSecret=coatcheck-redis,tests.enabled=false "$@" |
    sed -e '/^ *app.kubernetes.io\/managed-by: Helm$/d' -e '/^ *helm.sh\/chart: /d'
}

# What each service may do in Redis, it says itself.
[[ $into != "$here" ]] || {
  cp "$here/../services/auth/redis.acl" "$here/../helm/coatcheck/acl/auth.acl"
  cp "$here/../services/cart/redisstore/redis.acl" "$here/../helm/coatcheck/acl/cart.acl"
}
mkdir -p "$into/base" "$into/overlays/kind"
{
  echo "# Made by generate.sh from helm/coatcheck. Change that."
  render --set publicURL=https://shop.example.org
} > "$into/base/coatcheck.yaml"
{
  echo "# Made by generate.sh from helm/coatcheck. The shop over plain HTTP, to be tried; README.md says how."
  cat "$here/base/namespace.yaml"
  render --set plainHTTP=true,gateway.storefront=true
} > "$into/install.yaml"
{
  echo "# Made by generate.sh from helm/coatcheck. Change that."
  render --set plainHTTP=true,prometheus.enabled=true,prometheus.interval=10s,prometheus.resources.limits.memory=1Gi --show-only templates/prometheus.yaml
} > "$into/overlays/kind/prometheus.yaml"
