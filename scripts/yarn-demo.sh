#!/usr/bin/env bash
# Millstream on a real YARN, from nothing: starts HDFS and YARN of Hadoop 3.5.0 on this machine,
# counts the words of a text in HDFS in a session, in a cluster of one job and as an application,
# each at parallelism 1 and 4, compares the counts with those of tr and uniq, shows what YARN says,
# checks that nothing is left, and stops everything.
#
# usage: yarn-demo.sh [MEGABYTES]     the text's size, 100 unless said otherwise

set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

megabytes=${1:-100}
scripts/setup.sh --test
echo "Building Millstream (release)."
cargo build --release --workspace --bin millstream --bin hadoop --example word_count
binaries=${CARGO_TARGET_DIR:-target}/release
[[ $binaries == /* ]] || binaries=$PWD/$binaries

home=$(mktemp -d "${TMPDIR:-/tmp}/millstream-yarn-demo.XXXXXX")
export MILLSTREAM_HADOOP_DIR=$home/hadoop MILLSTREAM_CONF_DIR=$home/conf
stop() {
    local status=$?
    trap - EXIT
    scripts/hadoop.sh stop || status=1
    if ((status == 0)); then rm -rf "$home"; else echo "What is left is in $home." >&2; fi
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT TERM

fail() {
    echo "error: $*" >&2
    exit 1
}

# ---- the cluster, the text and what is expected ------------------------------------------------

mkdir "$home/conf"
cat >"$home/conf/config.yaml" <<CONFIG
jobmanager.memory.process.size: 512m
taskmanager.memory.process.size: 1024m
taskmanager.numberOfTaskSlots: 2
yarn.properties-file.location: $home
CONFIG
# What a release has: without the tables of a debugger there is a quarter to bring to the nodes.
strip -o "$home/millstream" "$binaries/millstream"
strip -o "$home/word_count" "$binaries/examples/word_count"
export MILLSTREAM_BINARY=$home/millstream

echo "Starting HDFS and YARN."
scripts/hadoop.sh start --node-managers 2 >"$home/started"
cat "$home/started"
eval "$(grep '^export ' "$home/started")"
namenode=$(sed -n 's/^HDFS *//p' "$home/started")
web=$(sed -n "s/^NameNode's web *//p" "$home/started")
yarn=$(sed -n "s/^YARN's web *//p" "$home/started")

text=$home/text
while read -r file; do cat "$file"; done < <(find /usr/share -type f -readable | LC_ALL=C sort) |
    head -c "$((megabytes << 20))" >"$text" || true
echo "The text has $(stat -c %s "$text") bytes."
LC_ALL=C tr -cs 'A-Za-z0-9' '\n' <"$text" | LC_ALL=C tr 'A-Z' 'a-z' | grep . |
    LC_ALL=C sort | uniq -c | awk '{ print $2, $1 }' | LC_ALL=C sort >"$home/expected"
hdfs() { # METHOD PATH OPERATION [curl's options ...]
    local method=$1 path=$2 operation=$3
    shift 3
    curl -sSfL -X "$method" "$web/webhdfs/v1$path?op=$operation&user.name=$HADOOP_USER_NAME" "$@"
}
hdfs PUT "/user/$HADOOP_USER_NAME/text" CREATE -T "$text"
hdfs PUT "/user/$HADOOP_USER_NAME/word_count" "CREATE&permission=755" -T "$home/word_count"
input=$namenode/user/$HADOOP_USER_NAME/text

names() { # the names in a directory of HDFS
    hdfs GET "$1" LISTSTATUS 2>/dev/null | grep -o '"pathSuffix":"[^"]*"' | cut -d'"' -f4 || true
}
compare() { # DIRECTORY, in the user's home
    local file
    for file in $(names "/user/$HADOOP_USER_NAME/$1"); do
        hdfs GET "/user/$HADOOP_USER_NAME/$1/$file" OPEN
    done | LC_ALL=C sort >"$home/counts"
    cmp "$home/expected" "$home/counts" || fail "$1 holds other counts than expected"
    echo "$1: exact, $(wc -l <"$home/counts") different words."
}
listening() { # the ports in hexadecimal that somebody listens on, and the sockets' numbers
    awk '$4 == "0A" { sub(/.*:/, "", $2); print $2, $10 }' /proc/net/tcp /proc/net/tcp6
}
ports_of_containers() {
    local pid socket
    for pid in $(pgrep -f -- "yarn-(job|task)manager --log-file $home"); do
        for socket in $(readlink "/proc/$pid/fd/"* | sed -n 's/^socket:\[\(.*\)\]$/\1/p'); do
            listening | awk -v socket="$socket" '$2 == socket { print $1 }'
        done
    done
}
id_in() { grep -om1 'application_[0-9]*_[0-9]*' "$1"; }
field() { # APPLICATION FIELD
    curl -sSf "$yarn/ws/v1/cluster/apps/$1" | grep -o "\"$2\":\"[^\"]*\"" | head -1 | cut -d'"' -f4
}
assert_succeeded() { # APPLICATION
    local end=$((SECONDS + 60))
    until [[ $(field "$1" state) == FINISHED ]]; do
        ((SECONDS < end)) || fail "$1 is $(field "$1" state), $(field "$1" diagnostics)"
        sleep 0.2
    done
    local status
    status=$(field "$1" finalStatus)
    echo "$1: $(field "$1" state)/$status, type $(field "$1" applicationType)"
    [[ $status == SUCCEEDED ]] || fail "$(field "$1" diagnostics)"
}
millstream() { "$home/millstream" "$@"; }

# ---- the modes ---------------------------------------------------------------------------------

echo
echo "A session:"
scripts/yarn-session.sh -d | tee "$home/session"
session=$(id_in "$home/session")
for parallelism in 1 4; do
    millstream run -p "$parallelism" "$home/word_count" --input "$input" \
        --output "$namenode/user/$HADOOP_USER_NAME/session-$parallelism"
    compare "session-$parallelism"
done
millstream list -a
ports=$(ports_of_containers)
[[ -n $ports ]] || fail "the session listens nowhere"
echo stop | scripts/yarn-session.sh -id "$session"
assert_succeeded "$session"

echo
echo "A cluster for each job:"
for parallelism in 1 4; do
    millstream run -t yarn-per-job -p "$parallelism" "$home/word_count" --input "$input" \
        --output "$namenode/user/$HADOOP_USER_NAME/per-job-$parallelism" | tee "$home/per-job"
    assert_succeeded "$(id_in "$home/per-job")"
    compare "per-job-$parallelism"
done

echo
echo "An application whose program is on HDFS already:"
for parallelism in 1 4; do
    millstream run-application -t yarn-application -p "$parallelism" \
        "hdfs:///user/$HADOOP_USER_NAME/word_count" --input "$input" \
        --output "$namenode/user/$HADOOP_USER_NAME/application-$parallelism" |
        tee "$home/application"
    assert_succeeded "$(id_in "$home/application")"
    compare "application-$parallelism"
done

# ---- what is left ------------------------------------------------------------------------------

echo
left() {
    curl -sSf "$yarn/ws/v1/cluster/metrics" | grep -o '"containersAllocated":[0-9]*' | cut -d: -f2
}
end=$((SECONDS + 30))
until [[ $(left) == 0 ]]; do
    ((SECONDS < end)) || fail "$(left) containers are left"
    sleep 0.2
done
processes=$(pgrep -af -- "$home/hadoop/nodemanager" | grep -vE '^[0-9]+ (\S*/)?java ' || true)
[[ -z $processes ]] || fail "processes are left: $processes"
staged=$(names "/user/$HADOOP_USER_NAME/.millstream" | grep '^application_' || true)
[[ -z $staged ]] || fail "staged files are left: $staged"
for port in $ports; do
    ! listening | grep -q "^$port " || fail "port $((16#$port)) is left"
done
echo "No container, process, port or staged file of an application is left."
