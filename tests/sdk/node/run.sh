#!/usr/bin/env bash
# Runs the suite of the Node client; see ../README.md for the contract.
set -euo pipefail
cd "$(dirname "$0")"
export BOLIDE_CACHE=${BOLIDE_CACHE:-$HOME/.cache/bolide/sdk/node}
exec node suite.mjs
