#!/usr/bin/env bash
# Runs one test file with its output shown: scripts/one-test.sh crash_loop. A setting that is empty counts as not given.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
scripts/setup.sh build
. scripts/env.sh
for name in BOLIDE_CRASH_ROUNDS BOLIDE_CRASH_SEED BOLIDE_SIM_SEEDS BOLIDE_SIM_FROM BOLIDE_SIM_SEED; do
    if [ -z "${!name:-}" ]; then unset "$name"; fi
done
exec cargo test --locked --test "$1" -- --nocapture
