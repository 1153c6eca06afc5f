#!/usr/bin/env bash
# The long forms of the tests: the same programs as scripts/test.sh runs, with larger numbers (more
# seeds, more kills, more data) because MILLSTREAM_SOAK=1 says so.
#
# usage: soak.sh [arguments of cargo test]     for example: soak.sh --package millstream-network

set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

export MILLSTREAM_SOAK=1
scripts/setup.sh --test
cargo build --release --workspace --bins --examples
(($# > 0)) || set -- --workspace
time cargo test --release --no-fail-fast "$@"
