#!/usr/bin/env bash
# Builds the suite of the Rust client into $BOLIDE_CACHE/target; see ../README.md for the contract.
set -euo pipefail
cd "$(dirname "$0")"
export CARGO_TARGET_DIR=${BOLIDE_CACHE:-$HOME/.cache/bolide/sdk/rust}/target
if ! command -v cargo >/dev/null; then
  echo "cargo is not installed" >&2
  exit 77
fi
# What is downloaded already must do without a registry.
cargo build --quiet --locked --offline 2>/dev/null || cargo build --quiet --locked
