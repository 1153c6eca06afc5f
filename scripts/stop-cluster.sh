#!/bin/sh
# Stops what start-cluster.sh started.
# `stop-cluster.sh --help` says how it is called.

self=$(readlink -f "$0") || exit 1
# shellcheck source=engine.sh
. "${self%/*}/engine.sh"
exec "$engine" script stop-cluster.sh "$@"
