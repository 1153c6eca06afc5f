#!/usr/bin/env bash
# Starts or stops a JobManager on this host.

USAGE='usage: jobmanager.sh (start|start-foreground) [host] [webui-port] [-D key=value ...]
       jobmanager.sh (stop|stop-all)'

self=$0
[[ -L $self ]] && self=$(readlink -f "$self")
[[ $self == */* ]] || self=./$self
# shellcheck source=config.sh
source "${self%/*}/config.sh"

command=$1
shift
arguments=()
if [[ -n $1 && $1 != -* ]]; then
    arguments+=(-D "jobmanager.rpc.address=$1" -D "rest.address=$1")
    shift
    if [[ -n $1 && $1 != -* ]]; then
        arguments+=(-D "rest.port=$1")
        shift
    fi
fi
arguments+=("$@")

case $command in
start | start-foreground | stop | stop-all) find_home ;;
*) fail "unknown command \`$command\`"$'\n'"$USAGE" ;;
esac

case $command in
start) start_jobmanager "${arguments[@]}" ;;
start-foreground) exec "$BINARY" jobmanager "${arguments[@]}" ;;
stop) stop_daemons jobmanager 1 ;;
stop-all) stop_daemons jobmanager all ;;
esac
