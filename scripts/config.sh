#!/usr/bin/env bash
# Shared by the scripts that start and stop daemons; sourced, never run.
#
# A cluster should be up in a tenth of a second, so nothing here starts a process unless it must:
# the configuration is read, ports are probed and the waiting is done by bash itself. Bash 4.2
# is enough, because old Hadoop nodes have no newer one.
#
# Environment: MILLSTREAM_CONF_DIR, MILLSTREAM_LOG_DIR, MILLSTREAM_PID_DIR and
# MILLSTREAM_IDENT_STRING move the things they name; MILLSTREAM_BINARY names the engine;
# MILLSTREAM_START_TIMEOUT and MILLSTREAM_STOP_TIMEOUT are in seconds.

declare -A CONFIG

fail() {
    echo "error: $*" >&2
    exit 1
}

# ---- places and configuration ------------------------------------------------------------------

# Sets BIN_DIR, MILLSTREAM_HOME, CONF_DIR, LOG_DIR, PID_DIR, IDENT and BINARY. In an unpacked
# distribution the scripts lie in bin/ beside the engine; in a checkout they lie in scripts/ and
# the engine lies where cargo puts it.
find_home() {
    local target log_dir
    cd -P "${BASH_SOURCE[0]%/*}" || fail "failed to enter ${BASH_SOURCE[0]%/*}"
    BIN_DIR=$PWD
    cd "$OLDPWD" || fail "failed to go back to $OLDPWD"
    MILLSTREAM_HOME=${BIN_DIR%/*}
    if [[ -f $MILLSTREAM_HOME/Cargo.toml ]]; then
        target=${CARGO_TARGET_DIR:-$MILLSTREAM_HOME/target}
        BINARY=${MILLSTREAM_BINARY:-$target/release/millstream}
        CONF_DIR=${MILLSTREAM_CONF_DIR:-$BIN_DIR/conf}
        log_dir=$target/log
    else
        BINARY=${MILLSTREAM_BINARY:-$BIN_DIR/millstream}
        CONF_DIR=${MILLSTREAM_CONF_DIR:-$MILLSTREAM_HOME/conf}
        log_dir=$MILLSTREAM_HOME/log
    fi
    [[ $CONF_DIR == /* ]] || CONF_DIR=$PWD/$CONF_DIR
    read_config
    LOG_DIR=${MILLSTREAM_LOG_DIR:-${CONFIG[env.log.dir]:-$log_dir}}
    PID_DIR=${MILLSTREAM_PID_DIR:-${CONFIG[env.pid.dir]:-/tmp}}
    IDENT=${MILLSTREAM_IDENT_STRING:-${USER:-$LOGNAME}}
    [[ -n $IDENT ]] || IDENT=$(id -un)
    START_TIMEOUT=${MILLSTREAM_START_TIMEOUT:-60}
    STOP_TIMEOUT=${MILLSTREAM_STOP_TIMEOUT:-10}
    export MILLSTREAM_HOME MILLSTREAM_CONF_DIR=$CONF_DIR MILLSTREAM_LOG_DIR=$LOG_DIR
}

# Fills CONFIG from the configuration file and MILLSTREAM_PROPERTIES, in the engine's order.
read_config() {
    local file=$CONF_DIR/config.yaml
    [[ -f $file ]] || file=$CONF_DIR/flink-conf.yaml
    [[ -f $file ]] || fail "no config.yaml in $CONF_DIR; set MILLSTREAM_CONF_DIR"
    read_settings <"$file"
    [[ -z $MILLSTREAM_PROPERTIES ]] || read_settings <<<"$MILLSTREAM_PROPERTIES"
}

# Enters the scalars of the YAML on standard input into CONFIG, under their flat keys. The engine
# reads the same again and judges it; what this reader does not understand, it skips.
read_settings() {
    local pattern='^( *)([^][:space:]"#'\''-][^:#]*|"[^"]*"|'\''[^'\'']*'\''):([[:space:]]+(.*))?$'
    local line key indent depth=0
    local -a indents prefixes
    while IFS= read -r line || [[ -n $line ]]; do
        [[ ${line%$'\r'} =~ $pattern ]] || continue
        indent=${#BASH_REMATCH[1]}
        line=${BASH_REMATCH[4]}
        scalar "${BASH_REMATCH[2]}"
        key=$REPLY
        scalar "$line"
        while ((depth > 0 && indents[depth] >= indent)); do ((depth -= 1)); done
        if [[ -n $REPLY ]]; then
            CONFIG["${prefixes[depth]}$key"]=$REPLY
        else
            prefixes[depth + 1]=${prefixes[depth]}$key.
            ((depth += 1))
            indents[depth]=$indent
        fi
    done
}

# Sets REPLY to the YAML scalar $1 without blanks, trailing comment and quotes.
scalar() {
    REPLY=${1#"${1%%[![:space:]]*}"}
    case $REPLY in
    \"*) REPLY=${REPLY#\"} REPLY=${REPLY%%\"*} ;;
    \'*) REPLY=${REPLY#\'} REPLY=${REPLY%%\'*} ;;
    '#'*) REPLY='' ;;
    *)
        REPLY=${REPLY%%[[:space:]]#*}
        REPLY=${REPLY%"${REPLY##*[![:space:]]}"}
        ;;
    esac
}

# Enters the arguments -D key=value into CONFIG, so that the scripts see what the daemon sees.
read_dynamic_properties() {
    local property
    while (($# > 0)); do
        property=''
        case $1 in
        -D) property=$2 && shift ;;
        -D*) property=${1#-D} ;;
        esac
        [[ $property == ?*=* ]] && CONFIG["${property%%=*}"]=${property#*=}
        shift
    done
}

# Sets HOSTS to the lines of file $1 of the configuration, without comments.
read_hosts() {
    local line
    HOSTS=()
    [[ -f $CONF_DIR/$1 ]] || fail "no file $1 in $CONF_DIR"
    while IFS= read -r line || [[ -n $line ]]; do
        scalar "${line%$'\r'}"
        [[ -n $REPLY ]] && HOSTS+=("$REPLY")
    done <"$CONF_DIR/$1"
    ((${#HOSTS[@]} > 0)) || fail "$CONF_DIR/$1 names no host"
}

is_local() {
    case $1 in
    localhost | localhost.* | 127.* | ::1 | "$HOSTNAME" | "${HOSTNAME%%.*}") return 0 ;;
    *) return 1 ;;
    esac
}

# Runs script $2 with the arguments after it on host $1.
on_host() {
    local host=$1 command
    shift
    printf -v command '%q ' env "MILLSTREAM_CONF_DIR=$CONF_DIR" "$BIN_DIR/$1" "${@:2}"
    # shellcheck disable=SC2086 # the options are several words
    ssh -n ${CONFIG[env.ssh.opts]} "$host" -- "$command" || fail "failed on $host: $*"
}

# ---- processes ---------------------------------------------------------------------------------

# Waits 5 ms. The pipe never has data, so that the built-in read waits and no process is started.
nap() {
    [[ -n $NAP_FD ]] || exec {NAP_FD}<> <(:)
    read -r -t 0.005 -u "$NAP_FD" || :
}

# Whether process $2 is a living daemon $1, and not a zombie or a stranger with its old pid.
is_daemon() {
    [[ $2 =~ ^[1-9][0-9]*$ && -r /proc/$2/cmdline ]] || return 1
    local argument position=0
    while IFS= read -r -d '' argument && ((position < 4)); do
        ((position > 0)) && [[ $argument == "$1" ]] && return 0
        ((position += 1))
    done 2>/dev/null <"/proc/$2/cmdline"
    return 1
}

# Sets SERVICE and PID_FILE of daemon $1 (`jobmanager` or `taskmanager`, the engine's words), and
# PIDS to what the pid file says: the position of a line is the number of the instance.
read_pids() {
    case $1 in
    jobmanager) SERVICE=standalonesession ;;
    taskmanager) SERVICE=taskexecutor ;;
    esac
    PID_FILE=$PID_DIR/millstream-$IDENT-$SERVICE.pid
    PIDS=()
    [[ -e $PID_FILE || -L $PID_FILE ]] || return 0
    # The directory may be everybody's: never signal a process because a stranger named it.
    [[ -O $PID_FILE && ! -L $PID_FILE ]] || fail "$PID_FILE belongs to another user"
    mapfile -t PIDS <"$PID_FILE"
}

# Replaces the pid file by PIDS; an empty list removes it.
write_pids() {
    if ((${#PIDS[@]} > 0)); then
        printf '%s\n' "${PIDS[@]}" >"$PID_FILE" || fail "failed to write $PID_FILE"
    elif [[ -e $PID_FILE ]]; then
        rm -f "$PID_FILE"
    fi
}

# One start or stop at a time in a pid directory. The lock is the directory and leaves no file.
lock_pids() {
    [[ -d $PID_DIR ]] || mkdir -p "$PID_DIR" || fail "failed to make the pid directory $PID_DIR"
    exec {LOCK_FD}<"$PID_DIR" || fail "failed to open the pid directory $PID_DIR"
    flock -w 30 "$LOCK_FD" || fail "another start or stop has held $PID_DIR for 30 s"
}

unlock_pids() {
    exec {LOCK_FD}<&-
}

# ---- start -------------------------------------------------------------------------------------

# Moves file $1 of an earlier daemon aside, under the time of the move, and keeps the newest ten.
rotate() {
    [[ -s $1 ]] || return 0
    local stamp keep=${CONFIG[env.log.max]:-10}
    printf -v stamp '%(%Y%m%d-%H%M%S)T' -1
    mv -f "$1" "$1.$stamp-$$"
    local -a old=("$1".[0-9]*)
    ((${#old[@]} <= keep)) || rm -f "${old[@]:0:${#old[@]}-keep}"
}

# Starts daemon $1 with the arguments after it in the background and enters it in the pid file.
# Sets PID and LOG. The daemon leads a process group of its own and outlives the terminal.
launch() {
    local daemon=$1 pid running=0
    shift
    [[ -x $BINARY ]] ||
        fail "no engine at $BINARY: \`cargo build --release --workspace --bins\` makes it"
    [[ -d $LOG_DIR ]] || mkdir -p "$LOG_DIR" || fail "failed to make the log directory $LOG_DIR"
    lock_pids
    read_pids "$daemon"
    for pid in "${PIDS[@]}"; do
        is_daemon "$daemon" "$pid" && ((running += 1))
    done
    ((running > 0)) || PIDS=()
    ((running == 0)) ||
        echo "[INFO] $running instance(s) of $SERVICE are already running on $HOSTNAME."
    LOG=$LOG_DIR/millstream-$IDENT-$SERVICE-${#PIDS[@]}-$HOSTNAME.log
    rotate "$LOG"
    rotate "${LOG%.log}.out"
    echo "Starting $SERVICE daemon on host $HOSTNAME."
    [[ -n $NAP_FD ]] || nap
    set -m
    trap '' HUP
    "$BINARY" "$daemon" --log-file "$LOG" "$@" \
        </dev/null >"${LOG%.log}.out" 2>&1 {LOCK_FD}<&- {NAP_FD}<&- &
    PID=$!
    trap - HUP
    set +m
    PIDS+=("$PID")
    write_pids
    unlock_pids
}

# Sets REST_SCHEME, REST_HOST (for people), REST_PROBE (for us) and REST_PORT; the port is empty
# when the daemon chooses it.
find_rest() {
    REST_SCHEME=http
    [[ ${CONFIG[security.ssl.rest.enabled]} == true ]] && REST_SCHEME=https
    REST_HOST=${CONFIG[rest.address]:-${CONFIG[jobmanager.rpc.address]:-localhost}}
    REST_PROBE=${CONFIG[rest.bind-address]:-localhost}
    [[ $REST_PROBE != 0.0.0.0 ]] || REST_PROBE=127.0.0.1
    [[ $REST_PROBE != :: ]] || REST_PROBE=::1
    REST_PORT=${CONFIG[rest.bind-port]:-${CONFIG[rest.port]:-8081}}
    [[ $REST_PORT =~ ^[1-9][0-9]*$ ]] || REST_PORT=''
}

# Takes the address from the line in which the daemon told it. Only needed for a chosen port.
find_rest_in_log() {
    local line
    [[ -r $LOG ]] || return 1
    while IFS= read -r line; do
        if [[ $line =~ 'Web frontend listening at '(https?)://([^[:space:]]+):([0-9]+) ]]; then
            REST_SCHEME=${BASH_REMATCH[1]} REST_HOST=${BASH_REMATCH[2]}
            REST_PORT=${BASH_REMATCH[3]}
            return 0
        fi
    done <"$LOG"
    return 1
}

# Whether anything accepts connections on host $1, port $2. Leaves the connection in REST_FD.
connects() {
    { exec {REST_FD}<>"/dev/tcp/$1/$2"; } 2>/dev/null
}

# Whether our REST answers; with TLS an open port must do, because bash speaks no TLS.
rest_answers() {
    local status=''
    [[ -n $REST_PORT ]] || find_rest_in_log || return 1
    connects "$REST_PROBE" "$REST_PORT" || return 1
    if [[ $REST_SCHEME == http ]]; then
        trap '' PIPE
        printf 'GET /v1/overview HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' \
            "$REST_HOST:$REST_PORT" 2>/dev/null 1>&"$REST_FD"
        IFS= read -r -t 2 -u "$REST_FD" status
        trap - PIPE
    else
        status='HTTP/1.1 200'
    fi
    exec {REST_FD}>&-
    [[ $status == HTTP/1.?' 200'* ]]
}

# Says why a daemon that we launched is gone, takes it out of the pid file, and ends in failure.
# Arguments: daemon, pid, log.
report_exit() {
    local code=0 pid file end
    wait "$2" 2>/dev/null || code=$?
    end="ended with exit code $code"
    ((code <= 128)) || end="was killed by signal $((code - 128))"
    lock_pids
    read_pids "$1"
    local -a rest=()
    for pid in "${PIDS[@]}"; do
        [[ $pid == "$2" ]] || rest+=("$pid")
    done
    PIDS=("${rest[@]}")
    write_pids
    unlock_pids
    echo "error: the $SERVICE daemon on host $HOSTNAME $end while starting" >&2
    for file in "$3" "${3%.log}.out"; do
        [[ -s $file ]] || continue
        echo "the last lines of $file:" >&2
        tail -n 12 "$file" | cut -c 1-500 >&2
    done
    exit 1
}

# Starts a JobManager here and waits until its REST answers. Arguments go to the daemon.
start_jobmanager() {
    read_dynamic_properties "$@"
    find_rest
    if [[ -n $REST_PORT ]] && connects "$REST_PROBE" "$REST_PORT"; then
        fail "port $REST_PORT on $REST_PROBE is taken; set rest.port to a free one," \
            "or stop the JobManager that runs there"
    fi
    launch jobmanager "$@"
    local deadline=$((SECONDS + START_TIMEOUT))
    until rest_answers; do
        kill -0 "$PID" 2>/dev/null || report_exit jobmanager "$PID" "$LOG"
        ((SECONDS <= deadline)) || fail "REST does not answer after $START_TIMEOUT s; see $LOG"
        nap
    done
    echo "JobManager Web Interface: $REST_SCHEME://$REST_HOST:$REST_PORT"
}

# Whether the log $1 of a TaskManager says that the JobManager knows it.
is_registered() {
    local line
    [[ -r $1 ]] || return 1
    while IFS= read -r line; do
        [[ $line == *'Successful registration at resource manager'* ]] && return 0
    done <"$1"
    return 1
}

# Starts $1 TaskManagers here with the arguments after it, and waits until each has registered or
# has lived for 100 ms: it may well be started before its JobManager.
start_taskmanagers() {
    local count=$1 number naps=0
    local -a pids=() logs=()
    shift
    read_dynamic_properties "$@"
    for ((number = 0; number < count; number++)); do
        launch taskmanager "$@"
        pids+=("$PID")
        logs+=("$LOG")
    done
    for ((number = 0; number < count; number++)); do
        until is_registered "${logs[number]}" || ((naps >= 20)); do
            kill -0 "${pids[number]}" 2>/dev/null || break
            nap
            ((naps += 1))
        done
        kill -0 "${pids[number]}" 2>/dev/null ||
            report_exit taskmanager "${pids[number]}" "${logs[number]}"
    done
}

# ---- stop --------------------------------------------------------------------------------------

# Stops the newest $2 daemons $1 of this host, or `all`: SIGTERM, then SIGKILL after a deadline.
stop_daemons() {
    local daemon=$1 left=$2 pid
    local -a stopping=()
    lock_pids
    read_pids "$daemon"
    [[ $left == all ]] && left=${#PIDS[@]}
    while ((left > 0 && ${#PIDS[@]} > 0)); do
        pid=${PIDS[${#PIDS[@]} - 1]}
        unset "PIDS[${#PIDS[@]} - 1]"
        if is_daemon "$daemon" "$pid" && kill -TERM "$pid" 2>/dev/null; then
            echo "Stopping $SERVICE daemon (pid: $pid) on host $HOSTNAME."
            stopping+=("$pid")
            ((left -= 1))
        else
            echo "No $SERVICE daemon (pid: $pid) is running anymore on $HOSTNAME."
        fi
    done
    ((${#stopping[@]} > 0)) || echo "No $SERVICE daemon to stop on host $HOSTNAME."
    local deadline=$((SECONDS + STOP_TIMEOUT))
    for pid in "${stopping[@]}"; do
        while is_daemon "$daemon" "$pid"; do
            if ((SECONDS > deadline)); then
                echo "The $SERVICE daemon (pid: $pid) did not stop within $STOP_TIMEOUT s, killing it."
                # Its process group too: the hosts of its jobs must not outlive it.
                kill -KILL -- "-$pid" 2>/dev/null
                kill -KILL "$pid" 2>/dev/null
                while is_daemon "$daemon" "$pid"; do nap; done
                break
            fi
            nap
        done
    done
    write_pids
    unlock_pids
}
