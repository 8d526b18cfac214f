#!/usr/bin/env bash
# build.sh DIR SERVICE...   static binaries for the engine's machine, each the same for the same commit and version of Go.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$(mkdir -p "$1" && cd "$1" && pwd)
shift
# The Docker engine may be of another kind than this machine, as on a Mac.
GOARCH=${GOARCH:-$(docker version -f '{{.Server.Arch}}')}
export GOARCH GOOS=linux CGO_ENABLED=0 GOWORK=off GOFLAGS=
for service; do
  go -C "services/$service" build -trimpath -buildvcs=true -o "$dir/$service" "./cmd/$service"
done
