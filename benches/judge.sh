#!/usr/bin/env bash
# Runs twelve jobs on event time by Millstream and by Apache Flink on the same files, and compares
# their sorted outputs: one line per job and file on standard output. Fails if any differs.
#
# usage: judge.sh [FILES]
#
# FILES is the number of input files, 3 unless it is given; each has 5,000 rows of its own. Downloads
# Flink once into ${MILLSTREAM_CACHE:-$HOME/.cache/millstream}. Jobs are in src/bin/judge_job.rs and
# flink/Judge.java.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
files=${1:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mapfile -t flink < <("$here/flink/install.sh" "${MILLSTREAM_CACHE:-$HOME/.cache/millstream}")
(cd "$here" && cargo build --quiet --release --package millstream-benches --bin judge_job)
ours=${CARGO_TARGET_DIR:-$here/../target}/release/judge_job

# Rows with skewed keys, out of order by up to 60 ms; watermarks stay behind by $2 ms, so that with
# less than 60 some rows are late. The first times are negative.
make_input() {
    awk -v seed="$1" -v behind="$2" 'BEGIN {
        srand(seed)
        now = -20000
        for (row = 0; row < 5000; row++) {
            now += int(rand() * 20)
            key = int(rand() * rand() * 20)
            watermark = rand() < 0.1 ? now - behind : "-"
            printf "%d,%d,%d,%s\n", key, row, now - int(rand() * 61), watermark
        }
    }'
}

differ=0
for ((file = 1; file <= files; file++)); do
    make_input "$file" 5 >"$work/late"
    make_input "$file" 62 >"$work/in-time"
    for job in tumbling offset sliding session late late-sliding late-session count sequence timers \
        interval join; do
        input=$work/late
        # Which rows of two inputs are late depends on how fast each comes.
        [[ $job != interval && $job != join ]] || input=$work/in-time
        rm -rf "$work/ours"
        "$ours" --job "$job" --input "$input" --output "$work/ours" >"$work/log" 2>&1 || {
            cat "$work/log" >&2
            exit 1
        }
        java -cp "${flink[0]}/lib/*:${flink[1]}" Judge \
            --job "$job" --input "$input" --output "$work/flinks" >"$work/log" 2>&1 || {
            cat "$work/log" >&2
            exit 1
        }
        LC_ALL=C sort "$work"/ours/* >"$work/a"
        LC_ALL=C sort "$work/flinks" >"$work/b"
        verdict=equal
        if ! cmp -s "$work/a" "$work/b"; then
            verdict="DIFFERENT: $(diff "$work/a" "$work/b" | head -3 | tr '\n' ' ')"
            differ=1
        fi
        late=$(grep -c '^late' "$work/a" || true)
        echo "$job, file $file: $(wc -l <"$work/a") lines, $late of late rows, $verdict"
    done
done
exit $differ
