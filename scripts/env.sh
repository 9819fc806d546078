# shellcheck shell=bash
# Sourced by every script and by CI: where builds are cached and which compiler they use. Values already set are kept.
# All caches live outside the checkout, so that a fresh clone starts warm and `git clean` costs nothing.

bolide_cache="${XDG_CACHE_HOME:-$HOME/.cache}/bolide"

# Changing CC or CXX between builds recompiles RocksDB (12 minutes), so every entry point sets them here and nowhere else.
bolide_compiler() { # bolide_compiler clang -> "ccache clang", as far as both are installed
    if command -v "$1" >/dev/null && command -v ccache >/dev/null; then
        echo "ccache $1"
    elif command -v "$1" >/dev/null; then
        echo "$1"
    fi
}
if [ -z "${CC:-}" ]; then
    CC="$(bolide_compiler clang)"
    if [ -n "$CC" ]; then export CC; else unset CC; fi
fi
if [ -z "${CXX:-}" ]; then
    CXX="$(bolide_compiler clang++)"
    if [ -n "$CXX" ]; then export CXX; else unset CXX; fi
fi
export CCACHE_DIR="${CCACHE_DIR:-$bolide_cache/ccache}" CCACHE_MAXSIZE="${CCACHE_MAXSIZE:-5G}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$bolide_cache/target}"
if [ -n "${CI:-}" ]; then export CARGO_INCREMENTAL=0; fi

# A Go that scripts/setup.sh installed because the machine has none, or one that is too old for the Go client.
if [ -d "$bolide_cache/go/bin" ]; then PATH="$bolide_cache/go/bin:$PATH"; fi
