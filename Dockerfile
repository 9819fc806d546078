# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends clang \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /bolide
COPY . .
ENV CC=clang CXX=clang++
RUN cargo build --profile dist --locked --bin bolide

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin bolide \
    && install -d -o bolide -g bolide -m 750 /data
COPY --from=build /bolide/target/dist/bolide /usr/local/bin/bolide
USER 10001
VOLUME /data
# 8081 clients, 8088 health and metrics. The internal port stays on the container's loopback: use `docker exec ... bolide admin`.
EXPOSE 8081 8088
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["bolide", "health"]
ENTRYPOINT ["bolide"]
CMD ["standalone", "--data", "/data", "--listen", "0.0.0.0:8081", "--http", "0.0.0.0:8088"]
