#!/usr/bin/env bash
# `make test`: installs what the tests need and runs all of them, one step a test file, to the end even when one fails.
#   BOLIDE_SDKS=python,node,rust,java,go   a missing tool-chain of a client is a failure; unset, a visible, counted skip
#   BOLIDE_CRASH_ROUNDS, BOLIDE_SIM_SEEDS  how long the long tests run
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
. scripts/step.sh
scripts/setup.sh build sdk
. scripts/env.sh

# Nothing here takes half as long; a test that hangs must not eat the time of the others.
limit=(timeout --kill-after=30 40m)
# These tell how far they are while they run.
talking=" crash_loop cluster_crash cluster_faults cluster_figures power_cut sdk sdk_cluster sim "

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
failed=()
run() { # run NAME COMMAND...
    local name="$1"
    # tee only watches; the command's own status counts.
    if ! step "$@" > >(tee -a "$log") 2>&1; then failed+=("$name"); fi
    # Let tee finish, so that steps do not print into each other; but a process that a killed test left behind may
    # hold the pipe open, and must not hold up the others.
    local tee=$!
    for _ in $(seq 50); do
        kill -0 "$tee" 2>/dev/null || break
        sleep 0.1
    done
}

step "build of all tests" cargo test --locked --no-run
run "unit tests" "${limit[@]}" cargo test --locked --quiet --lib --bins
run "documentation tests" "${limit[@]}" cargo test --locked --quiet --doc
shopt -s nullglob
for file in tests/*.rs tests/*/main.rs; do
    name="${file#tests/}"
    name="${name%/main.rs}"
    name="${name%.rs}"
    loud=()
    if [[ "$talking" == *" $name "* ]]; then loud=(--nocapture); fi
    run "tests/$name" "${limit[@]}" cargo test --locked --test "$name" -- "${loud[@]}"
done

count() { # count WORD: sums cargo's closing lines
    { grep -oE "[0-9]+ $1" "$log" || true; } | awk '{ sum += $1 } END { print sum + 0 }'
}
skipped=$(grep -cE 'SKIPPED [a-z_]+ ' "$log" || true)
printf '\n'
if [ "$skipped" -gt 0 ]; then
    grep -oE 'SKIPPED [a-z_]+ .*' "$log" | sort -u
fi
if [ "${#failed[@]}" -gt 0 ]; then printf 'failed: %s\n' "${failed[@]}"; fi
# A test file that did not even build, or was killed, has no closing line: it counts as one failure.
failures="$(count 'failed')"
if [ "$failures" -lt "${#failed[@]}" ]; then failures="${#failed[@]}"; fi
printf 'tests: %d passed, %d failed, %d skipped\n' "$(count 'passed')" "$failures" "$((skipped + $(count 'ignored')))"
[ "${#failed[@]}" = 0 ]
