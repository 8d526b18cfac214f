#!/usr/bin/env bash
# The image coatcheck/rootfs: Debian with what a node needs. The node, kube-proxy and the Debian images stand on it. 60 s.
set -euo pipefail
source "$(dirname "$0")/../settings.sh"
packages=systemd,dbus,conntrack,iptables,nftables,iproute2,ethtool,util-linux,mount,kmod,libseccomp2,pigz,ca-certificates,curl,jq,procps
packages+=,containerd,crun,containernetworking-plugins,ipset,ebtables,socat,catatonit,busybox-static
image=$cluster/rootfs:$DEBIAN-$(echo "$packages" | sha256sum | cut -c1-12)

if ! docker image inspect "$image" > /dev/null 2>&1; then
  mkdir -p "$cache"
  dir=$(mktemp -d "$cache/rootfs.XXXXXX")
  trap 'rm -rf "$dir"' EXIT
  debootstrap --variant=minbase --include="$packages" "$DEBIAN" "$dir" >&2
  tar -C "$dir" -c . | docker import - "$image" > /dev/null
fi
echo "$image"
