#!/usr/bin/env bash
# Brings up the kind cluster "coatcheck": a control plane, two workers, volumes, metrics. Safe to call again.
#   KIND_IMAGES=pull|build   stock images, or all built here from Go modules and Debian packages; asks the registry if unset
#   KIND_CACHE=DIR           where the latter keeps what it built
#   KIND_HTTP_PORT=30080     127.0.0.1:… leads to node port 30080
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/settings.sh"

docker info > /dev/null 2>&1 || { echo "no Docker engine answers: start it, or install it, see docs.docker.com/get-docker" >&2; exit 1; }
command -v kind > /dev/null || { echo "kind is missing: make kind-up builds it" >&2; exit 1; }
[[ $(uname) = Linux ]] || command -v kubectl > /dev/null || { echo "kubectl is missing: see kubernetes.io/docs/tasks/tools" >&2; exit 1; }

way=$(way)
export KIND_IMAGES=$way
nodes=$(docker ps -aq --filter "label=io.x-k8s.kind.cluster=$cluster")
if [[ $way = pull ]]; then
  echo "images: stock, $NODE_IMAGE (KIND_IMAGES=build builds them instead)"
  image=$NODE_IMAGE
else
  echo "images: built from Go modules and Debian packages, cached in $cache (KIND_IMAGES=pull takes stock ones)"
  [[ $(id -u) = 0 && -f /etc/debian_version ]] || { echo "building them needs root on Debian; where the registry only did not answer, say KIND_IMAGES=pull" >&2; exit 1; }
  "$here/source/isolate.sh" on
  export KIND_EXPERIMENTAL_DOCKER_NETWORK=$cluster
  if [[ -z $nodes ]]; then
    command -v debootstrap > /dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends debootstrap; }
    "$here/source/binaries.sh"
    image=$("$here/source/node-image.sh")
  fi
fi

config() {
  cat << KIND
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
  extraPortMappings:
  - {containerPort: 30080, hostPort: $http_port, listenAddress: 127.0.0.1}
- role: worker
- role: worker
KIND
  # The built node has no kindnet, and must run on cgroup v1 too.
  [[ $way = pull ]] || echo "networking: {disableDefaultCNI: true}"
  # How soon connections stop going to a pod that is gone. Two changes of a Service within the time that a write takes to
  # come back make the controller rest for a second, or two, or four: so changes wait a fifth of one for each other, and
  # etcd does not wait for the disk, where the shop's Redis does; what a crash of the machine leaves of a cluster that
  # can be made again is nobody's loss. And kube-proxy rests for a tenth of a second after each change, not for a whole one.
  cat << KIND
kubeadmConfigPatches:
- |
  kind: ClusterConfiguration
  etcd: {local: {extraArgs: {unsafe-no-fsync: "true"}}}
  controllerManager:
    extraArgs: {endpointslice-updates-batch-period: 200ms, controllers: "*,bootstrapsigner,tokencleaner,-endpoints-controller"}
- |
  kind: KubeProxyConfiguration
  iptables: {minSyncPeriod: 100ms}
KIND
  [[ $way = pull ]] || cat << KIND
- |
  kind: KubeletConfiguration
  failCgroupV1: false
KIND
}
create() { config | kind create cluster --name "$cluster" --image "$image" --config -; }

mkdir -p "$(dirname "$KUBECONFIG")" "$root/.bin"
if [[ -n $nodes ]]; then
  # Nodes that were stopped, or whose engine was, come back with all that was in them.
  # shellcheck disable=SC2086
  docker start $nodes > /dev/null
  kind export kubeconfig --name "$cluster" -q
else
  # On a busy machine the first node can miss kubeadm's deadline.
  create || { echo "once more"; kind delete cluster --name "$cluster"; create; }
fi

# Where the machine is full, those that serve go before the one that watches. But that one needs a seventh of it: given
# less, it tells up to 15 s late which pods are gone, and connections go there meanwhile.
docker update --cpu-shares 4096 "$cluster-worker" "$cluster-worker2" > /dev/null
docker update --cpu-shares 2048 "$cluster-control-plane" > /dev/null
"$here/start-node.sh" "$cluster"-{control-plane,worker,worker2}

# The node's own kubectl never differs from its API server by more than kubectl allows.
if [[ $(uname) = Linux ]]; then
  docker exec "$cluster-control-plane" cat /usr/bin/kubectl > "$root/.bin/kubectl.new"
  chmod +x "$root/.bin/kubectl.new"
  mv "$root/.bin/kubectl.new" "$root/.bin/kubectl"
fi
for _ in {1..120}; do
  kubectl get --raw /readyz > /dev/null 2>&1 && break
  sleep 1
done
kubectl get --raw /readyz > /dev/null || { echo "the API server is not ready within 2 minutes: see docker logs $cluster-control-plane" >&2; exit 1; }
"$here/network.sh"
sed "s/METRICS_SERVER/$METRICS_SERVER/" "$here/metrics-server.yaml" | kubectl apply --server-side -f - > /dev/null
kubectl wait --for=condition=Ready nodes --all --timeout=120s
for deployment in kube-system/coredns local-path-storage/local-path-provisioner kube-system/metrics-server; do
  kubectl -n "${deployment%/*}" rollout status "deployment/${deployment#*/}" --timeout=180s
done
kubectl wait --for=condition=Available apiservice/v1beta1.metrics.k8s.io --timeout=120s
echo "export PATH=$root/.bin:\$PATH KUBECONFIG=$KUBECONFIG"
