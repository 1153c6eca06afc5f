#!/bin/sh
# Runs one program with a JobManager of its own on this host.
# `standalone-job.sh --help` says how it is called.

self=$(readlink -f "$0") || exit 1
# shellcheck source=engine.sh
. "${self%/*}/engine.sh"
exec "$engine" script standalone-job.sh "$@"
