# shellcheck shell=bash
# Sourced by everything here: where the tools and the local cluster live. Both outside the checkout.
kube_here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$kube_here/../env.sh"

kube_cache="$bolide_cache/kube"
# A change of what is built gets a folder of its own; the old one may serve another checkout.
K8S_BIN="${K8S_BIN:-$kube_cache/$(cat "$kube_here/k8s/go.sum" "$kube_here/k8s/main.go" | sha256sum | cut -c1-16)}"
K8S_RUN="${K8S_RUN:-$kube_cache/run}"
export K8S_BIN K8S_RUN
PATH="$K8S_BIN:$PATH"
