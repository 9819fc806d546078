#!/usr/bin/env bash
# `make run`: installs what is missing, builds, and starts a broker whose data lives in ./data. Further arguments go to
# `bolide standalone`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
scripts/setup.sh build
. scripts/env.sh # the compiler may have been installed just now

if [ ! -x "$CARGO_TARGET_DIR/release/bolide" ]; then
    echo "run: building; the first build takes 15 to 25 minutes on two cores, most of it RocksDB, later ones a minute or so"
fi
cargo build --release --locked --bin bolide

bolide="$CARGO_TARGET_DIR/release/bolide"
cat <<TEXT

  Next, in a second terminal:
    make hello                           ten messages with the official Python client
    alias bolide=$bolide
    bolide admin topic create orders     a topic of your own
    bolide admin status                  how the broker is
  Ctrl-C stops the broker; its data stays in ./data.

TEXT
exec "$bolide" standalone --data ./data "$@"
