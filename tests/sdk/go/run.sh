#!/usr/bin/env bash
# Runs the cases of the Go suite; the driver is behind stdin and stdout.
set -euo pipefail
. ./cache.sh

# The client reads its log level when it is loaded, from a name that a shell cannot export.
status=0
env "rocketmq.client.logLevel=warn" "rocketmq.client.logRoot=$HOME/logs/rocketmq" "$cache/suite" || status=$?
if [ "$status" -ne 0 ]; then
    echo "last lines of the client's own log:" >&2
    tail -n 60 "$HOME/logs/rocketmq/rocketmq_client_go.log" >&2 || true
fi
exit "$status"
