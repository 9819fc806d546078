#!/usr/bin/env bash
# Puts a binary that is built already into an image, with podman or docker; compiles nothing.
#
#   scripts/kube/image.sh NAME:TAG [BINARY]     BINARY: default the release build of this checkout
#   BASE=...   the image whose libraries are taken; as new as the system that the binary was built on, or newer
set -euo pipefail
HERE=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
. "$HERE/env.sh"
name="${1:?which name:tag}"
binary="${2:-$CARGO_TARGET_DIR/release/bolide}"
[ -x "$binary" ] || { echo "image: no binary at $binary; build it with: cargo build --release --bin bolide" >&2; exit 1; }
builder="$(command -v podman || command -v docker)" || { echo "image: neither podman nor docker is here" >&2; exit 1; }

context="$(mktemp -d)"
trap 'rm -rf "$context"' EXIT
strip -o "$context/bolide" "$binary"
"$builder" build --quiet --build-arg SOURCE=prebuilt --build-arg BASE="${BASE:-debian:bookworm-slim}" \
    --build-arg RUST="${RUST:-rust:1.95-slim-bookworm}" -t "$name" -f "$HERE/../../Dockerfile" "$context"
"$builder" image inspect "$name" --format '{{.Size}}' | awk -v name="$name" '{ printf "%s: %.0f MB\n", name, $1 / 1e6 }'
