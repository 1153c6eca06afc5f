#!/usr/bin/env bash
# Installs what building and testing needs and this machine lacks; does nothing when all is there.
#
# usage: setup.sh [--dist | --test]     --dist: also what scripts/dist.sh needs
#                                       --test: also what the daemons of Hadoop and the tools of
#                                       Flink need in tests

set -euo pipefail

command -v cargo >/dev/null || {
    echo "error: Rust is missing: install it from https://rustup.rs and run this again" >&2
    exit 1
}

missing=()
# Adds package $2 unless command $1 exists.
need() {
    command -v "$1" >/dev/null || missing+=("$2")
}

need cc gcc
need ld binutils
need flock util-linux
need ps procps
need curl curl
# gcc alone brings no headers and no start files, and nothing links without them.
[[ -e /usr/include/features.h ]] || missing+=(libc6-dev)
if [[ ${1:-} == --test ]]; then
    need java openjdk-17-jre-headless
    need javac openjdk-17-jdk-headless
    need mvn maven
    # Files are decompressed that other programs have compressed.
    need gzip gzip
    need bzip2 bzip2
    need xz xz-utils
    need zstd zstd
    # Flink's own tools: its archive on PyPI, and a browser for its web page.
    need python3 python3
    python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    need chromium chromium
fi
if [[ ${1:-} == --dist ]]; then
    need python3 python3
    python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
fi

((${#missing[@]} > 0)) || exit 0
echo "installing ${missing[*]}"
command -v apt-get >/dev/null || {
    echo "error: no apt-get here; install ${missing[*]} by hand and run this again" >&2
    exit 1
}
privileged=()
((EUID == 0)) || privileged=(sudo)
"${privileged[@]}" apt-get update -qq
"${privileged[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
