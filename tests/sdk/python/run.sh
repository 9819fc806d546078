#!/usr/bin/env bash
# Runs the suite of the Python client; see ../README.md for the contract.
set -euo pipefail
cd "$(dirname "$0")"
cache=${BOLIDE_CACHE:-$HOME/.cache/bolide/sdk/python}
# The checkout stays clean: no bytecode beside the sources.
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
exec "$cache/venv/bin/python" suite.py
