#!/usr/bin/env bash
# Everything that reads the code without running it. Writes nothing; `make fix` does.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
. scripts/step.sh
scripts/setup.sh build lint
. scripts/env.sh
tools="$bolide_cache/lint-venv/bin"

step "download of dependencies" cargo fetch --locked
step "format" cargo fmt --all --check
step "spelling" "$tools/typos"
step "licences, bans and sources of dependencies" "$tools/cargo-deny" --locked --offline check licenses bans sources
step "clippy" cargo clippy --all-targets --locked -- -D warnings
