#!/usr/bin/env bash
# isolate.sh on|off   a network for the nodes, out of which nothing gets.
#
# Without it a connection to a Service that has no endpoints yet leaves its node by the default route. Whatever answers
# there in TLS stays in the API server's connection pool, and the metrics API is then 404 for ever. Besides, nothing
# that is tried in the cluster may reach the machine's neighbours.
set -euo pipefail
source "$(dirname "$0")/../settings.sh"
bridge=br-$cluster
# Answers to what came in from outside pass: that is how the API server and the gateway are reached.
away=(-i "$bridge" ! -o "$bridge" -m conntrack ! --ctstate "ESTABLISHED,RELATED" -j REJECT)
machine=(-i "$bridge" -m conntrack ! --ctstate "ESTABLISHED,RELATED" -j REJECT)

rule() { iptables -w -C "$@" 2> /dev/null; }
case $1 in
  on)
    docker network inspect "$cluster" > /dev/null 2>&1 ||
      docker network create -o com.docker.network.bridge.name="$bridge" "$cluster" > /dev/null
    rule DOCKER-USER "${away[@]}" || iptables -w -I DOCKER-USER "${away[@]}"
    rule INPUT "${machine[@]}" || iptables -w -I INPUT "${machine[@]}"
    ;;
  off)
    ! rule DOCKER-USER "${away[@]}" || iptables -w -D DOCKER-USER "${away[@]}"
    ! rule INPUT "${machine[@]}" || iptables -w -D INPUT "${machine[@]}"
    ! docker network inspect "$cluster" > /dev/null 2>&1 || docker network rm "$cluster" > /dev/null
    ;;
  *) echo "isolate.sh on|off" >&2 && exit 2 ;;
esac
