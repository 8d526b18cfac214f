#!/usr/bin/env bash
# images.sh [TAG]   builds gateway, auth, cart and trial as coatcheck/NAME:TAG and loads them into the cluster, with its
# Redis and Prometheus as coatcheck/redis:kind and coatcheck/prometheus:kind. TAG is the chart's appVersion if not given.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
tag=${1:-$(sed -n 's/^appVersion: *"\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$root/helm/coatcheck/Chart.yaml")}
[[ -n $tag ]] || { echo "no tag: images.sh TAG, or an appVersion in helm/coatcheck/Chart.yaml" >&2; exit 1; }
# Without the plug-in Docker's client has only the builder of old.
docker buildx version > /dev/null 2>&1 || export DOCKER_BUILDKIT=0

services=(gateway auth cart trial) images=()
binaries=$root/.run/kind/images
"$root/k8s/kind/build.sh" "$binaries" "${services[@]}"
revision=$(git -C "$root" describe --always --dirty --abbrev=40 --exclude '*')
for service in "${services[@]}"; do
  build -t "$cluster/$service:$tag" --build-arg SERVICE="$service" --build-arg VERSION="$tag" \
    --build-arg REVISION="$revision" -f "$root/services/Dockerfile" "$binaries"
  images+=("$cluster/$service:$tag")
done

# What the official images are here, under a name that claims no version.
other() { # NAME OFFICIAL DEBIAN-PACKAGE PROGRAM...
  local image=$cluster/$1:kind official=$2
  shift 2
  if [[ $(way) = pull ]]; then
    # Not a mere new name: an image of many platforms, as pulled, can't be loaded into kind by every engine.
    printf 'FROM %s\nLABEL org.opencontainers.image.base.name="%s"\n' "$official" "$official" | build -t "$image" -
  else
    docker image inspect "$image" > /dev/null 2>&1 || "$root/k8s/kind/source/debian-image.sh" "$image" "$@"
  fi
  images+=("$image")
}
other redis "$REDIS_IMAGE" redis-server redis-server redis-cli
other prometheus "$PROMETHEUS_IMAGE" prometheus prometheus promtool

kind load -q docker-image --name "$cluster" "${images[@]}"
printf '%s\n' "${images[@]}"
