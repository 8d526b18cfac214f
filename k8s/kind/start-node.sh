#!/usr/bin/env bash
# start-node.sh NODE...   starts nodes that were stopped, if they were, and sets again what their network forgets with that.
set -euo pipefail
docker start "$@" > /dev/null
# A node remembers for two minutes which pod an unanswered connection went to, and sends the next one from that port
# there too. Shoppers who all have one address use a port again sooner, when the pod is long gone.
for node; do docker exec "$node" sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_syn_sent=5; done
