# Finds the engine for the other scripts, which source this file; `$self` is the path of the script
# without links. In an unpacked distribution the scripts lie in bin/ beside the engine; in a
# checkout they lie in scripts/ and the engine lies where cargo puts it.
#
# What a script does is written in the engine, not here: it reads the configuration, looks at
# everything first, and starts and stops the processes.
#
# Environment: MILLSTREAM_CONF_DIR, MILLSTREAM_LOG_DIR, MILLSTREAM_PID_DIR and
# MILLSTREAM_IDENT_STRING move the things they name; MILLSTREAM_BINARY names the engine;
# MILLSTREAM_START_TIMEOUT and MILLSTREAM_STOP_TIMEOUT are in seconds.

bin=${self%/*}
MILLSTREAM_HOME=${bin%/*}
if [ -f "$MILLSTREAM_HOME/Cargo.toml" ]; then
    engine=${MILLSTREAM_BINARY:-${CARGO_TARGET_DIR:-$MILLSTREAM_HOME/target}/release/millstream}
    MILLSTREAM_CONF_DIR=${MILLSTREAM_CONF_DIR:-$bin/conf}
else
    engine=${MILLSTREAM_BINARY:-$bin/millstream}
    MILLSTREAM_CONF_DIR=${MILLSTREAM_CONF_DIR:-$MILLSTREAM_HOME/conf}
fi
# A name without a slash would be looked for on the PATH.
case $engine in
*/*) ;;
*) engine=./$engine ;;
esac
export MILLSTREAM_HOME MILLSTREAM_CONF_DIR
if [ ! -x "$engine" ]; then
    printf '%s\n' "error: no engine at $engine: \`cargo build --release --workspace --bins\` makes it" >&2
    exit 1
fi
