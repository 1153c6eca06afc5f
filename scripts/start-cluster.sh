#!/usr/bin/env bash
# Starts a standalone cluster: JobManagers on the hosts of conf/masters, then one TaskManager per
# line of conf/workers. Lines that name this host need no ssh.
#
# usage: start-cluster.sh [-D key=value ...]     (passed to every daemon of this host)

self=$0
[[ -L $self ]] && self=$(readlink -f "$self")
[[ $self == */* ]] || self=./$self
# shellcheck source=config.sh
source "${self%/*}/config.sh"
find_home

echo "Starting cluster."

# Without high availability there is one master, and the configuration says where it listens.
# With it, each master listens where its line says.
read_hosts masters
availability=${CONFIG[high-availability.type]:-${CONFIG[high-availability]:-none}}
if [[ ${availability,,} == none ]]; then
    ((${#HOSTS[@]} == 1)) ||
        fail "conf/masters has ${#HOSTS[@]} lines, but high-availability.type is not set"
    host=${HOSTS[0]%%:*}
    if is_local "$host"; then
        start_jobmanager "$@"
    else
        on_host "$host" jobmanager.sh start
    fi
else
    for master in "${HOSTS[@]}"; do
        host=${master%%:*}
        port=${master#"$host"}
        if is_local "$host"; then
            # A subshell, because every master has its own address.
            (start_jobmanager -D "jobmanager.rpc.address=$host" -D "rest.address=$host" \
                ${port:+-D "rest.port=${port#:}"} "$@") || exit
        else
            on_host "$host" jobmanager.sh start "$host" ${port:+"${port#:}"}
        fi
    done
fi

read_hosts workers
here=0
remote=()
for worker in "${HOSTS[@]}"; do
    if is_local "$worker"; then
        ((here += 1))
    else
        on_host "$worker" taskmanager.sh start &
        remote+=("$!")
    fi
done
start_taskmanagers "$here" "$@"
failed=0
for pid in "${remote[@]}"; do
    wait "$pid" || failed=1
done
exit "$failed"
