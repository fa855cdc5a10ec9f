#!/usr/bin/env bash
# A real Kubernetes of one node on this machine, in a network namespace of its own: nothing goes in or out.
#
#   node.sh up STATE_DIR [FLAG...]      start it, unless it is up, with more flags for the API server; waits until it is
#                                       Ready. Prints the namespace's file, kubectl and its kubeconfig
#   node.sh load STATE_DIR ARCHIVE...   import images that it does not have yet, from archives by image.py
#   node.sh exec STATE_DIR COMMAND...   run a command inside the namespace, with KUBECONFIG and kubectl
#   node.sh kubelet STATE_DIR           kill the kubelet and start it again
#   node.sh reboot STATE_DIR            shut the node down in an orderly way, as systemd does, and start its kubelet again
#   node.sh down STATE_DIR              end it with all its pods; images stay in STATE_DIR
#
# etcd, kube-apiserver, controller manager, scheduler, kube-proxy, CoreDNS, containerd and the kubelet run as plain
# processes, as root, with everything they write in STATE_DIR (logs in STATE_DIR/log). Addresses are the same in each
# namespace, so nodes with different STATE_DIRs do not meet. An `up` starts with an empty cluster.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
readonly NODE=node1 NODE_IP=10.89.0.1 POD_CIDR=10.244.0.0/24 SERVICE_CIDR=10.96.0.0/16
# Each is on another machine in a real cluster; here they share two cores.
readonly CONTROL_PLANE="etcd apiserver controller-manager scheduler kube-proxy coredns logind dbus"

die() { echo "node: error: $*" >&2; exit 1; }

# Socket paths must fit into 107 bytes, of which containerd and the kubelet take some.
use() {
    local link
    D=$(realpath -m "$1")
    if ((${#D} > 70)); then
        link=$D
        D=/tmp/drey-node-$(sha256sum <<<"$link" | cut -c1-8)
        mkdir -p "$D" "$(dirname "$link")"
        ln -sfn "$D" "$link"
    fi
    NAME=drey-$(sha256sum <<<"$D" | cut -c1-8)
    mkdir -p "$D"/{pki,log,pid,cni}
    cd "$D"
}

inside() { nsenter --net="/run/netns/$NAME" "$@"; }

kubectl() { inside "$KUBERNETES/kubectl" --kubeconfig "$D/kubeconfig" "$@"; }

# The mark in the environment tells this node's processes from all others.
spawn() {
    local name=$1
    shift
    DREY_NODE=$D setsid nsenter --net="/run/netns/$NAME" "$@" >>"log/$name" 2>&1 </dev/null 8>&- &
    echo $! >"pid/$name"
}

ours() { grep -qzxF "DREY_NODE=$D" "/proc/$1/environ" 2>/dev/null; }

# end NAME: kills the process, if it is the one that was started, and waits until it is gone.
end() {
    local pid
    pid=$(cat "pid/$1" 2>/dev/null) || return 0
    if ours "$pid"; then
        kill -9 "$pid" 2>/dev/null || true
        while ours "$pid"; do sleep 0.02; done
    fi
    rm -f "pid/$1"
}

wait_for() {
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || die "$what: not within 60 s; see $D/log"
        sleep 0.1
    done
}

# --- down ------------------------------------------------------------------------------------------------------------

# Both the one hierarchy of cgroup v2 and the several of v1.
cgroups() { compgen -G "/sys/fs/cgroup/$NAME" || compgen -G "/sys/fs/cgroup/*/$NAME" || true; }

end_pods() {
    local root pids
    for root in $(cgroups); do
        while pids=$(find "$root" -name cgroup.procs -exec cat {} + 2>/dev/null) && [[ -n $pids ]]; do
            # shellcheck disable=SC2086 # one argument for each
            kill -9 $pids 2>/dev/null || true
            sleep 0.05
        done
    done
}

# Without this the next kubelet would first clean up after the pods of a cluster that is gone.
forget_containers() {
    local containers
    [[ -S containerd.sock ]] || return 0
    containers=$(timeout 10 ctr -a containerd.sock -n k8s.io containers ls -q 2>/dev/null) || return 0
    for container in $containers; do
        timeout 10 ctr -a containerd.sock -n k8s.io tasks rm -f "$container" >/dev/null 2>&1 || true
        timeout 10 ctr -a containerd.sock -n k8s.io containers rm "$container" >/dev/null 2>&1 || true
    done
}

down() {
    local name pid mount
    for name in kubelet $CONTROL_PLANE; do end "$name"; done
    end_pods
    forget_containers
    end containerd
    # What containerd has left behind.
    for pid in $(grep -lzxF "DREY_NODE=$D" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); do
        kill -9 "$pid" 2>/dev/null || true
    done
    while read -r mount; do umount -l "$mount" 2>/dev/null || true; done \
        < <(cut -d' ' -f2 /proc/mounts | grep "^$D/" | sort -r)
    for name in $(cgroups); do find "$name" -depth -type d -exec rmdir {} + 2>/dev/null || true; done
    ip netns del "$NAME" 2>/dev/null || true
    rm -rf etcd kubelet ipam pod-logs containerd/state containerd.sock* dbus.sock
}

# --- up --------------------------------------------------------------------------------------------------------------

binaries() {
    local paths
    paths=$("$HERE/../setup.sh" kubernetes etcd coredns node)
    { read -r KUBERNETES; read -r ETCD; read -r COREDNS; read -r PAUSE; } <<<"$paths"
}

make_namespace() {
    local cgroup
    ip netns add "$NAME"
    ip -n "$NAME" link set lo up
    # A veth pair carries the node's address, since not every kernel has dummy devices.
    ip -n "$NAME" link add node0 type veth peer name node0-peer
    ip -n "$NAME" addr add "$NODE_IP/24" dev node0
    ip -n "$NAME" link set node0 up
    ip -n "$NAME" link set node0-peer up
    ip -n "$NAME" route add "$SERVICE_CIDR" dev node0
    inside sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    if [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; then
        mkdir -p "/sys/fs/cgroup/$NAME"
    else
        for cgroup in /sys/fs/cgroup/*/; do mkdir -p "$cgroup$NAME"; done
    fi
}

# certificate FILE COMMON_NAME ORGANIZATION ALTERNATIVE_NAMES
certificate() {
    openssl req -newkey rsa:2048 -nodes -keyout "pki/$1.key" -out "pki/$1.csr" -subj "/O=$3/CN=$2" 2>/dev/null
    openssl x509 -req -in "pki/$1.csr" -CA pki/ca.crt -CAkey pki/ca.key -CAcreateserial -days 3650 -out "pki/$1.crt" \
        -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$4") 2>/dev/null
}

make_certificates() {
    [[ -e pki/sa.key ]] && return
    openssl req -x509 -newkey rsa:2048 -nodes -keyout pki/ca.key -out pki/ca.crt -days 3650 -subj /CN=ca \
        -addext keyUsage=critical,keyCertSign,digitalSignature 2>/dev/null
    certificate apiserver kube-apiserver none "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
DNS:localhost,IP:127.0.0.1,IP:$NODE_IP,IP:10.96.0.1"
    certificate admin admin system:masters DNS:admin
    certificate kubelet "system:node:$NODE" system:nodes "DNS:$NODE,IP:$NODE_IP"
    openssl genrsa -out pki/sa.key 2048 2>/dev/null
}

# The API server shows webhooks that ask for it a certificate of the cluster's CA.
webhooks_clients() {
    cat >admission.kubeconfig <<END
apiVersion: v1
kind: Config
users: [{name: "*", user: {client-certificate: $D/pki/apiserver.crt, client-key: $D/pki/apiserver.key}}]
END
    cat >admission.yaml <<END
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
  - name: MutatingAdmissionWebhook
    configuration:
      apiVersion: apiserver.config.k8s.io/v1
      kind: WebhookAdmissionConfiguration
      kubeConfigFile: $D/admission.kubeconfig
END
}

# kubeconfig USER FILE
kubeconfig() {
    cat >"$2" <<END
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://$NODE_IP:6443", certificate-authority: $D/pki/ca.crt}}]
users: [{name: u, user: {client-certificate: $D/pki/$1.crt, client-key: $D/pki/$1.key}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
END
}

start_containerd() {
    cat >cni/10-bridge.conflist <<END
{"cniVersion": "0.4.0", "name": "bridge", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$D/ipam", "ranges": [[{"subnet": "$POD_CIDR"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
    # restrict_oom_score_adj: no sandbox starts without it where CAP_SYS_RESOURCE is missing, as in many CI machines.
    cat >containerd.toml <<END
version = 2
root = "$D/containerd/root"
state = "$D/containerd/state"
[grpc]
address = "$D/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
sandbox_image = "drey.test/pause:1"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$D/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
END
    spawn containerd containerd --config containerd.toml
}

start_api() {
    webhooks_clients
    spawn etcd "$ETCD" --data-dir "$D/etcd" --listen-client-urls http://127.0.0.1:2379 \
        --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync
    spawn apiserver "$KUBERNETES/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 \
        --advertise-address="$NODE_IP" --service-cluster-ip-range="$SERVICE_CIDR" --authorization-mode=Node,RBAC \
        --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt \
        --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=pki/sa.key \
        --service-account-signing-key-file=pki/sa.key --kubelet-client-certificate=pki/admin.crt \
        --kubelet-client-key=pki/admin.key --kubelet-preferred-address-types=InternalIP --allow-privileged \
        --admission-control-config-file=admission.yaml "$@"
}

start_controllers() {
    cat >Corefile <<END
.:53 {
  bind $NODE_IP
  errors
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $D/kubeconfig
    pods insecure
    ttl 0
  }
}
END
    spawn controller-manager "$KUBERNETES/kube-controller-manager" --kubeconfig kubeconfig --root-ca-file=pki/ca.crt \
        --service-account-private-key-file=pki/sa.key --use-service-account-credentials --leader-elect=false
    spawn scheduler "$KUBERNETES/kube-scheduler" --kubeconfig kubeconfig --leader-elect=false
    spawn kube-proxy "$KUBERNETES/kube-proxy" --kubeconfig kubeconfig --hostname-override "$NODE" \
        --proxy-mode iptables --cluster-cidr "$POD_CIDR" --conntrack-max-per-core 0 \
        --conntrack-tcp-timeout-established 0s --conntrack-tcp-timeout-close-wait 0s
    spawn coredns "$COREDNS" -conf Corefile
}

# A bus of the node's own, and what stands in for logind on it.
start_logind() {
    cat >dbus.conf <<END
<busconfig>
  <listen>unix:path=$D/dbus.sock</listen>
  <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>
END
    spawn dbus dbus-daemon --config-file=dbus.conf --nofork --nopidfile
    wait_for "the bus" test -S dbus.sock
    spawn logind /usr/bin/python3 -B "$HERE/logind.py" "unix:path=$D/dbus.sock"
    wait_for "logind" grep -q ready log/logind
}

start_kubelet() {
    cat >kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $D/pki/ca.crt}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /$NAME
failSwapOn: false
failCgroupV1: false
clusterDNS: [$NODE_IP]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$D/containerd.sock
podLogsDir: $D/pod-logs
volumePluginDir: $D/kubelet/volume-plugins
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: 100Mi}
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 24h
maxParallelImagePulls: 2
serializeImagePulls: false
shutdownGracePeriod: 150s
shutdownGracePeriodCriticalPods: 10s
tlsCertFile: $D/pki/kubelet.crt
tlsPrivateKeyFile: $D/pki/kubelet.key
END
    mkdir -p pod-logs
    DBUS_SYSTEM_BUS_ADDRESS=unix:path=$D/dbus.sock spawn kubelet "$KUBERNETES/kubelet" --config kubelet.yaml --kubeconfig kubelet.kubeconfig \
        --hostname-override "$NODE" --root-dir "$D/kubelet" --node-ip "$NODE_IP"
}

ready() {
    [[ -e /run/netns/$NAME ]] &&
        kubectl get node "$NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null |
        grep -qx True
}

up() {
    binaries
    ready && return
    down
    rm -f log/*
    make_namespace
    make_certificates
    kubeconfig admin kubeconfig
    kubeconfig kubelet kubelet.kubeconfig
    start_containerd
    start_api "$@"
    wait_for "containerd" ctr -a containerd.sock version
    load "$PAUSE"
    wait_for "the API server" kubectl get --raw /readyz
    start_controllers
    start_logind
    start_kubelet
    wait_for "the node to be Ready" ready
}

# The kubelet delays the shutdown until its pods have ended.
reboot() {
    local pid
    pid=$(cat pid/logind)
    ours "$pid" || die "nothing stands in for logind; see $D/log/logind"
    kill -USR1 "$pid"
    while ours "$pid"; do sleep 0.1; done
    end kubelet
    end logind
    end dbus
    rm -f dbus.sock log/logind
    start_logind
    start_kubelet
    wait_for "the node to be Ready" ready
}

# --- images ----------------------------------------------------------------------------------------------------------

load() {
    local archive mark
    for archive in "$@"; do
        mark=$(stat -c '%n %Y %s' "$archive")
        grep -qxF "$mark" loaded 2>/dev/null && continue
        ctr -a containerd.sock -n k8s.io images import "$archive" >/dev/null
        echo "$mark" >>loaded
    done
}

# --- main ------------------------------------------------------------------------------------------------------------

usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

main() {
    local command=${1:-} archives
    [[ $command == -h || $command == --help ]] && { usage; exit; }
    (($# >= 2)) || { usage >&2; exit 64; }
    archives=$(realpath -m "${@:3}" 2>/dev/null) || true
    local here=$PWD
    use "$2"
    shift 2
    # Two at a time would both start it.
    [[ $command == exec ]] || { exec 8>lock; flock 8; }
    case $command in
    up) up "$@" && printf '%s\n' "/run/netns/$NAME" "$KUBERNETES/kubectl" "$D/kubeconfig" ;;
    down) down ;;
    load) while read -r archive; do load "$archive"; done <<<"$archives" ;;
    kubelet) binaries && end kubelet && start_kubelet ;;
    reboot) binaries && reboot ;;
    exec)
        binaries
        cd "$here"
        PATH=$KUBERNETES:$PATH KUBECONFIG=$D/kubeconfig exec nsenter --net="/run/netns/$NAME" "$@"
        ;;
    *) usage >&2; exit 64 ;;
    esac
}

main "$@"
