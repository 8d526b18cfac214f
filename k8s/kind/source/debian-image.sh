#!/usr/bin/env bash
# debian-image.sh TAG PACKAGE PROGRAM...   an image of these programs of a Debian package, where the official one can't be pulled.
set -euo pipefail
source "$(dirname "$0")/../settings.sh"
tag=$1 package=$2
shift 2
rootfs=$("$root/k8s/kind/source/rootfs.sh")
export DOCKER_BUILDKIT=0
build --network host -t "$tag" --build-arg ROOTFS="$rootfs" --build-arg PACKAGE="$package" \
  --build-arg PROGRAMS="$*" - < "$root/k8s/kind/source/debian.Dockerfile"
