#!/bin/sh
# Starts or stops TaskManagers on this host; each start adds one, stop ends the newest.
# `taskmanager.sh --help` says how it is called.

self=$(readlink -f "$0") || exit 1
# shellcheck source=engine.sh
. "${self%/*}/engine.sh"
exec "$engine" script taskmanager.sh "$@"
