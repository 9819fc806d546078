# Which release of org.apache.rocketmq:rocketmq-client-java each variant means. Sourced by setup.sh and run.sh.
# "newest" is pinned so that a release on Maven Central does not change what a commit is tested with; to see
# what the registry has, and to try it:
#   mvn dependency:get -Dartifact=org.apache.rocketmq:rocketmq-client-java:LATEST
#   BOLIDE_JAVA_NEWEST=5.x.y bash setup.sh newest

client_version() {
    case "$1" in
        newest) echo "${BOLIDE_JAVA_NEWEST:-5.2.0}" ;;
        5.0.3) echo "5.0.3" ;;
        *)
            echo "unknown variant $1: newest or 5.0.3" >&2
            return 1
            ;;
    esac
}

variant="${1:-newest}"
version="$(client_version "$variant")" || exit 2
cache="${BOLIDE_CACHE:-${REAL_HOME:-$HOME}/.cache/bolide/sdk/java}"
build="$cache/$version"
