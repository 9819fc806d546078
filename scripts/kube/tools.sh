#!/usr/bin/env bash
# Builds what the chart's checks and tests need and installs what is missing. Asks nothing; touches nothing that is there.
#
#   scripts/kube/tools.sh charts     Helm 4, Helm 3 and the schemas of Kubernetes: some four minutes of two cores, once
#   scripts/kube/tools.sh cluster    all of Kubernetes as one Go binary, container tools from Debian: some eight more, once
#   scripts/kube/tools.sh have WHAT  whether that is there already (exit code 0), building nothing
set -euo pipefail
HERE=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
. "$HERE/env.sh"

helm3=v3.22.0

say() { echo "kube tools: $*"; }
die() { echo "kube tools: $*" >&2; exit 1; }

need_go() {
    "$HERE/../setup.sh" kube
    . "$HERE/../env.sh"
}

# Written beside its place first: an interrupted build leaves nothing that looks like a tool.
build_k8s() {
    [ -x "$K8S_BIN/k8s" ] && return
    need_go
    say "building Kubernetes, CoreDNS, etcd and Helm 4 as one binary into $K8S_BIN"
    mkdir -p "$K8S_BIN"
    (
        cd "$HERE/k8s"
        version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
        minor=${version#v1.}
        minor=${minor%%.*}
        package=k8s.io/component-base/version
        CGO_ENABLED=0 go build -trimpath \
            -ldflags "-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor -X $package.gitTreeState=clean" \
            -o "$K8S_BIN/k8s.part" .
        mv "$K8S_BIN/k8s.part" "$K8S_BIN/k8s"
    )
    for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl helm coredns; do
        ln -sf k8s "$K8S_BIN/$name"
    done
}

# Helm 4 of the same versions; a part of the one binary where that exists.
build_helm4() {
    [ -x "$K8S_BIN/helm" ] && return
    need_go
    say "building Helm 4 into $K8S_BIN"
    mkdir -p "$K8S_BIN"
    (cd "$HERE/k8s" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$K8S_BIN/helm.part" helm.sh/helm/v4/cmd/helm)
    mv "$K8S_BIN/helm.part" "$K8S_BIN/helm"
}

build_helm3() {
    [ -x "$K8S_BIN/helm3" ] && return
    need_go
    say "building Helm $helm3 into $K8S_BIN"
    mkdir -p "$K8S_BIN/gobin"
    CGO_ENABLED=0 GOBIN="$K8S_BIN/gobin" go install -trimpath -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@$helm3"
    mv "$K8S_BIN/gobin/helm" "$K8S_BIN/helm3"
    rmdir "$K8S_BIN/gobin"
}

python_is_there() { cmp -s "$HERE/requirements.txt" "$K8S_BIN/venv/made"; }

build_python() {
    python_is_there && return
    rm -rf "$K8S_BIN/venv"
    python3 -m venv "$K8S_BIN/venv"
    "$K8S_BIN/venv/bin/pip" install --quiet --disable-pip-version-check --retries 5 --no-deps --require-hashes -r "$HERE/requirements.txt"
    cp "$HERE/requirements.txt" "$K8S_BIN/venv/made"
}

build_schemas() {
    [ -s "$K8S_BIN/schemas.json" ] && return
    need_go
    say "taking the schemas out of the Go modules of Kubernetes and of the custom resources"
    "$K8S_BIN/venv/bin/python" "$HERE/schemas.py" "$HERE/k8s" "$K8S_BIN/schemas.json.part"
    mv "$K8S_BIN/schemas.json.part" "$K8S_BIN/schemas.json"
}

container_tools() {
    local wanted=() pair
    for pair in podman:podman buildah:buildah runc:runc containerd:containerd iptables:iptables jq:jq curl:curl \
        openssl:openssl ip:iproute2 debootstrap:debootstrap conntrack:conntrack gcc:gcc; do
        command -v "${pair%%:*}" >/dev/null || wanted+=("${pair##*:}")
    done
    [ -x /usr/lib/cni/ptp ] || wanted+=(containernetworking-plugins)
    if [ "${#wanted[@]}" -gt 0 ]; then
        [ "$(id -u)" = 0 ] || die "a local cluster needs root, and these Debian packages: ${wanted[*]}"
        say "installing Debian packages: ${wanted[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" \
            netavark aardvark-dns catatonit libc6-dev >/dev/null
    fi
    # Podman's own defaults want systemd.
    [ -s /etc/containers/containers.conf ] || printf '%s\n' '[containers]' \
        'default_ulimits = ["nofile=1024:1024","nproc=4096:4096"]' '[engine]' 'runtime = "runc"' \
        'cgroup_manager = "cgroupfs"' >/etc/containers/containers.conf
}

case "${1:-}" in
    charts)
        build_helm4
        build_helm3
        build_python
        build_schemas
        ;;
    cluster)
        container_tools
        build_k8s
        build_helm3
        build_python
        build_schemas
        ;;
    have)
        [ -x "$K8S_BIN/helm" ] && [ -x "$K8S_BIN/helm3" ] && [ -s "$K8S_BIN/schemas.json" ] && python_is_there
        if [ "${2:-}" = cluster ]; then [ -x "$K8S_BIN/k8s" ] && command -v podman containerd runc >/dev/null; fi
        ;;
    *)
        sed -n 2,7p "$0"
        exit 2
        ;;
esac
