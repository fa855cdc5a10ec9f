#!/usr/bin/env bash
# Runs the example job once in a Flink image to be, so that later JVMs start with their classes archived.
#
#   quick.sh BASE LAYER_DIR JOB_JAR BASE_YAML
#
# For tests/setup.sh, inside namespaces of its own: mounts LAYER_DIR/upper over BASE and writes into it, below
# /opt/flink/quick, java.args for JDK_JAVA_OPTIONS and the archive that it names. The archive is for the class path that
# Flink's scripts give, and has the classes of a JobManager, also of one in native mode, and of a TaskManager.
set -euo pipefail

base=$1 out=$2 job=$3 yaml=$4
root=$out/merged
standalone=org.apache.flink.container.entrypoint.StandaloneApplicationClusterEntryPoint
native=org.apache.flink.kubernetes.entrypoint.KubernetesApplicationClusterEntrypoint
task_manager=org.apache.flink.runtime.taskexecutor.TaskManagerRunner

ip link set lo up
hostname localhost
mount -t overlay overlay -o "lowerdir=$base,upperdir=$out/upper,workdir=$out/work" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 444 "$root/dev/random" c 1 8
mknod -m 444 "$root/dev/urandom" c 1 9
ln -s /proc/self/fd "$root/dev/fd"

echo "127.0.0.1 localhost" >"$root/etc/hosts"
mkdir -p "$root/tmp/usrlib" "$root/tmp/conf"
cp "$job" "$root/tmp/usrlib/"
{
    cat "$yaml"
    printf '%s\n' "rest.port: 8081" "jobmanager.rpc.port: 6123" "execution.checkpointing.interval: 500ms" \
        "execution.checkpointing.dir: file:///tmp/checkpoints" "state.checkpoints.dir: file:///tmp/checkpoints" \
        "kubernetes.cluster-id: quick" "kubernetes.namespace: quick"
} | tee "$root/tmp/conf/config.yaml" >"$root/tmp/conf/flink-conf.yaml"
cp "$root"/opt/flink/conf/log4j-console.properties "$root/tmp/conf/"
chmod -R a+rwX "$root/tmp"

# Goes before a command: as Flink's user.
in_image=(chroot --userspec=9999:9999 "$root" env -i PATH=/bin:/usr/bin HOME=/tmp FLINK_CONF_DIR=/tmp/conf
    FLINK_LIB_DIR=/opt/flink/lib FLINK_PLUGINS_DIR=/opt/flink/plugins)

opens=$(sed -n 's/^[^-]*\(--add-exports=.*[A-Z]\).*$/\1/p' "$root"/opt/flink/conf/*.yaml | head -n 1)
# As bin/config.sh has it, which finds Flink's home by the name of the script that reads it.
path=$("${in_image[@]}" bash -c 'source /opt/flink/bin/config.sh >&2; echo "$(constructFlinkClassPath):$INTERNAL_HADOOP_CLASSPATHS"' \
    /opt/flink/bin/jobmanager.sh)

# What every JVM gets that lists the classes it loads, in the file whose name comes next.
listing=(timeout 300 java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 $opens -cp "$path" -Dlog.file=/tmp/flink.file
    -Dlog4j.configurationFile=file:/tmp/conf/log4j-console.properties)

"${in_image[@]}" "${listing[@]}" -XX:DumpLoadedClassList=/tmp/tm.classes $task_manager --configDir /tmp/conf \
    >"$root/tmp/tm.log" 2>&1 &
tm=$!
# A bounded job: the JobManager ends by itself.
"${in_image[@]}" ln -s /tmp/usrlib/example-job.jar /opt/flink/usrlib/example-job.jar
"${in_image[@]}" "${listing[@]}" -XX:DumpLoadedClassList=/tmp/jm.classes $standalone --configDir /tmp/conf \
    --job-classname io.drey.example.ExampleJob --out /tmp/out --rate 1000 --count 3000 >"$root/tmp/jm.log" 2>&1 ||
    { tail -n 20 "$root"/tmp/tm.log "$root"/tmp/jm.log; exit 1; }
kill $tm
wait $tm || true
rm "$root/opt/flink/usrlib/example-job.jar"
# There is no API server: it ends soon, with the classes of its client loaded.
"${in_image[@]}" "${listing[@]}" -XX:DumpLoadedClassList=/tmp/native.classes $native --configDir /tmp/conf \
    >"$root/tmp/native.log" 2>&1 || true

sort -u "$root"/tmp/*.classes >"$root/tmp/all"
"${in_image[@]}" java -Xshare:dump -XX:+UseSerialGC -XX:SharedClassListFile=/tmp/all -XX:SharedArchiveFile=/opt/flink/quick/flink.jsa \
    -cp "$path" >"$root/tmp/dump.log" 2>&1 || { tail -n 40 "$root/tmp/dump.log"; exit 1; }
printf '%s\n' -XX:SharedArchiveFile=/opt/flink/quick/flink.jsa -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xlog:disable \
    -Xlog:all=error:stderr >"$root/opt/flink/quick/java.args"
"${in_image[@]}" java @/opt/flink/quick/java.args -version
