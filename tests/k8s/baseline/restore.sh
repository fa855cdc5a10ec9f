#!/usr/bin/env bash
# What people write by hand as an init container: look up the savepoint for the main container.
api=https://kubernetes.default.svc/api/v1/namespaces
account=/var/run/secrets/kubernetes.io/serviceaccount

curl -s --cacert $account/ca.crt -H "Authorization: Bearer $(cat $account/token)" \
    "$api/$(cat $account/namespace)/configmaps/savepoint" | grep -o '"savepoint": *"[^"]*"' | cut -d'"' -f4 >/tmp/savepoint
