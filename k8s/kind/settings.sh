# What the scripts of this folder share: names, places, and which way images come. Sourced, never run.
# shellcheck shell=bash disable=SC2034
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=../versions.env
source "$root/k8s/versions.env"

cluster=coatcheck
cache=${KIND_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/coatcheck/kind}
http_port=${KIND_HTTP_PORT:-30080}

# Not the user's own kubeconfig: nobody's context changes by what happens here.
export KUBECONFIG=$root/.run/kind/kubeconfig
export PATH=$root/.bin:$PATH
# Each module here has a build list of its own.
export GOWORK=off

# app_version is the chart's, which names the shop's images unless something else does.
app_version() { sed -n 's/^appVersion: *"\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$root/helm/coatcheck/Chart.yaml"; }

# way prints pull or build: as the cluster that is there was made, else KIND_IMAGES, else by asking the registry.
way() {
  case $(docker inspect -f '{{.Config.Image}}' "$cluster-control-plane" 2> /dev/null) in
    "$cluster"/node:*) echo build && return ;;
    ?*) echo pull && return ;;
  esac
  case ${KIND_IMAGES:-} in
    pull | build) echo "$KIND_IMAGES" ;;
    "") if registry_answers; then echo pull; else echo build; fi ;;
    *) echo "KIND_IMAGES is $KIND_IMAGES: say pull or build" >&2 && return 1 ;;
  esac
}

# registry_answers within 10 s.
registry_answers() {
  docker manifest inspect "$NODE_IMAGE" > /dev/null 2>&1 &
  local asking=$!
  for _ in {1..20}; do
    kill -0 "$asking" 2> /dev/null || { wait "$asking"; return; }
    sleep 0.5
  done
  kill "$asking"
  return 1
}

# build is docker build with nothing to read unless it fails.
build() {
  local said
  # Without the plug-in Docker's client has only the builder of old.
  docker buildx version > /dev/null 2>&1 || export DOCKER_BUILDKIT=0
  said=$(docker build -q "$@" 2>&1) || { echo "$said" >&2; return 1; }
}
