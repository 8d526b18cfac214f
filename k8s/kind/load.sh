#!/usr/bin/env bash
# Builds the shop's images and loads them into the cluster, and a Redis as coatcheck/redis:kind: the official one, or
# Debian's where nothing can be pulled.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
images=()
while read -r image; do images+=("$image"); done < <(REGISTRY='' TAG='' "$root/k8s/kind/images.sh")
[[ ${#images[@]} = 4 ]] || exit 1 # which said why
redis=$cluster/redis:kind
if [[ $(way) = pull ]]; then
  # Not a mere new name: an image of many platforms, as pulled, can't be loaded into kind by every engine.
  printf 'FROM %s\nLABEL org.opencontainers.image.base.name="%s"\n' "$REDIS_IMAGE" "$REDIS_IMAGE" | build -t "$redis" -
else
  "$root/k8s/kind/source/debian-image.sh" "$redis" redis-server redis-server redis-cli
fi
kind load -q docker-image --name "$cluster" "${images[@]}" "$redis"
printf '%s\n' "${images[@]}" "$redis"
