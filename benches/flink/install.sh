#!/usr/bin/env bash
# Installs Apache Flink from its PyPI wheels and compiles the jobs beside this script.
#
# usage: install.sh CACHE_DIR
#
# Prints two lines: the home of Flink and the path of the job's jar. Running it again does nothing
# but print them, unless a job's source has changed. Needs Python 3 with pip and a JDK of 11 or 17.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${1:?usage: install.sh CACHE_DIR}

for tool in python3 javac jar sha256sum; do
    command -v "$tool" >/dev/null || {
        echo "install.sh: $tool is missing; install python3-pip and default-jdk-headless" >&2
        exit 1
    }
done
home=$(MILLSTREAM_CACHE=$cache "$here/../../scripts/flink/install.sh")
work=$(mktemp -d "$cache/.install.XXXXXX")
trap 'rm -rf "$work"' EXIT

sources=("$here"/*.java)
jar=$cache/flink-jobs-$(cat "${sources[@]}" | sha256sum | cut -c1-16).jar
if [[ ! -f $jar ]]; then
    echo "compiling the Flink jobs" >&2
    classpath=$(printf '%s:' "$home"/lib/flink-{dist,connector-files}-*.jar)
    mkdir "$work/classes"
    javac --release 11 -Xlint:all,-classfile,-serial,-processing -Werror -d "$work/classes" \
        -cp "$classpath" "${sources[@]}" >&2
    jar cfe "$work/jobs.jar" BenchJob -C "$work/classes" .
    mv "$work/jobs.jar" "$jar"
fi
printf '%s\n' "$home" "$jar"
