#!/usr/bin/env bash
# Pairs Millstream with Apache Flink: one JSON line per row on standard output.
#
# usage: paired.sh [--rounds N] [--only peer|ours] [--hadoop-as-shipped] [ROW...]
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

# Our home is laid out as the distribution is.
home=$TMPDIR/home
release=${CARGO_TARGET_DIR:-$here/../target}/release
cargo build --quiet --release --manifest-path "$here/../Cargo.toml" \
    --workspace --bins --examples
mkdir -p "$home/bin"
cp -rp "$here/../scripts/conf" "$home/"
for script in engine start-cluster stop-cluster jobmanager taskmanager standalone-job yarn-session; do
    cp -p "$here/../scripts/$script.sh" "$home/bin/"
done
strip -o "$home/bin/millstream" "$release/millstream"
strip -o "$home/bench_job" "$release/bench_job"

mapfile -t flink < <("$here/flink/install.sh" "$cache")
"$release/paired" --cache "$cache" --flink-home "${flink[0]}" --flink-jobs "${flink[1]}" \
    --millstream-home "$home" --millstream-job "$home/bench_job" "$@"
