#!/usr/bin/env bash
# Stops what start-cluster.sh started: one TaskManager per line of conf/workers, then the
# JobManagers of conf/masters. TaskManagers that were added by hand stay.

self=$0
[[ -L $self ]] && self=$(readlink -f "$self")
[[ $self == */* ]] || self=./$self
# shellcheck source=config.sh
source "${self%/*}/config.sh"
find_home

remote=()
# Stops one daemon for each line of file $1, with script $2.
stop_hosts() {
    local host here=0
    read_hosts "$1"
    for host in "${HOSTS[@]}"; do
        if is_local "${host%%:*}"; then
            ((here += 1))
        else
            on_host "${host%%:*}" "$2" stop &
            remote+=("$!")
        fi
    done
    ((here == 0)) || stop_daemons "${2%.sh}" "$here"
}

stop_hosts workers taskmanager.sh
stop_hosts masters jobmanager.sh
failed=0
for pid in "${remote[@]}"; do
    wait "$pid" || failed=1
done
exit "$failed"
