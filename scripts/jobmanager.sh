#!/bin/sh
# Starts or stops a JobManager on this host.
# `jobmanager.sh --help` says how it is called.

self=$(readlink -f "$0") || exit 1
# shellcheck source=engine.sh
. "${self%/*}/engine.sh"
exec "$engine" script jobmanager.sh "$@"
