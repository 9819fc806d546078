#!/usr/bin/env bash
# `make hello`: ten messages through a running broker with the official Python client, as its registry ships it.
#   BOLIDE_ENDPOINT   the broker's public address, default 127.0.0.1:8081
#   BOLIDE_ADDRESS    its internal address, default 127.0.0.1:8082
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
scripts/setup.sh build hello
. scripts/env.sh

bolide="$CARGO_TARGET_DIR/release/bolide"
[ -x "$bolide" ] || cargo build --release --locked --bin bolide

if ! "$bolide" admin topic create hello; then
    echo "hello: no broker could be asked; is one running? (make run, in another terminal)" >&2
    exit 1
fi

# The client suite of the tests installs the same client; its environment is shared.
export BOLIDE_CACHE="${BOLIDE_CACHE:-$bolide_cache/sdk}/python"
bash tests/sdk/python/setup.sh

# The client writes its log below the home directory: give it one of its own.
mkdir -p "$bolide_cache/hello-home"
HOME="$bolide_cache/hello-home" exec "$BOLIDE_CACHE/venv/bin/python" scripts/hello.py "${BOLIDE_ENDPOINT:-127.0.0.1:8081}"
