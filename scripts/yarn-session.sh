#!/usr/bin/env bash
# Starts a session on YARN, or attaches to one.
#
# usage: yarn-session.sh [-d] [-jm MB] [-tm MB] [-s SLOTS] [-nm NAME] [-qu QUEUE] [-D key=value ...]
#        yarn-session.sh -id application_...
#        yarn-session.sh -q
# `yarn-session.sh -h` shows all options. HADOOP_CONF_DIR names Hadoop's configuration.

self=$0
[[ -L $self ]] && self=$(readlink -f "$self")
[[ $self == */* ]] || self=./$self
# shellcheck source=config.sh
source "${self%/*}/config.sh"
find_home
exec "$BINARY" yarn-session "$@"
