#!/usr/bin/env bash
# Starts a Flink process in a container, by the commands, variables and side effects of Flink's official image:
#
#   docker-entrypoint.sh jobmanager | standalone-job | taskmanager | history-server  [ARG...]
#   docker-entrypoint.sh help
#   docker-entrypoint.sh COMMAND [ARG...]         anything else is executed as it is
#
#   FLINK_PROPERTIES                   lines `key: value` for Flink's configuration, with $VARIABLES filled in
#   JOB_MANAGER_RPC_ADDRESS            jobmanager.rpc.address; this host's name otherwise
#   TASK_MANAGER_NUMBER_OF_TASK_SLOTS  taskmanager.numberOfTaskSlots
#   ENABLE_BUILT_IN_PLUGINS            jars of opt/ to link into plugins/, with `;` between them
#
# As in the official image, the configuration is written to $FLINK_HOME/conf whatever FLINK_CONF_DIR says, a directory
# that cannot be written to is no error, and from Flink 1.19 on a value of FLINK_PROPERTIES loses its spaces.
set -u

CONF=$FLINK_HOME/conf
declare -A SCRIPTS=([jobmanager]=jobmanager [standalone-job]=standalone-job [taskmanager]=taskmanager
    [history-server]=historyserver)

link_plugins() {
    local jar jars
    IFS=';' read -ra jars <<<"${ENABLE_BUILT_IN_PLUGINS:-}"
    for jar in "${jars[@]}"; do
        [[ -e $FLINK_HOME/opt/$jar ]] || { echo "no such plugin: $jar" >&2; exit 1; }
        mkdir -p "$FLINK_HOME/plugins/${jar%.jar}"
        ln -sf "$FLINK_HOME/opt/$jar" "$FLINK_HOME/plugins/${jar%.jar}"
    done
}

# set_options KEY=VALUE...: by Flink's own writer of config.yaml where there is one, else at the end of flink-conf.yaml.
set_options() {
    local option
    (($#)) || return 0
    if [[ -e $FLINK_HOME/bin/config-parser-utils.sh ]]; then
        "$FLINK_HOME/bin/config-parser-utils.sh" "$CONF" "$FLINK_HOME/bin" "$FLINK_HOME/lib" "${@/#/-D}"
    else
        for option in "$@"; do
            sed -i "/^ *${option%%=*} *:/d" "$CONF/flink-conf.yaml"
            echo "${option%%=*}: ${option#*=}" >>"$CONF/flink-conf.yaml"
        done
    fi
}

own_options() {
    local options=("jobmanager.rpc.address=${JOB_MANAGER_RPC_ADDRESS:-$(hostname -f)}" blob.server.port=6124
        query.server.port=6125)
    [[ -z ${TASK_MANAGER_NUMBER_OF_TASK_SLOTS:-} ]] ||
        options+=("taskmanager.numberOfTaskSlots=$TASK_MANAGER_NUMBER_OF_TASK_SLOTS")
    set_options "${options[@]}"
}

properties() {
    local line options=()
    [[ -n ${FLINK_PROPERTIES:-} ]] || return 0
    if [[ -e $FLINK_HOME/bin/config-parser-utils.sh ]]; then
        while IFS= read -r line; do
            line=$(tr -d '[:space:]' <<<"$line" | envsubst)
            [[ -z $line ]] || options+=("${line%%:*}=${line#*:}")
        done <<<"$FLINK_PROPERTIES"
        set_options "${options[@]}"
    else
        envsubst <<<"$FLINK_PROPERTIES" >>"$CONF/flink-conf.yaml"
    fi
}

link_plugins
own_options
properties
if [[ ${1:-} == help ]]; then
    echo "usage: $(basename "$0") jobmanager | standalone-job | taskmanager | history-server [ARG...]"
    echo "       $(basename "$0") COMMAND [ARG...]"
elif [[ -n ${1:-} && -n ${SCRIPTS[$1]:-} ]]; then
    exec "$FLINK_HOME/bin/${SCRIPTS[$1]}.sh" start-foreground "${@:2}"
else
    exec "$@"
fi
