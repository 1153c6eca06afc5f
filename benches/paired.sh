#!/usr/bin/env bash
# Pairs Millstream with Apache Flink: one JSON line per row on standard output.
#
# usage: paired.sh [--rounds N] [--longer N] [--only peer|ours] [--table] [--hadoop-as-shipped]
#                  [--before COMMIT] [--checkpoints INTERVAL [--cost-of-checkpoints]] [ROW...]
#
# Downloads Flink once into ${MILLSTREAM_CACHE:-$HOME/.cache/millstream}. With --before, the other
# side is Millstream of that commit, which is built in a directory of its own. README.md has the rows.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MILLSTREAM_CACHE:-$HOME/.cache/millstream}
before=
arguments=()
while (($#)); do
    case $1 in
    --before)
        before=$(git -C "$here" rev-parse --verify "${2:?--before needs a commit}^{commit}")
        shift
        ;;
    *) arguments+=("$1") ;;
    esac
    shift
done

# All clusters live in directories below this one; what they daemonized is ended by its pid files.
TMPDIR=$(mktemp -d)
export TMPDIR
finish() {
    cat "$TMPDIR"/*/pid/* 2>/dev/null | xargs --no-run-if-empty kill 2>/dev/null || true
    rm -rf "$TMPDIR"
}
trap finish EXIT

# shellcheck source=lay_out.sh
. "$here/lay_out.sh"

home=$TMPDIR/home
if [[ -n $before ]]; then
    tree=$TMPDIR/tree
    git clone --quiet --no-checkout "$here/.." "$tree"
    git -C "$tree" checkout --quiet --detach "$before"
    lay_out "$tree" "$TMPDIR/before"
    arguments+=(--before-home "$TMPDIR/before" --before-job "$TMPDIR/before/bench_job")
else
    mapfile -t flink < <("$here/flink/install.sh" "$cache")
    arguments+=(--flink-home "${flink[0]}" --flink-jobs "${flink[1]}")
fi
lay_out "$here/.." "$home"

"${CARGO_TARGET_DIR:-$here/../target}/release/paired" --cache "$cache" \
    --millstream-home "$home" --millstream-job "$home/bench_job" "${arguments[@]}"
