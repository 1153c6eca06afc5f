#!/usr/bin/env bash
# Installs Apache Flink from PyPI for tests and benchmarks; prints its home.
#
# usage: install.sh [VERSION]     by default 2.3.0
#        MILLSTREAM_CACHE: the cache, by default ~/.cache/millstream
#
# Running it again does nothing but print the path. Needs Python 3 with pip.
set -euo pipefail

version=${1:-2.3.0}
cache=${MILLSTREAM_CACHE:-$HOME/.cache/millstream}
home=$cache/flink-$version

if [[ ! -d $home ]]; then
    python3 -m pip --version >/dev/null 2>&1 || {
        echo "install.sh: pip is missing; install python3-pip" >&2
        exit 1
    }
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/.flink.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    # One download at a time: several tests may ask for it at once.
    exec {lock}>"$cache/.flink.lock"
    flock "$lock"
    [[ ! -d $home ]] || { echo "$home"; exit 0; }

    echo "downloading Apache Flink $version" >&2
    download=(python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps
        --dest "$new")
    # The platform is pinned because a source archive would be compiled; only files are wanted.
    binary=(--only-binary=:all: --implementation cp --python-version 3.11 --abi cp311
        --platform manylinux2014_x86_64)
    # The scripts are in the first package, the jars in the second, which versions before 2 have as
    # an archive without anything to compile.
    "${download[@]}" "${binary[@]}" "apache-flink==$version" >&2
    if [[ $version == 1.* ]]; then
        "${download[@]}" --no-binary=apache-flink-libraries "apache-flink-libraries==$version" >&2
        mkdir -p "$new/pyflink"
        tar -xzf "$new"/apache_flink_libraries-*.tar.gz -C "$new" --strip-components=1
        cp -r "$new"/deps/. "$new/pyflink/"
    else
        "${download[@]}" "${binary[@]}" "apache-flink-libraries==$version" >&2
    fi
    for wheel in "$new"/*.whl; do
        python3 -m zipfile -e "$wheel" "$new"
    done
    mkdir "$new/home"
    for part in bin conf lib opt plugins log; do
        [[ ! -e $new/pyflink/$part ]] || mv "$new/pyflink/$part" "$new/home/"
    done
    chmod +x "$new"/home/bin/*
    mv -T "$new/home" "$home"
fi
echo "$home"
