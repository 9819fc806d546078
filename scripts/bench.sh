#!/usr/bin/env bash
# `make bench`: a broker of its own on ports of its own in a temporary directory, then each kind of load for a while.
# With arguments, `bolide bench` runs once with these instead.
#   BOLIDE_BENCH_DIR       where its data goes, default the directory of the build cache: name the disk you want measured
#   BOLIDE_BENCH_BACKLOG   messages stored before they are received, default 200000
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
scripts/setup.sh build
. scripts/env.sh
cargo build --release --locked --bin bolide
bolide="$CARGO_TARGET_DIR/release/bolide"

mkdir -p "${BOLIDE_BENCH_DIR:-$bolide_cache}"
data="$(mktemp -d "${BOLIDE_BENCH_DIR:-$bolide_cache}/bench.XXXXXX")"
public=127.0.0.1:28081 internal=127.0.0.1:28082 http=127.0.0.1:28088
"$bolide" standalone --data "$data" --listen "$public" --internal "$internal" --http "$http" >"$data.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$data" "$data.log"' EXIT

for _ in $(seq 100); do
    if curl --silent --fail --output /dev/null "http://$http/readyz"; then break; fi
    kill -0 "$server" 2>/dev/null || { cat "$data.log" >&2; exit 1; }
    sleep 0.1 # until ready, ten seconds at most; the next line says so if it never was
done
curl --silent --show-error --fail "http://$http/readyz" >/dev/null || { cat "$data.log" >&2; exit 1; }

echo "machine: $(nproc) cores, $(uname -sr), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)"
export BOLIDE_ENDPOINT="$public" BOLIDE_ADDRESS="$internal"
run() { # each load on a topic of its own, so that none finds the messages of another
    printf '\n==> bolide bench %s\n' "$*"
    "$bolide" bench "$@" --cpu-of "$server" --topic "bench-$((++loads))"
}
loads=0
if [ $# -gt 0 ]; then
    run "$@"
else
    run send --against-echo
    run receive --fill "${BOLIDE_BENCH_BACKLOG:-200000}"
    run e2e --rate 1000
    run e2e --idle --messages 500
    run nack
fi
