#!/usr/bin/env bash
# Fetches the official Java client and compiles the suite into the cache. Quick, and without a registry, when
# nothing changed since the last run.
set -euo pipefail
. ./versions.sh

missing() {
    echo "$1 is missing" >&2
    exit 77
}
command -v java >/dev/null || missing "java (a JDK of version 17 or newer)"
command -v javac >/dev/null || missing "javac (a JDK of version 17 or newer)"

mkdir -p "$build"
exec 9>"$cache/lock"
flock 9

if [ ! -s "$build/classpath" ]; then
    command -v mvn >/dev/null || missing "mvn"
    echo "fetching rocketmq-client-java $version"
    nice -n 5 mvn -q -B -ntp -Dstyle.color=never -Dmaven.repo.local="$cache/m2" -Dclient.version="$version" \
        -Dmdep.outputFile="$build/classpath.new" -f pom.xml dependency:build-classpath
    mv "$build/classpath.new" "$build/classpath"
fi

sources=(src/*.java)
[ "$variant" = 5.0.3 ] || sources+=(newer/*.java)
sum="$(cat "${sources[@]}" | sha256sum | cut -d' ' -f1)"
if [ "$(cat "$build/compiled" 2>/dev/null)" != "$sum" ]; then
    echo "compiling against rocketmq-client-java $version"
    rm -rf "$build/classes" "$build/compiled"
    nice -n 5 javac --release 17 -Xlint:all,-processing -Werror -encoding UTF-8 \
        -cp "$(cat "$build/classpath")" -d "$build/classes" "${sources[@]}"
    echo "$sum" >"$build/compiled"
fi
