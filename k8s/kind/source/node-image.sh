#!/usr/bin/env bash
# The node image with all system images inside, from Debian packages and what binaries.sh made. Prints its name. 2 minutes, or nothing.
set -euo pipefail
source "$(dirname "$0")/../settings.sh"
cd "$root/k8s/kind/source"
export DOCKER_BUILDKIT=0
bin=$cache/bin
node=$cluster/node:$KUBERNETES-$(cat "$bin/.made-of" rootfs.sh node-image.sh node.Dockerfile pod-routes pod-routes.service | sha256sum | cut -c1-12)
! docker image inspect "$node" > /dev/null 2>&1 || { echo "$node" && exit 0; }

rootfs=$(./rootfs.sh)
dir=$(mktemp -d "$cache/node.XXXXXX")
trap 'rm -rf "$dir"; docker rm -f "$cluster-node-build" > /dev/null 2>&1 || true' EXIT
docker run --rm "$rootfs" cat /usr/bin/catatonit > "$dir/catatonit"
docker run --rm "$rootfs" cat /bin/busybox > "$dir/busybox"
chmod +x "$dir/catatonit" "$dir/busybox"

system=()
image() { # NAME BASE FILE LINE...
  local name=$1 base=$2 file=$3 context
  shift 3
  context=$(mktemp -d "$dir/image.XXXXXX")
  cp "$file" "$context/"
  printf '%s\n' "FROM $base" "COPY $(basename "$file") /usr/local/bin/" "$@" > "$context/Dockerfile"
  build -t "$name" "$context"
  system+=("$name")
}
program() { image "$1" "$2" "$3" "ENTRYPOINT [\"/usr/local/bin/$(basename "$3")\"]"; }

# The tags that this release of kubeadm and kind's containerd settings ask for.
kubeadm() { "$bin/kubeadm" config images list --kubernetes-version "$KUBERNETES" | grep "/$1:"; }
for component in kube-apiserver kube-controller-manager kube-scheduler etcd coredns; do
  program "$(kubeadm "$component")" scratch "$bin/$component"
done
program "$(kubeadm kube-proxy)" "$rootfs" "$bin/kube-proxy"

kind=$(go -C "$root/k8s/tools" mod download -json sigs.k8s.io/kind | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
files=$kind/images/base/files
pause=$(sed -n 's/.*sandbox_image = "\(.*\)"/\1/p' "$files/etc/containerd/config.toml")
image "$pause" scratch "$dir/catatonit" 'ENTRYPOINT ["/usr/local/bin/catatonit", "-P"]'

program "registry.k8s.io/metrics-server/metrics-server:$METRICS_SERVER" scratch "$bin/metrics-server"
helper=docker.io/$cluster/local-path-helper:$DEBIAN provisioner=docker.io/$cluster/local-path-provisioner:$LOCAL_PATH_PROVISIONER
image "$helper" scratch "$dir/busybox" 'RUN ["/usr/local/bin/busybox", "mkdir", "/bin"]' 'RUN ["/usr/local/bin/busybox", "--install", "/bin"]'
program "$provisioner" "$helper" "$bin/local-path-provisioner"

mkdir -p "$dir/node/bin"
cp -r "$files" "$dir/node/files"
chmod -R u+w "$dir/node/files"
cp "$bin"/{kubelet,kubeadm,kubectl} "$dir/node/bin/"
cp pod-routes pod-routes.service "$dir/node/"
chmod +x "$dir/node/pod-routes"
build -t "$cluster/node-base" --build-arg ROOTFS="$rootfs" --build-arg KUBERNETES="$KUBERNETES" -f node.Dockerfile "$dir/node"

# The system images and the storage manifest go in as kind's own build of a node does it.
docker rm -f "$cluster-node-build" > /dev/null 2>&1 || true
docker run -d --name "$cluster-node-build" --privileged --entrypoint sleep "$cluster/node-base" infinity > /dev/null
inside() { docker exec -i "$cluster-node-build" "$@"; }
docker exec -d "$cluster-node-build" containerd
for _ in {1..60}; do
  inside ctr version > /dev/null 2>&1 && break
  sleep 1
done
inside ctr version > /dev/null
docker save "${system[@]}" | inside ctr -n k8s.io images import --no-unpack --digests - > /dev/null
sed -e '1,/^const defaultStorageManifest = `/d' -e '/^`$/d' \
  -e "s#\` + storageProvisionerImage + \`#$provisioner#; s#\` + storageHelperImage + \`#$helper#" \
  "$kind/pkg/build/nodeimage/const_storage.go" | inside sh -c 'cat > /kind/manifests/default-storage.yaml'
inside pkill containerd
sleep 1
docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' "$cluster-node-build" "$node" > /dev/null
echo "$node"
