# syntax=docker/dockerfile:1
#
#   docker build -t bolide .            compiles everything inside; the first build takes 20 minutes on two cores, later ones
#                                       find RocksDB and the other dependencies in the builder's cache
#   scripts/kube/image.sh bolide:dev    puts a binary that was built outside into the same image, in seconds
#
# The base images are arguments, for builds where only a mirror or local images exist. (buildah up to 1.28 does not see their
# defaults: give all three with --build-arg there.)
ARG RUST=rust:1.95-slim-bookworm
ARG BASE=debian:bookworm-slim
ARG SOURCE=build

FROM ${RUST} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends clang g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
ENV CC=clang CXX=clang++ CARGO_INCREMENTAL=0
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --profile dist --locked --bin bolide \
    && strip -o /bolide target/dist/bolide

FROM scratch AS prebuilt
COPY bolide /bolide

FROM ${SOURCE} AS bin

# What the binary needs of a system: its libraries, a resolver's configuration, certificates of public authorities (for a
# collector with TLS). No shell, no package manager, nothing that could be run besides the binary.
FROM ${BASE} AS system
COPY --from=bin /bolide /system/usr/local/bin/bolide
RUN set -eu; cd /system; \
    ldd usr/local/bin/bolide | grep -o '/[^ ]*' | while read -r library; do \
        mkdir -p ".$(dirname "$library")" && cp -L "$library" ".$library"; \
    done; \
    mkdir -p etc/ssl/certs && cp -L /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/; \
    echo 'hosts: files dns' > etc/nsswitch.conf; \
    echo 'bolide:x:65532:65532::/data:/sbin/nologin' > etc/passwd; \
    echo 'bolide:x:65532:' > etc/group; \
    install -d -m 1777 tmp; \
    install -d -m 750 /owned/data

FROM scratch
COPY --from=system /system/ /
COPY --from=system --chown=65532:65532 /owned/ /
USER 65532:65532
WORKDIR /data
# 8081 clients, 8091 clients outside, 8082 the other roles and operators, 8088 health and metrics. The internal port stays on
# the container's loopback unless BOLIDE_SERVER_INTERNAL says otherwise: `docker exec NAME bolide admin ...` reaches it.
ENV PATH=/usr/local/bin BOLIDE_SERVER_DATA=/data BOLIDE_SERVER_LISTEN=0.0.0.0:8081
EXPOSE 8081 8091 8082 8088
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/bolide"]
CMD ["standalone"]
