#!/usr/bin/env bash
# Pairs Millstream with Apache Flink: one JSON line per row on standard output.
#
# usage: paired.sh [--rounds N] [--only peer|ours] [ROW...]
#
# Downloads Flink once into ${MILLSTREAM_CACHE:-$HOME/.cache/millstream}. README.md has the rows.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MILLSTREAM_CACHE:-$HOME/.cache/millstream}

# All clusters live in directories below this one; what they daemonized is ended by its pid files.
TMPDIR=$(mktemp -d)
export TMPDIR
finish() {
    cat "$TMPDIR"/*/pid/* 2>/dev/null | xargs --no-run-if-empty kill 2>/dev/null || true
    rm -rf "$TMPDIR"
}
trap finish EXIT

mapfile -t flink < <("$here/flink/install.sh" "$cache")
cargo run --quiet --release --manifest-path "$here/Cargo.toml" --bin paired -- \
    --cache "$cache" --flink-home "${flink[0]}" --flink-jobs "${flink[1]}" "$@"
