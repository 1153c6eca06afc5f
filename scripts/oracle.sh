#!/usr/bin/env bash
# Exactly-once on trial: runs a job on real clusters, kills and stops its processes at times that a
# seed draws, reads what it publishes while it runs, and compares that with a second computation.
# The last line is the verdict: all runs are exact, with the sums of what happened in them, or the
# first difference, or why a run does not count, and the seed that repeats it.
#
# usage: oracle.sh [--runs N] [--seed S] [--kills K] [--workload NAME]
#   --runs N          number of runs, each on a cluster of its own (1)
#   --seed S          seed of the first run, which draws input, cluster and kills; the next run has
#                     the next seed (1)
#   --kills K         number of faults in each run: kills of one process or two, and stops (3)
#   --workload NAME   the job: keyed-sum (keyed-sum)
# for example: oracle.sh --runs 50 --seed 7 --kills 4

set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

case ${1:-} in
-h | --help)
    sed -n '/^# usage/,/^$/s/^# \{0,1\}//p' scripts/oracle.sh
    exit
    ;;
esac

cargo build --quiet --release --workspace --bin millstream --bin jobs --bin oracle
exec "${CARGO_TARGET_DIR:-target}/release/oracle" "$@"
