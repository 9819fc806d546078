#!/usr/bin/env bash
# Runs the cases of the Java suite; the driver is behind stdin and stdout.
set -euo pipefail
. ./versions.sh

# The client takes its log folder from user.home, which Java does not read from HOME. The first compiler stage
# alone is enough for a run this short and leaves the cores to the server.
status=0
java -Xshare:auto -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx512m \
    -Duser.home="$HOME" -Drocketmq.log.root="$HOME/logs/rocketmq" -Drocketmq.log.level=warn \
    -cp "$build/classes:$(cat "$build/classpath")" Suite || status=$?
if [ "$status" -ne 0 ]; then
    echo "last lines of the client's own log:" >&2
    # Without the stack traces, which are longer than everything else together.
    grep -v '^[[:space:]]*at ' "$HOME/logs/rocketmq/rocketmq-client.log" | tail -n 60 >&2 || true
fi
exit "$status"
