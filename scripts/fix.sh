#!/usr/bin/env bash
# `make fix`: what a machine can mend. Look at the result before you commit it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
scripts/setup.sh build lint
. scripts/env.sh
cargo clippy --fix --allow-dirty --allow-staged --all-targets --locked
cargo fmt --all
"$bolide_cache/lint-venv/bin/typos" --write-changes
