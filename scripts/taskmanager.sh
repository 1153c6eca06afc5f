#!/usr/bin/env bash
# Starts or stops TaskManagers on this host; each `start` adds one, `stop` ends the newest.

USAGE='usage: taskmanager.sh (start|start-foreground) [-D key=value ...]
       taskmanager.sh (stop|stop-all)'

self=$0
[[ -L $self ]] && self=$(readlink -f "$self")
[[ $self == */* ]] || self=./$self
# shellcheck source=config.sh
source "${self%/*}/config.sh"

command=$1
shift

case $command in
start | start-foreground | stop | stop-all) find_home ;;
*) fail "unknown command \`$command\`"$'\n'"$USAGE" ;;
esac

case $command in
start) start_taskmanagers 1 "$@" ;;
start-foreground) exec "$BINARY" taskmanager "$@" ;;
stop) stop_daemons taskmanager 1 ;;
stop-all) stop_daemons taskmanager all ;;
esac
