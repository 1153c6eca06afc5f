#!/usr/bin/env bash
# The long forms of the tests: the same programs as scripts/test.sh runs, with larger numbers (more
# seeds, more kills, more data). They end in order when their share of the minutes is used, and say
# how far they got; on top of the minutes comes the time of the short forms, as in scripts/test.sh.
# More seeds of the simulated worlds: scripts/simulate.sh.
#
# usage: soak.sh [--minutes N] [arguments of cargo test]
#   --minutes N   what the long forms may take together (30)
# for example: soak.sh --minutes 10 --package millstream-network

set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

minutes=30
case ${1:-} in
-h | --help)
    sed -n '/^# usage/,/^$/s/^# \{0,1\}//p' scripts/soak.sh
    exit
    ;;
--minutes)
    minutes=${2:-}
    shift $(($# < 2 ? 1 : 2))
    ;;
--minutes=*)
    minutes=${1#*=}
    shift
    ;;
esac
if [[ ! $minutes =~ ^[0-9]+$ || $minutes =~ ^0+$ ]]; then
    echo "soak.sh: --minutes needs a whole number above 0, not '$minutes'" >&2
    exit 2
fi

export MILLSTREAM_SOAK=1 MILLSTREAM_SOAK_MINUTES=$minutes
scripts/setup.sh --test
cargo build --release --workspace --bins --examples
(($# > 0)) || set -- --workspace
time cargo test --release --no-fail-fast "$@"
