# Where the suite is built. Sourced by setup.sh and run.sh.
cache="${BOLIDE_CACHE:-${REAL_HOME:-$HOME}/.cache/bolide/sdk/go}"
