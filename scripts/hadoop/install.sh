#!/usr/bin/env bash
# Copies the jars of Hadoop 3.5.0 (119 MB, by Maven) into the cache once and prints their folder.
#
# usage: install.sh     MILLSTREAM_CACHE: the cache, by default ~/.cache/millstream

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MILLSTREAM_CACHE:-$HOME/.cache/millstream}
jars=$cache/hadoop-3.5.0

mkdir -p "$cache"
# Tests that start at the same time wait for the first one.
exec 9>"$cache/hadoop.lock"
flock 9
if [[ ! -d $jars ]]; then
    command -v mvn >/dev/null || {
        echo "error: Maven is missing; scripts/setup.sh installs it" >&2
        exit 1
    }
    echo "downloading Hadoop 3.5.0" >&2
    new=$(mktemp -d "$cache/.hadoop.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies \
        -DoutputDirectory="$new/jars" -DincludeScope=runtime >&2
    mv -T "$new/jars" "$jars"
fi
echo "$jars"
