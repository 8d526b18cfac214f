#!/usr/bin/env bash
# images.sh   builds gateway, auth, cart and trial as [REGISTRY/]coatcheck/NAME:TAG and prints their names.
#   REGISTRY=registry.example.org   TAG=… (the chart's appVersion)
set -euo pipefail
source "$(dirname "$0")/settings.sh"
tag=${TAG:-$(app_version)}
[[ -n $tag ]] || { echo "no tag: TAG=…, or an appVersion in helm/coatcheck/Chart.yaml" >&2; exit 1; }

binaries=$root/.run/kind/images
services=(gateway auth cart trial)
"$root/k8s/kind/build.sh" "$binaries" "${services[@]}"
revision=$(git -C "$root" describe --always --dirty --abbrev=40 --exclude '*')
for service in "${services[@]}"; do
  image=${REGISTRY:+$REGISTRY/}coatcheck/$service:$tag
  build -t "$image" --build-arg SERVICE="$service" --build-arg VERSION="$tag" --build-arg REVISION="$revision" \
    -f "$root/services/Dockerfile" "$binaries"
  echo "$image"
done
