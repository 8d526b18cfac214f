#!/usr/bin/env bash
# Starts a Docker engine from Debian's packages if none answers. Only root on Debian; safe to call again.
set -euo pipefail
docker info > /dev/null 2>&1 && exit 0
[[ $(id -u) = 0 && -f /etc/debian_version ]] || { echo "no Docker engine answers, and only root on Debian can start one here" >&2; exit 1; }

state=${ENGINE_STATE:-/var/lib/coatcheck-engine}
mkdir -p "$state"
for program in dockerd containerd runc iptables jq; do
  command -v "$program" > /dev/null && continue
  apt-get update -q
  # A service that its package starts would hold the engine's socket.
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends docker.io containerd runc iptables iproute2 jq
  break
done

# A --privileged container, which each kind node is, asks for every capability. Where this machine may not
# give CAP_SYS_RESOURCE (bit 24) away, runc then fails, and so does every process that lowers its OOM score.
flags=()
bounding=$(awk '/^CapBnd/ { print $2 }' /proc/self/status)
if (( (16#$bounding >> 24 & 1) == 0 )); then
  cat > "$state/runc" <<'RUNC'
#!/usr/bin/env bash
# runc for a machine that cannot give CAP_SYS_RESOURCE: takes it, and negative OOM scores, out of what is asked for.
set -euo pipefail
edit() {
  [[ -f $1 ]] || return 0
  jq '(.. | objects | select(has("bounding")) | .[]) |= map(select(. != "CAP_SYS_RESOURCE"))
    | if (.process.oomScoreAdj? // 0) < 0 then .process.oomScoreAdj = 0 else . end' "$1" > "$1.new"
  cat "$1.new" > "$1"
  rm "$1.new"
}
previous=
for argument; do
  case $previous in
    --bundle | -b) edit "$argument/config.json" ;;
    --process | -p) edit "$argument" ;;
  esac
  previous=$argument
done
exec /usr/sbin/runc "$@"
RUNC
  chmod +x "$state/runc"
  flags=(--add-runtime "bounded=$state/runc" --default-runtime bounded)
fi

setsid nohup dockerd "${flags[@]}" > "$state/dockerd.log" 2>&1 < /dev/null &
echo $! > "$state/dockerd.pid"
for _ in {1..60}; do
  docker info > /dev/null 2>&1 && exit 0
  sleep 1
done
tail -n 5 "$state/dockerd.log" >&2
echo "the Docker engine did not start: see $state/dockerd.log" >&2
exit 1
