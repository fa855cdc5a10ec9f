#!/usr/bin/env bash
# What people write by hand as the JobManager's preStop hook: stop with a savepoint, wait for it, remember it.
rest=http://localhost:8081
api=https://kubernetes.default.svc/api/v1/namespaces
account=/var/run/secrets/kubernetes.io/serviceaccount

job=$(curl -s $rest/jobs/overview | grep -o '"jid":"[0-9a-f]*"' | cut -d'"' -f4)
trigger=$(curl -s --json '{"targetDirectory": "file:///state/savepoints", "drain": false}' "$rest/jobs/$job/stop" |
    cut -d'"' -f4)
until [[ -n ${savepoint:-} ]]; do
    savepoint=$(curl -s "$rest/jobs/$job/savepoints/$trigger" | grep -o '"location":"[^"]*"' | cut -d'"' -f4)
    sleep 0.2
done
curl -s --cacert $account/ca.crt -H "Authorization: Bearer $(cat $account/token)" -X PATCH \
    -H 'Content-Type: application/merge-patch+json' --data "{\"data\": {\"savepoint\": \"$savepoint\"}}" \
    "$api/$(cat $account/namespace)/configmaps/savepoint"
