#!/usr/bin/env bash
# Builds the shop's images and loads them into the cluster, and a Redis and a Prometheus as coatcheck/redis:kind and
# coatcheck/prometheus:kind: the official ones, or Debian's where nothing can be pulled.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
images=()
while read -r image; do images+=("$image"); done < <(REGISTRY='' TAG='' "$root/k8s/kind/images.sh")
[[ ${#images[@]} = 4 ]] || exit 1 # which said why
redis=$cluster/redis:kind prometheus=$cluster/prometheus:kind
# Not a mere new name: an image of many platforms, as pulled, can't be loaded into kind by every engine.
pull() { printf 'FROM %s\nLABEL org.opencontainers.image.base.name="%s"\n' "$2" "$2" | build -t "$1" -; }
if [[ $(way) = pull ]]; then
  pull "$redis" "$REDIS_IMAGE"
  pull "$prometheus" "$PROMETHEUS_IMAGE"
else
  "$root/k8s/kind/source/debian-image.sh" "$redis" redis-server redis-server redis-cli
  "$root/k8s/kind/source/debian-image.sh" "$prometheus" prometheus prometheus promtool
fi
kind load -q docker-image --name "$cluster" "${images[@]}" "$redis" "$prometheus"
printf '%s\n' "${images[@]}" "$redis" "$prometheus"
