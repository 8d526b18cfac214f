#!/usr/bin/env bash
# Deletes random pods of a shop, one every few seconds, to show that carts survive.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: k8s/chaos.sh [-n NAMESPACE] [-p PARTS] [-w WAYS] [-e SECONDS] [-c COUNT] [-t SECONDS] [-l] [-d]
  -n  namespace of the shop                         (coatcheck)
  -p  parts to take pods of: gateway,auth,cart,redis  (gateway,auth,cart)
  -w  ways: delete (with its grace period), force (grace period 0), evict  (delete,force)
  -e  mean seconds from one pod to the next         (3)
  -c  stop after so many, and wait until each has ended and is replaced  (no end: Ctrl-C)
  -t  give up after so many seconds without a pod that can be taken, or that is replaced  (120)
  -l  take the last Ready pod of gateway, auth or cart, too
  -d  dry run: only say what would be done
USAGE
}

namespace=coatcheck parts=gateway,auth,cart ways=delete,force every=3 count=0 patience=120 last=false dry=false
while getopts n:p:w:e:c:t:ldh flag; do
  case $flag in
    n) namespace=$OPTARG ;; p) parts=$OPTARG ;; w) ways=$OPTARG ;; e) every=$OPTARG ;;
    c) count=$OPTARG ;; t) patience=$OPTARG ;; l) last=true ;; d) dry=true ;; h) usage; exit 0 ;; *) usage >&2; exit 2 ;;
  esac
done
refuse() { echo "chaos: $*" >&2; exit 2; }
[[ $every$count$patience =~ ^[0-9]+$ && -n $every && -n $count && -n $patience ]] || refuse "-e, -c and -t take whole numbers"
IFS=, read -ra parts <<< "$parts"
IFS=, read -ra ways <<< "$ways"
for part in "${parts[@]}"; do [[ $part =~ ^(gateway|auth|cart|redis)$ ]] || refuse "there is no part '$part'"; done
for way in "${ways[@]}"; do [[ $way =~ ^(delete|force|evict)$ ]] || refuse "there is no way '$way'"; done

fail() { echo "chaos: $*" >&2; exit 1; }
kube() { kubectl --namespace "$namespace" "$@"; }

pods() { kube get pods -l "app.kubernetes.io/part-of=coatcheck,app.kubernetes.io/component=$1" -o go-template="$2"; }
# ready PART: the pods of it that serve and are to stay, a line with name and UID for each.
ready() {
  # shellcheck disable=SC2016 # $pod is the template's
  pods "$1" '
    {{- range .items}}{{if not .metadata.deletionTimestamp}}{{$pod := .metadata}}
    {{- range .status.conditions}}{{if and (eq .type "Ready") (eq .status "True")}}{{$pod.name}} {{$pod.uid}}{{"\n"}}{{end}}{{end}}{{end}}{{end}}'
}
# whole PART COUNT UID: that pod has ended, and so many are Ready.
whole() {
  local all serving
  all=$(pods "$1" '{{range .items}}{{.metadata.uid}} {{end}}') && [[ $all != *"$3"* ]] && serving=$(ready "$1") && (($(grep -c . <<< "$serving") >= $2))
}

# What is not one whole shop is left alone: its pods may be anybody's.
shops=$(for part in gateway auth cart; do pods $part '{{range .items}}{{index .metadata.labels "app.kubernetes.io/instance"}}{{"\n"}}{{end}}'; done | sort -u)
[[ $shops != *$'\n'* ]] || refuse "the namespace '$namespace' has several shops: ${shops//$'\n'/, }"
for part in gateway auth cart; do
  [[ -n $(ready $part) ]] || refuse "the namespace '$namespace' has no Ready $part of a shop: not this one?"
done

take() { # WAY POD
  case $1 in
    delete) kube delete pod "$2" --wait=false ;;
    force) kube delete pod "$2" --grace-period=0 --force --wait=false ;;
    evict) kube create --raw "/api/v1/namespaces/$namespace/pods/$2/eviction" -f - <<< \
      '{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"'"$2"'","namespace":"'"$namespace"'"}}' ;;
  esac 2>&1
}

# What did not work may a second later, within -t: one try in vain is no reason to end.
vain=0
again() { # WHY
  ((vain++ < patience)) || fail "for $patience s, $1"
  echo "$1: waiting" >&2
  sleep 1
}
for ((n = 0; count == 0 || n < count;)); do
  part=${parts[RANDOM % ${#parts[@]}]} way=${ways[RANDOM % ${#ways[@]}]}
  if ! serving=$(ready "$part"); then
    again "kubectl does not say which pods there are"
    continue
  fi
  there=()
  while read -r pod; do [[ -z $pod ]] || there+=("$pod"); done <<< "$serving"
  # Redis has one pod, and who names it means that.
  if ((${#there[@]} == 0)) || { ((${#there[@]} == 1)) && ! $last && [[ $part != redis ]]; }; then
    again "$part has ${#there[@]} Ready pods"
    continue
  fi
  read -r pod uid <<< "${there[RANDOM % ${#there[@]}]}"
  if $dry; then
    echo "would $way $pod"
  elif said=$(take "$way" "$pod"); then
    if ((count > 0)); then
      vain=0
      until whole "$part" ${#there[@]} "$uid"; do
        ((vain++ < patience)) || fail "$part does not have ${#there[@]} Ready pods again, $patience s after $way $pod"
        sleep 1
      done
    fi
    echo "$way $pod"
  elif [[ $said = *TooManyRequests* || $said = *NotFound* ]]; then
    again "$said" # a disruption budget says no, or the pod has just ended
    continue
  else
    fail "$way $pod: $said"
  fi
  vain=0 n=$((n + 1))
  # Between half of -e and one and a half times.
  ((count > 0 && n == count)) || sleep "$(awk -v e="$every" -v r=$RANDOM 'BEGIN { print e * (0.5 + r / 32768) }')"
done
