#!/usr/bin/env bash
# Real HDFS and YARN of Hadoop 3.5.0 on this machine: the same daemons, started by the same code, as
# in the tests.
#
# usage: hadoop.sh start [--node-managers N] [--defaults] [KEY=VALUE ...]
#        hadoop.sh stop | status
#        hadoop.sh kill | pause | resume | restart DAEMON
# `hadoop.sh help` says more.

set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
exec cargo run --quiet --release --package millstream-integration --bin hadoop -- "$@"
