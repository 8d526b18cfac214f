#!/usr/bin/env bash
# Prints the two Secrets that the manifests need, drawn anew: the key that signs tickets, and the passwords of Redis' users
# with what each of them may do. To be piped into kubectl create, which leaves what is there already as it is.
set -euo pipefail
acl=$(cd "$(dirname "$0")/../helm/coatcheck/acl" && pwd)
namespace=${1:-coatcheck}

encoded() { base64 | tr -d '\n'; }
key=$(openssl genpkey -algorithm ed25519 | encoded)
password=$(openssl rand -hex 32) auth=$(openssl rand -hex 32) cart=$(openssl rand -hex 32)
users() {
  echo "user default on >$password ~* &* +@all"
  echo "user auth on >$auth $(cat "$acl/auth.acl")"
  echo "user cart on >$cart $(cat "$acl/cart.acl")"
}
cat << SECRETS
apiVersion: v1
kind: Secret
metadata: {name: coatcheck-auth, namespace: $namespace}
data: {signing-keys.pem: $key}
---
apiVersion: v1
kind: Secret
metadata: {name: coatcheck-redis, namespace: $namespace}
data:
  password: $(printf %s "$password" | encoded)
  auth-password: $(printf %s "$auth" | encoded)
  cart-password: $(printf %s "$cart" | encoded)
  users.acl: $(users | encoded)
SECRETS
