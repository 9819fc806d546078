#!/usr/bin/env bash
# Builds the suite of the Rust client into $BOLIDE_CACHE/target; see ../README.md for the contract.
set -euo pipefail
cd "$(dirname "$0")"
cache=${BOLIDE_CACHE:-$HOME/.cache/bolide/sdk/rust}
if ! command -v cargo >/dev/null; then
  echo "cargo is not installed" >&2
  exit 77
fi
# A stamp instead of cargo's own look: that rebuilds when CC or a like variable differs between a
# shell and a test run. It is written last, so an interrupted build is done again.
stamp=$(cat Cargo.toml Cargo.lock src/*.rs | sha256sum)
if [ -x "$cache/target/debug/bolide-sdk-rust" ] && [ "$stamp" = "$(cat "$cache/built" 2>/dev/null)" ]; then
  exit 0
fi
export CARGO_TARGET_DIR=$cache/target
# What is downloaded already must do without a registry.
cargo build --quiet --locked --offline 2>/dev/null || cargo build --quiet --locked
echo "$stamp" >"$cache/built"
