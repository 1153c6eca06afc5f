#!/bin/sh
# Starts a session on YARN, or attaches to one.
#
# usage: yarn-session.sh [-d] [-jm MB] [-tm MB] [-s SLOTS] [-nm NAME] [-qu QUEUE] [-D key=value ...]
#        yarn-session.sh -id application_...
#        yarn-session.sh -q
# `yarn-session.sh -h` shows all options. HADOOP_CONF_DIR names Hadoop's configuration.

self=$(readlink -f "$0") || exit 1
# shellcheck source=engine.sh
. "${self%/*}/engine.sh"
exec "$engine" yarn-session "$@"
