# What a newcomer types. Each target installs what it lacks; builds are cached outside the checkout (scripts/env.sh).

.DEFAULT_GOAL := help
.PHONY: help run hello test verify fix crash-loop cluster-crash sim bench bench-cluster where install image kube-lint kube-test

ROUNDS ?= 1000
SEEDS ?= 1000

help: ## This page
	@echo "Bolide: a message broker for the official RocketMQ 5 clients."
	@echo
	@echo "Start here, in two terminals:"
	@echo "  make run                      build and start a broker on 127.0.0.1:8081, data in ./data"
	@echo "  make hello                    beside it: ten messages with the official Python client"
	@echo
	@echo "Work on it:"
	@echo "  make test                     everything, the official clients in five languages included"
	@echo "  make test BOLIDE_SDKS=python  of the clients only these, and they must be there"
	@echo "  make verify                   what CI runs: format, clippy, licences, spelling, make test; writes nothing"
	@echo "  make fix                      format, and mend what clippy and the spelling check can mend"
	@echo
	@echo "Look for trouble:"
	@echo "  make crash-loop ROUNDS=1000 [SEED=n]   kill -9 at random moments; prints the seed of a failure"
	@echo "  make cluster-crash ROUNDS=200 [SEED=n] the same against a route service, two brokers and two proxies"
	@echo "  make sim SEEDS=1000 [FROM=n]           the whole broker in a simulated world, seed after seed"
	@echo "  make sim SEED=n                        one seed again, exactly"
	@echo
	@echo "Measure it:"
	@echo "  make bench                    several short loads against a broker of its own"
	@echo "  make bench ARGS='send --against-echo --duration 60s'   one load only; the arguments of bolide bench"
	@echo "  make bench-cluster            standalone beside route, broker and proxy: what the hop costs, memory, new topics"
	@echo
	@echo "In Kubernetes (docs/OPERATIONS.md):"
	@echo "  make image IMAGE=name:tag     the release binary in an image of 40 MB, with podman or docker"
	@echo "  make kube-lint                the chart with Helm 3 and 4 against the schemas of Kubernetes"
	@echo "  make kube-test                the chart in a real cluster, KUBECONFIG's or one of its own, broken in every way"
	@echo
	@echo "Where things are:"
	@echo "  make where                    prints the path of the release binary"
	@echo "  make install                  puts it into ~/.cargo/bin as bolide"
	@echo "  docs/ARCHITECTURE.md          what it promises and how it is built"
	@echo "  CONTRIBUTING.md               how to change it"

run: ## Build and start a broker; ARGS go to bolide standalone
	@scripts/run.sh $(ARGS)

hello: ## Ten messages through a running broker
	@scripts/hello.sh

test: ## All tests
	@scripts/test.sh

verify: ## What CI runs
	@.ci/run

fix: ## Everything that can be mended by a machine
	@scripts/fix.sh

crash-loop: export BOLIDE_CRASH_ROUNDS := $(ROUNDS)
crash-loop: export BOLIDE_CRASH_SEED := $(SEED)
crash-loop: ## kill -9, restart, check the history
	@scripts/one-test.sh crash_loop

cluster-crash: export BOLIDE_CRASH_ROUNDS := $(ROUNDS)
cluster-crash: export BOLIDE_CRASH_SEED := $(SEED)
cluster-crash: ## kill -9 of any member of a cluster, restart, check the history
	@scripts/one-test.sh cluster_crash

sim: export BOLIDE_SIM_SEEDS := $(SEEDS)
sim: export BOLIDE_SIM_FROM := $(FROM)
sim: export BOLIDE_SIM_SEED := $(SEED)
sim: ## The broker in a simulated world
	@scripts/one-test.sh sim

bench: ## Short loads, with percentiles
	@scripts/bench.sh $(ARGS)

bench-cluster: ## What the hop from a proxy to a broker costs
	@scripts/bench-cluster.sh $(ARGS)

where: ## Path of the release binary
	@. scripts/env.sh && echo "$$CARGO_TARGET_DIR/release/bolide"

install: ## Into ~/.cargo/bin
	@. scripts/env.sh && scripts/setup.sh build && . scripts/env.sh && cargo build --release --locked --bin bolide && \
	install -D -m 755 "$$CARGO_TARGET_DIR/release/bolide" "$${CARGO_HOME:-$$HOME/.cargo}/bin/bolide"

image: IMAGE ?= bolide:dev
image: ## An image of the release binary
	@. scripts/env.sh && scripts/setup.sh build && . scripts/env.sh && cargo build --release --locked --bin bolide && \
	scripts/kube/image.sh $(IMAGE)

kube-lint: ## The chart without a cluster
	@scripts/kube/lint.sh

kube-test: ## The chart in a real Kubernetes
	@scripts/kube/test.sh
