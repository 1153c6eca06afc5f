#!/usr/bin/env bash
# A trillion events a day on two cores: 11.6 million records a second, counts of 100,000 keys per
# second into files that are published exactly once, a checkpoint each ten seconds. All counts are
# compared with ones that are made by hand; the last line has the sums.
#
# usage: trillion.sh [--seconds N] [--rate N]
#
# Fails if a count differs, a checkpoint is missing, or the job ends a second or more after its last
# record is due.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
# shellcheck source=lay_out.sh
. "$here/lay_out.sh"
home=$TMPDIR/home
lay_out "$here/.." "$home"
"${CARGO_TARGET_DIR:-$here/../target}/release/trillion" \
    --millstream-home "$home" --millstream-job "$home/bench_job" "$@"
