#!/usr/bin/env bash
# Everything that CI runs: missing packages, formatting, budgets, layers, lints, docs, and all tests
# (unit, doc, integration) in the release profile.
#
# With CI=true the build goes to MILLSTREAM_TARGET, by default ~/.cache/millstream/target, which
# survives a clean checkout. It need not: the whole must pass from a cold machine.

set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

SECONDS=0
finish() {
    local status=$?
    printf 'scripts/test.sh: %s after %d min %d s\n' \
        "$( ((status == 0)) && echo passed || echo failed)" $((SECONDS / 60)) $((SECONDS % 60))
}
trap finish EXIT

if [[ ${CI:-} == true ]]; then
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${MILLSTREAM_TARGET:-$HOME/.cache/millstream/target}}
    export CARGO_INCREMENTAL=0
fi

scripts/setup.sh --test
# The release profile here too: one profile, every dependency compiled once.
cargo run --quiet --release --package xtask -- ci
