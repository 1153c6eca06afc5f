#!/usr/bin/env bash
# Exactly-once on trial: runs jobs on real clusters, kills and stops their processes at times that a
# seed draws, reads what they publish while they run, and compares that with a second computation.
# The last line is the verdict: all runs are exact, with the sums of what happened in them, or the
# first difference, or why a run does not count, and the seed that repeats it.
#
# usage: oracle.sh [--runs N] [--seed S] [--kills K] [--workload NAME] [--hdfs]
#                  [--mutant NAME] [--list-mutants]
#   --runs N          number of runs, each on a cluster of its own (1)
#   --seed S          seed of the first run, which draws input, cluster and kills; the next run has
#                     the next seed (1)
#   --kills K         number of faults in each run: kills of one process or two, and stops (3)
#   --workload NAME   the job: keyed-sum, timers, tumbling, sliding, session, interval-join,
#                     broadcast, or all of them by turns (all)
#   --hdfs            on a session of YARN, with checkpoints and output on HDFS
#   --mutant NAME     all processes have this deliberate fault, and one of the runs must notice it:
#                     the last line says which does, or that none does
#   --list-mutants    lists the deliberate faults
# for example: oracle.sh --runs 50 --seed 7 --kills 5
#              oracle.sh --runs 5 --mutant fires-twice --workload sliding

set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

target=${CARGO_TARGET_DIR:-target}
features=millstream/hdfs
for word in "$@"; do
    case $word in
    -h | --help)
        sed -n '/^# usage/,/^$/s/^# \{0,1\}//p' scripts/oracle.sh
        exit
        ;;
    # Programs with faults are kept apart from those that anything else uses.
    --mutant | --mutant=*)
        target=$target/mutants
        features+=,millstream-cli/mutants,millstream-integration/mutants
        ;;
    --hdfs)
        scripts/setup.sh --test
        ;;
    esac
done

cargo build --quiet --release --workspace --target-dir "$target" --features "$features" \
    --bin millstream --bin jobs --bin oracle
export CARGO_MANIFEST_DIR=$PWD/integration
exec "$target/release/oracle" "$@"
