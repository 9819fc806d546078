#!/usr/bin/env bash
# Installs the Node client into $BOLIDE_CACHE/node_modules; see ../README.md for the contract.
set -euo pipefail
cd "$(dirname "$0")"
cache=${BOLIDE_CACHE:-$HOME/.cache/bolide/sdk/node}
for tool in node npm; do
  if ! command -v "$tool" >/dev/null; then
    echo "$tool is not installed" >&2
    exit 77
  fi
done
# The stamp is written last: an interrupted installation is done again from the start.
if cmp -s package-lock.json "$cache/installed"; then
  exit 0
fi
mkdir -p "$cache"
cp package.json package-lock.json "$cache"
# The packages need no install scripts: what is native comes built.
(cd "$cache" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
(cd "$cache" && node -e 'require("rocketmq-client-nodejs")')
cp package-lock.json "$cache/installed"
