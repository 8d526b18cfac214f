#!/usr/bin/env bash
# Fails unless two clones of this commit in folders of different names give the same binaries, byte for byte.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
services=(gateway auth cart trial)
for clone in one another/place; do
  git clone -q . "$dir/$clone"
  "$dir/$clone/k8s/kind/build.sh" "$dir/$clone.out" "${services[@]}"
  (cd "$dir/$clone.out" && sha256sum "${services[@]}") > "$dir/$(basename "$clone").sums"
done
cat "$dir/one.sums"
diff "$dir/one.sums" "$dir/place.sums" || { echo "the same commit gave different binaries" >&2; exit 1; }
