#!/bin/sh
# Starts a standalone cluster: the JobManager of conf/masters, then one TaskManager per line of
# conf/workers.
# `start-cluster.sh --help` says how it is called.

self=$(readlink -f "$0") || exit 1
# shellcheck source=engine.sh
. "${self%/*}/engine.sh"
exec "$engine" script start-cluster.sh "$@"
