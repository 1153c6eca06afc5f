#!/usr/bin/env bash
# Seeded worlds: deciders, operators and whole jobs among faults that a seed draws, in one thread and
# without a clock. Prints what each world has seen, and in the last line the sums. A world in which
# too little has happened fails, and so does a seed that does something else when it runs again.
#
# With --mutant or --mutants the engine has a deliberate fault, which a world or another test must
# notice: the line of each fault says which one did, and after how many seeds.
#
# usage: simulate.sh [--seeds N] [--seed FIRST] [--world NAME]
#        simulate.sh (--mutant NAME | --mutants) [--seeds N] [--seed FIRST]
#   --seeds N        the number of seeds (1000; 500 for a fault)
#   --seed FIRST     the first seed (1)
#   --world NAME     this world alone: checkpoints, jobs, hosts, tasks, settlements, stages,
#                    bodies, graphs, pipelines, steps or yarn; steps has one seed, and with
#                    SIM_EVERY_STEP=1 it tries every step, not one of 16
#   --mutant NAME    whether this fault of core/mutants is noticed
#   --mutants        whether each of them is
# for example: simulate.sh --world checkpoints --seeds 20000

set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

# The programs: a name, the folder of the crate, the test program, and the tests.
programs() {
    cat <<'TABLE'
checkpoints core/checkpoint millstream_checkpoint coordinator::random_tests::whatever_happens
jobs core/jobmaster millstream_jobmaster master::random_tests::whatever_happens
hosts core/jobmaster millstream_jobmaster hosts::random_tests::whatever_happens
tasks core/jobmaster millstream_jobmaster tasks::random_tests::whatever_happens
settlements core/jobmaster millstream_jobmaster settlement::random_tests::whatever_happens
stages core/operators millstream_operators explore::every_stage
bodies core/operators millstream_operators explore::every_body
graphs core/cluster random_graphs random_graphs_run_as_the_interpreter_says
pipelines core/cluster pipelines whatever_happens_the_results_are_exact
steps core/cluster pipelines every_step::a_kill_at_any_step
yarn rm-yarn millstream_rm_yarn simulation::nothing_leaks
process core/operators millstream_operators explore::every_stage::process
windows core/operators millstream_operators explore::every_stage::window
task core/task-checkpoint millstream_task_checkpoint committables_are_kept_until
sink core/connectors millstream_connectors file_sink
timers core/cluster restored_jobs a_keyed_function_keeps_its_states_and_timers
files core/cluster restored_jobs files_are_read_on_from_where_their_readers_were
sums core/cluster restored_jobs sums_go_on
late core/cluster restored_jobs late_
flight core/cluster restored_jobs unaligned::records_in_flight_go_to_the_new_owners
TABLE
}
worlds=(checkpoints jobs hosts tasks settlements stages bodies graphs pipelines steps yarn)

# The faults, and the programs that may notice them, in the order in which they are asked.
faults() {
    cat <<'TABLE'
drops-record process
replays-batch sums
ignores-alignment bodies pipelines
commits-before-completion checkpoints pipelines
forgets-timer timers
restores-older-checkpoint checkpoints pipelines
loses-split files
skips-key-group sums timers
keeps-late-data windows
fires-twice windows
forgets-committables task pipelines
never-commits-subsumed checkpoints pipelines
recover-deletes-running sink
loses-parked-event jobs
reassigns-finished-split files
takes-old-ack checkpoints
reuses-id checkpoints
reads-behind-barrier bodies pipelines
overtakes-barrier jobs
restores-other-subtask files
restores-in-flight-elsewhere flight
forgets-watermark late
deletes-shared-file checkpoints
takes-doubt-for-failure checkpoints
TABLE
}

packages=(checkpoint jobmaster operators cluster)
seeds='' first=1 mode=worlds chosen=''
while (($# > 0)); do
    case $1 in
    -h | --help)
        sed -n '/^# usage/,/^$/s/^# \{0,1\}//p' scripts/simulate.sh
        exit
        ;;
    --seeds) seeds=${2:-} ;;
    --seed) first=${2:-} ;;
    --world) worlds=("${2:-}") ;;
    --mutant) mode=mutants chosen=${2:-} ;;
    --mutants)
        mode=mutants
        shift
        continue
        ;;
    *)
        echo "simulate.sh: unknown argument '$1', see --help" >&2
        exit 2
        ;;
    esac
    if (($# < 2)); then
        echo "simulate.sh: $1 needs a value" >&2
        exit 2
    fi
    shift 2
done
[[ -n $seeds ]] || seeds=$([[ $mode == worlds ]] && echo 1000 || echo 500)
if [[ ! $seeds =~ ^[0-9]+$ || $seeds =~ ^0+$ || ! $first =~ ^[0-9]+$ ]]; then
    echo "simulate.sh: --seeds needs a whole number above 0, and --seed a whole number" >&2
    exit 2
fi

tests=(--lib) options=()
if [[ $mode == mutants ]]; then
    # A place of its own: what is built there has faults.
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/mutants
    packages+=(mutants connectors task-checkpoint)
    tests+=(--test restored_jobs --test pipelines)
    options+=(--features millstream-mutants/mutants)
    unlisted=$(sed -n 's/^    [A-Z][A-Za-z]* = "\(.*\)",$/\1/p' core/mutants/src/lib.rs |
        grep -vxFf <(faults | cut -d' ' -f1) || true)
    [[ -z $unlisted ]] || {
        echo "simulate.sh: no program is named for" $unlisted >&2
        exit 1
    }
    [[ -z $chosen ]] || faults | grep -q "^$chosen " || {
        echo "simulate.sh: there is no fault '$chosen': $(faults | cut -d' ' -f1 | xargs)" >&2
        exit 2
    }
fi
if [[ $mode == worlds ]]; then
    packages+=(rm-yarn)
    tests+=(--test random_graphs --test pipelines)
fi
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
cargo test --no-run --release "${packages[@]/#/--package=millstream-}" "${tests[@]}" \
    "${options[@]}" 2>"$logs/build" || {
    cat "$logs/build" >&2
    exit 1
}

# Runs a program with the seeds; its output goes to the log.
run() {
    local name=$1 folder program filter path
    read -r _ folder program filter < <(programs | grep "^$name ") || {
        echo "simulate.sh: there is no world '$name': $(programs | cut -d' ' -f1 | xargs)" >&2
        exit 2
    }
    path=$(sed -n "s|^ *Executable .*(\(.*/$program-[0-9a-f]*\))\$|\1|p" "$logs/build")
    path=$(readlink -f "$path")
    (
        cd "$folder"
        SIM_SEED=$first SIM_SEEDS=$seeds RUST_BACKTRACE=0 timeout 300 "$path" "$filter"
    ) >"$logs/$name" 2>&1
}

SECONDS=0
if [[ $mode == worlds ]]; then
    for world in "${worlds[@]}"; do
        run "$world" || {
            cat "$logs/$world" >&2
            echo "simulate.sh: world $world failed; this repeats it, with the seed that it" \
                "names: scripts/simulate.sh --world $world --seeds 1 --seed SEED" >&2
            exit 1
        }
        grep -o 'simulation .*' "$logs/$world" | tee -a "$logs/sums" | cut -c1-2000
        grep -q 'simulation .*: seeds ' "$logs/$world" || {
            echo "simulate.sh: world $world has seen nothing: is its test named otherwise?" >&2
            exit 1
        }
    done
    sed 's/^[^:]*\(::[^ ]*\)*: //; s/, /\n/g' "$logs/sums" | awk -v seconds=$SECONDS '
        { count = $NF; sub(/ [0-9]+$/, ""); if (!($0 in sums)) names[++n] = $0; sums[$0] += count }
        END {
            printf "simulate.sh: passed in %d s: ", seconds
            for (i = 1; i <= n; i++) printf "%s%s %d", (i > 1 ? ", " : ""), names[i], sums[names[i]]
            print ""
        }'
    exit
fi

# The program that notices a fault, and after how many seeds.
notice() {
    local fault=$1 program status seed
    shift
    for program in "$@"; do
        status=0
        MILLSTREAM_MUTANT=$fault run "$program" || status=$?
        ((status != 0)) || continue
        if ((status == 124)); then
            echo "$fault: caught by $program, which does not end"
        elif seed=$(grep -oE 'seed [0-9]+ fails|SIM_SEED=[0-9]+' "$logs/$program" |
            grep -oE '[0-9]+' | head -1) && [[ -n $seed ]]; then
            echo "$fault: caught by $program after $((seed - first + 1)) seeds"
        else
            local test
            test=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$logs/$program" | head -1)
            [[ -n $test ]] || {
                cat "$logs/$program" >&2
                return 2
            }
            echo "$fault: caught by $program ($test)"
        fi
        return 0
    done
    echo "$fault: NOT caught by $*"
    return 1
}

caught=0 missed=()
while read -r fault by; do
    [[ -z $chosen || $chosen == "$fault" ]] || continue
    # shellcheck disable=SC2086
    if notice "$fault" $by; then caught=$((caught + 1)); else missed+=("$fault"); fi
done < <(faults)
echo "simulate.sh: $caught faults caught, ${#missed[@]} not: ${missed[*]:-none} ($SECONDS s)"
((${#missed[@]} == 0))
