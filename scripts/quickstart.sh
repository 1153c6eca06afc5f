#!/usr/bin/env bash
# From a fresh checkout to the result of a job: installs what is missing, builds, starts a cluster
# with two TaskManagers, counts the words of a real text on it, shows the ten most frequent words
# and where REST answers, and stops everything.
#
# usage: quickstart.sh [--keep]     --keep: leave the cluster running
#
# With MILLSTREAM_BINARY set, nothing is installed or built: that engine runs the example beside it.

set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

keep=''
case ${1:-} in
'') ;;
--keep) keep=yes ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

if [[ -n ${MILLSTREAM_BINARY:-} ]]; then
    engine=$(readlink -f "$MILLSTREAM_BINARY")
    binaries=${engine%/*}
else
    scripts/setup.sh
    echo "Building Millstream (release)."
    # Without HDFS, whose client is a fifth of the work and which no standalone cluster needs.
    cargo build --release --package millstream-cli --package millstream-examples \
        --no-default-features --bin millstream --example word_count
    binaries=${CARGO_TARGET_DIR:-target}/release
    [[ $binaries == /* ]] || binaries=$PWD/$binaries
    engine=$binaries/millstream
fi
word_count=$binaries/examples/word_count
[[ -x $word_count ]] || word_count=$binaries/word_count

home=$(mktemp -d "${TMPDIR:-/tmp}/millstream-quickstart.XXXXXX")
export MILLSTREAM_BINARY=$engine MILLSTREAM_CONF_DIR=$home/conf
export MILLSTREAM_LOG_DIR=$home/log MILLSTREAM_PID_DIR=$home/pid

stop() {
    local status=$?
    trap - EXIT
    if [[ -n $keep && $status == 0 ]]; then
        exit 0
    fi
    scripts/taskmanager.sh stop-all || status=1
    scripts/jobmanager.sh stop-all || status=1
    if ((status == 0)); then
        rm -rf "$home"
    else
        echo "The logs of this cluster are in $home/log." >&2
    fi
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT TERM

# Sets FREE_PORT to a port on which nothing listens now.
find_free_port() {
    while :; do
        FREE_PORT=$((20000 + RANDOM % 12000))
        (: <"/dev/tcp/127.0.0.1/$FREE_PORT") 2>/dev/null || return 0
    done
}

mkdir -p "$home"/{conf,tmp}
find_free_port
rpc_port=$FREE_PORT
find_free_port
rest_port=$FREE_PORT
cat >"$home/conf/config.yaml" <<CONFIG
jobmanager.rpc.address: localhost
jobmanager.rpc.port: $rpc_port
jobmanager.bind-host: localhost
taskmanager.host: localhost
taskmanager.bind-host: localhost
taskmanager.numberOfTaskSlots: 2
rest.address: localhost
rest.bind-address: localhost
rest.port: $rest_port
io.tmp.dirs: $home/tmp
CONFIG
echo localhost >"$home/conf/masters"
printf 'localhost\nlocalhost\n' >"$home/conf/workers"

scripts/start-cluster.sh

text=$home/text
# The licences that every Debian machine has; elsewhere the words of this project.
find -L /usr/share/common-licenses -type f -exec cat {} + >"$text" 2>/dev/null || :
[[ -s $text ]] || cat README.md docs/*.md >"$text"
echo
echo "Counting the $(wc -w <"$text") words of $text on 4 slots of two TaskManagers."
"$engine" run -p 4 "$word_count" --input "$text" --output "$home/counts"

echo
echo "The ten most frequent words:"
find "$home/counts" -type f ! -name '.*' -exec cat {} + |
    sort -k 2,2nr -k 1,1 | sed -n '1,10{s/^\([^ ]*\) \(.*\)/\2 \1/;p}' |
    while read -r count word; do printf '%10d  %s\n' "$count" "$word"; done
echo
echo "REST answers at http://localhost:$rest_port (try /overview and /jobs/overview)."
if [[ -n $keep ]]; then
    echo "The cluster keeps running. To look at it and to stop it:"
    echo "  export MILLSTREAM_BINARY=$engine MILLSTREAM_CONF_DIR=$home/conf"
    echo "  export MILLSTREAM_LOG_DIR=$home/log MILLSTREAM_PID_DIR=$home/pid"
    echo "  $engine list -a"
    echo "  $PWD/scripts/stop-cluster.sh && rm -r $home"
fi
