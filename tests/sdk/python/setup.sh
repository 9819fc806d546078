#!/usr/bin/env bash
# Installs the Python client into $BOLIDE_CACHE/venv; see ../README.md for the contract.
set -euo pipefail
cd "$(dirname "$0")"
cache=${BOLIDE_CACHE:-$HOME/.cache/bolide/sdk/python}
venv=$cache/venv
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  echo "python3 with venv (Debian: python3-venv) is not installed" >&2
  exit 77
fi
# The stamp is written last: an interrupted installation is done again from the start.
if cmp -s requirements.txt "$venv/installed"; then
  exit 0
fi
mkdir -p "$cache"
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r requirements.txt
"$venv/bin/python" -c 'import rocketmq'
cp requirements.txt "$venv/installed"
