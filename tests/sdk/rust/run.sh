#!/usr/bin/env bash
# Runs the suite of the Rust client; see ../README.md for the contract.
set -euo pipefail
cd "$(dirname "$0")"
exec "${BOLIDE_CACHE:-$HOME/.cache/bolide/sdk/rust}/target/debug/bolide-sdk-rust"
