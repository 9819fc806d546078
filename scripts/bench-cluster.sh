#!/usr/bin/env bash
# `make bench-cluster`: what the hop from a proxy to a broker costs. A standalone and, beside it, the three roles as processes of
# their own, all on loopback and on the same disk; loads go to both in turn, so that ratios hold on a machine that others use too.
# With arguments, `bolide bench` runs once with these instead, against the proxy.
#   BOLIDE_BENCH_DIR       where the data goes, default the directory of the build cache: name the disk you want measured
#   BOLIDE_BENCH_BIN       a binary to measure, default a release build of this checkout
#   BOLIDE_BENCH_DURATION  counted time of each comparison, default 18s
#   BOLIDE_BENCH_BACKLOG   messages stored before they are received, default 100000
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
if [ -z "${BOLIDE_BENCH_BIN:-}" ]; then
    scripts/setup.sh build
    . scripts/env.sh
    cargo build --release --locked --bin bolide
fi
bolide="${BOLIDE_BENCH_BIN:-$CARGO_TARGET_DIR/release/bolide}"
duration="${BOLIDE_BENCH_DURATION:-18s}"

mkdir -p "${BOLIDE_BENCH_DIR:-$bolide_cache}"
work="$(mktemp -d "${BOLIDE_BENCH_DIR:-$bolide_cache}/bench-cluster.XXXXXX")"
started=()
finish() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

start() { # start NAME HTTP-PORT arguments...: runs a process and waits until it is ready
    local name="$1" http="127.0.0.1:$2"
    shift 2
    "$bolide" "$@" --http "$http" >"$work/$name.log" 2>&1 &
    pid=$!
    started+=("$pid")
    for _ in $(seq 100); do
        if curl --silent --fail --output /dev/null "http://$http/readyz"; then return; fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1 # until ready, ten seconds at most
    done
    cat "$work/$name.log" >&2
    exit 1
}
export BOLIDE_SERVER_DRAIN_DELAY=0s
alone=127.0.0.1:28181 alone_internal=127.0.0.1:28182
route=127.0.0.1:28192
front=127.0.0.1:28201 front_internal=127.0.0.1:28202
second=127.0.0.1:28211 second_internal=127.0.0.1:28212
start route 28198 route --data "$work/route" --internal "$route"
route_pid=$pid
start broker 28228 broker --data "$work/broker" --route "$route" --internal 127.0.0.1:28222
broker_pid=$pid
start proxy 28208 proxy --route "$route" --listen "$front" --internal "$front_internal"
proxy_pid=$pid

resident() { # resident memory of processes together
    local total=0 part pid
    for pid in "$@"; do
        part="$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status")"
        total=$((total + part))
        printf '%s MiB (%s)  ' "$((part / 1024))" "$(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -d ' ' -f 2)"
    done
    printf 'together %s MiB\n' "$((total / 1024))"
}
echo "machine: $(nproc) cores, $(uname -sr), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), load $(cut -d ' ' -f 1-3 /proc/loadavg)"

loads=0
run() { # each load on a topic of its own, which exists on both sides
    local topic="bench-$((++loads))"
    "$bolide" admin --address "$front_internal" topic create "$topic" >/dev/null
    "$bolide" admin --address "$alone_internal" topic create "$topic" >/dev/null
    printf '\n==> bolide bench %s\n' "$*"
    "$bolide" bench "$@" --topic "$topic" --endpoint "$front" --address "$front_internal" --cpu-of "$proxy_pid,$broker_pid"
}

run_both() { # through the proxy, then the same at the standalone
    run "$@"
    printf '    the same at the standalone:\n'
    "$bolide" bench "$@" --topic "bench-$loads" --endpoint "$alone" --address "$alone_internal" --cpu-of "$alone_pid"
}

sleep 10 # idle, as the figure says
printf '\n==> resident memory, idle for 10 s\n'
resident "$route_pid" "$broker_pid" "$proxy_pid"

start standalone 28188 standalone --data "$work/standalone" --listen "$alone" --internal "$alone_internal"
alone_pid=$pid
against=(--against "$alone" --against-cpu-of "$alone_pid" --rounds 3)
if [ $# -gt 0 ]; then
    run "$@"
    exit
fi
run send --in-flight 64 --duration "$duration" "${against[@]}"
run send --in-flight 1 --connections 1 --duration "$duration" "${against[@]}"
run_both e2e --rate 1000
run_both e2e --idle --messages 100
run_both receive --fill "${BOLIDE_BENCH_BACKLOG:-100000}"

printf '\n==> resident memory after these loads\n'
resident "$route_pid" "$broker_pid" "$proxy_pid"

start second 28218 proxy --route "$route" --listen "$second" --internal "$second_internal"
printf "\n==> from the begin of bolide admin topic create to the end of a send through each of two proxies, one after the other\n"
for round in $(seq 5); do
    began="$(date +%s%N)"
    "$bolide" admin --address "$front_internal" topic create "new-$round" >/dev/null
    created="$(date +%s%N)"
    for endpoint in "$second" "$front"; do
        "$bolide" bench send --quiet --messages 1 --in-flight 1 --connections 1 --topic "new-$round" --endpoint "$endpoint" \
            --address "$front_internal" >/dev/null
    done
    ended="$(date +%s%N)"
    echo "$(((ended - began) / 1000000)) ms, of which the creation $(((created - began) / 1000000)) ms"
done
