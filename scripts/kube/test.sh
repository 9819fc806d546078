#!/usr/bin/env bash
# `make kube-test`: the chart in a real Kubernetes, broken in every way that matters while an official client sends and receives.
# Without KUBECONFIG it brings up a cluster of its own (Debian, root; scripts/kube/tools.sh cluster builds it once, some ten
# minutes on two cores) and removes it at the end.
#
#   KUBECONFIG=...           use that cluster; then also:
#   KUBE_TEST_REGISTRY=...   where its nodes pull from and this machine may push to, as registry.example.com/bolide-test
#   KUBE_TEST_KEEP=1         leave the local cluster up
#   KUBE_TEST_BINARY=...     take this binary instead of building one
#   KUBE_TEST_ONLY=...       names of steps, separated by commas
set -euo pipefail
HERE=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
. "$HERE/env.sh"
. "$HERE/../step.sh"

tags="test-1,test-2"
repository="${KUBE_TEST_REGISTRY:-localhost}/bolide"
client="${KUBE_TEST_REGISTRY:-localhost}/bolide-client:test"

"$HERE/../setup.sh" build hello
. "$HERE/../env.sh"
step "tools" "$HERE/tools.sh" cluster
PATH="$K8S_BIN:$PATH"
binary="${KUBE_TEST_BINARY:-$CARGO_TARGET_DIR/release/bolide}"
if [ -z "${KUBE_TEST_BINARY:-}" ]; then step "binary" cargo build --release --locked --bin bolide; fi

images() {
    podman image exists localhost/debian:bookworm-slim || "$HERE/images.sh" debian
    local tag context
    for tag in ${tags//,/ }; do "$HERE/image.sh" "$repository:$tag" "$binary"; done
    context="$(mktemp -d)"
    cp "$HERE/../../tests/sdk/python/requirements.txt" "$HERE/../hello.py" "$HERE/load.py" "$context"
    podman build --quiet --network=host -v /etc/ssl/certs:/etc/ssl/certs:ro --build-arg BASE=debian:bookworm-slim \
        -t "$client" -f "$HERE/client.containerfile" "$context"
    rm -rf "$context"
}
step "images" images

BOLIDE_CACHE="${BOLIDE_CACHE:-$bolide_cache/sdk}/python" step "official client" bash "$HERE/../../tests/sdk/python/setup.sh"
export KUBE_TEST_IMAGE="$repository" KUBE_TEST_TAGS="$tags" KUBE_TEST_CLIENT="$client"
export KUBE_TEST_PYTHON="${BOLIDE_CACHE:-$bolide_cache/sdk}/python/venv/bin/python" KUBE_TEST_HOME="$kube_cache/home"
mkdir -p "$KUBE_TEST_HOME"

if [ -n "${KUBECONFIG:-}" ]; then
    [ -n "${KUBE_TEST_REGISTRY:-}" ] || { echo "kube-test: the nodes of that cluster need a registry: KUBE_TEST_REGISTRY" >&2; exit 2; }
    for image in "$repository:${tags%,*}" "$repository:${tags#*,}" "$client"; do podman push --quiet "$image"; done
    exec python3 "$HERE/test.py"
fi

end() {
    if [ "${KUBE_TEST_KEEP:-}" = 1 ]; then
        echo "kube-test: the cluster stays: scripts/kube/cluster.sh exec kubectl get pods -A; scripts/kube/cluster.sh down"
    else
        "$HERE/cluster.sh" down
    fi
}
trap end EXIT
step "cluster" "$HERE/cluster.sh" up
step "images into the cluster" "$HERE/cluster.sh" load "$repository:${tags%,*}" "$repository:${tags#*,}" "$client"
export KUBE_TEST_NODE="$HERE/cluster.sh node"
"$HERE/cluster.sh" exec python3 "$HERE/test.py"
