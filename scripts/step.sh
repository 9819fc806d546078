# shellcheck shell=bash
# Sourced: runs one step and says when it began, how long it took and how it ended.

step() { # step NAME COMMAND...
    local name="$1" begin="$SECONDS" status=0
    shift
    printf '\n==> %s  %s\n' "$(date -u +%H:%M:%S)" "$name"
    "$@" || status=$?
    if [ "$status" = 0 ]; then
        printf '<== %s  %s: ok, %d s\n' "$(date -u +%H:%M:%S)" "$name" $((SECONDS - begin))
    else
        printf '<== %s  %s: FAILED with exit code %d after %d s\n' "$(date -u +%H:%M:%S)" "$name" "$status" $((SECONDS - begin))
    fi
    return "$status"
}
