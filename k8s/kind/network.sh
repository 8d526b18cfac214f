#!/usr/bin/env bash
# The pod network where nodes are built from source: Debian's bridge plugin on each node, and the list from which a
# node keeps its routes to the others' pods. Safe to call again. Nothing to do on stock nodes, which bring kindnet.
#
# This network does NOT enforce NetworkPolicy: a policy that forbids too much is not noticed here, one that forbids too
# little neither. Stock nodes enforce them.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
[[ $(way) = build ]] || exit 0

nodes() { kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.spec.podCIDR}{"\n"}{end}'; }
# The controller manager hands out pod networks some seconds after a node is there.
whole() { all=$(nodes) && [[ $(wc -w <<< "$all") = $((2 * $(wc -l <<< "$all"))) ]]; }
for _ in {1..60}; do
  whole && break
  sleep 1
done
whole || { echo "a node got no pod network within a minute: $all" >&2; exit 1; }

put() { docker exec -i "$1" sh -c "cat > $2.new && mv $2.new $2"; }
while read -r node network; do
  grep -v "^$node " <<< "$all" | put "$node" /etc/pod-routes
  put "$node" /etc/cni/net.d/10-pods.conflist << CNI
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$network"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
CNI
done <<< "$all"
