#!/usr/bin/env bash
# Builds the example and runs it against two gateways. What it needs is made under target/. Exit 0: all held. 77: skipped, something
# cannot be had.
#   TONGBAN=path/to/tongban examples/java/run.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tongban=${TONGBAN:-$root/target/release/tongban}
home=$root/target/examples/java

skip() { echo "SKIPPED: the example in Java: $1"; exit 77; }
for tool in java mvn python3; do
    command -v "$tool" >/dev/null || skip "$tool is not installed"
done
[ -x "$tongban" ] || skip "$tongban is not built"
mkdir -p "$home"
if ! timeout 300 mvn --batch-mode --quiet --file "$here/pom.xml" -Dhome="$home" compile >"$home/build.log" 2>&1; then
    grep -qE "Could not (resolve|transfer)|cannot be resolved" "$home/build.log" && skip "Maven cannot fetch what it needs"
    cat "$home/build.log"
    exit 1
fi

. "$here/../two-cities.sh"
java -cp "$home/classes:$home/dependency/*" org.tongban.example.Example certs/dev "$liuzhou" "$foshan"
