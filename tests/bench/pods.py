"""The example job in pods of a real node, from the manifests in `deploy/`, with Drey and without it.

To be used inside the node's network, with kubectl and KUBECONFIG as `node.sh exec` has them. What the API server is asked
for goes through one `kubectl proxy`; Flink's REST interface is asked pod by pod.
"""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(HERE, "..", "demo"))
from cluster import Failed  # noqa: E402

DREY_IMAGE = "drey.test/drey:bench"
PAUSE = 0.05
LIMIT = 300
OPTIONS = {"web.refresh-interval": "50"}


def kubectl(*args, text=None):
    done = subprocess.run(["kubectl", *args], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def eventually(what, look, limit=LIMIT):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found = look()
        if found is not None and found is not False:
            return found
        time.sleep(0.2)
    raise Failed(f"not within {limit} s: {what}")


def drey_image(drey, directory):
    """An archive as `images/drey/Dockerfile` makes the image."""
    program = os.path.join(directory, "root", "usr", "bin")
    os.makedirs(program, exist_ok=True)
    subprocess.run(["install", "-m", "755", drey, os.path.join(program, "drey")], check=True)
    layer, image, archive = (os.path.join(directory, name) for name in ("layer.tar", "image.json", "image.tar"))
    config = {"Entrypoint": ["/usr/bin/drey"], "User": "65532:65532"}
    with open(image, "w", encoding="utf-8") as file:
        json.dump({"name": DREY_IMAGE, "layers": [layer], "config": config}, file)
    tool = [sys.executable, "-B", os.path.join(ROOT, "tests", "cluster", "image.py")]
    subprocess.run([*tool, "layer", os.path.join(directory, "root"), layer], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*tool, "archive", archive, image], check=True)
    return archive


class Api:
    """The API server, through a `kubectl proxy` of our own."""

    def __init__(self):
        self.proxy = subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
        self.port = int(re.search(r":(\d+)", self.proxy.stdout.readline()).group(1))

    def end(self):
        self.proxy.terminate()
        self.proxy.wait()

    def ask(self, path, method="GET", body=None):
        """The answer; None when there is no such object."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status == 404:
            return None
        if answer.status >= 300:
            raise Failed(f"{method} {path}: {text.decode()}")
        return json.loads(text)

    def watch(self, path, seen):
        """Calls `seen` with each state of the objects, in a thread, until that says that it is enough."""

        def run():
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", self.port)
                try:
                    connection.request("GET", path)
                    for line in connection.getresponse():
                        if seen(json.loads(line)):
                            return
                except (OSError, ValueError, http.client.HTTPException):
                    time.sleep(PAUSE)
                finally:
                    connection.close()

        threading.Thread(target=run, daemon=True).start()


class Rest:
    """Flink's REST interface in one pod, over a connection that is kept."""

    def __init__(self, ip):
        self.ip, self.connection = ip, None

    def get(self, path):
        """None while there is no good answer."""
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection(self.ip, 8081, timeout=1)
            self.connection.request("GET", path)
            answer = self.connection.getresponse()
            body = answer.read()
            return json.loads(body) if answer.status == 200 else None
        except (OSError, ValueError, http.client.HTTPException):
            if self.connection:
                self.connection.close()
            self.connection = None
            return None

    def running_since(self):
        """Since when all tasks of the job run that do so now, as (job, milliseconds); None while they do not."""
        jobs = (self.get("/jobs/overview") or {}).get("jobs") or [None]
        job = jobs[-1]
        if not job or job["state"] != "RUNNING" or not 0 < job["tasks"]["total"] == job["tasks"]["running"]:
            return None
        vertices = (self.get(f"/jobs/{job['jid']}") or {}).get("vertices") or []
        if not vertices or any(it["tasks"]["RUNNING"] != it["parallelism"] for it in vertices):
            return None
        return job["jid"], min(it["start-time"] for it in vertices)

    def checkpoints(self, job):
        return self.get(f"/jobs/{job}/checkpoints")


# --- manifests -------------------------------------------------------------------------------------------------------


def load(name):
    """The documents of a file in `deploy/`, or of a directory with a kustomization; kubectl reads YAML for us."""
    path = os.path.join(ROOT, "deploy", name)
    how = "--kustomize" if os.path.isdir(path) else "--filename"
    text, found = kubectl("create", "--dry-run=client", "--output=json", how, path), []
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    for document in found:
        document["metadata"].pop("namespace", None)
    return found


def use_images(value, job_image):
    if isinstance(value, dict):
        image = {"drey:latest": DREY_IMAGE, "example-job:latest": job_image}.get(str(value.get("image")))
        if image:
            value.update(image=image, imagePullPolicy="Never")
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            use_images(one, job_image)


def set_options(text, options):
    lines = [line for line in text.splitlines() if not line.startswith(tuple(f"{key}:" for key in options))]
    return "\n".join([*lines, *(f"{key}: {value}" for key, value in options.items()), ""])


def without_drey(spec):
    """The same pod with plain Flink; the options that have to stand in the configuration then."""
    spec.pop("initContainers")
    spec["volumes"] = [it for it in spec["volumes"] if it["name"] != "drey"]
    flink = spec["containers"][0]
    flink["volumeMounts"] = [it for it in flink["volumeMounts"] if it["name"] != "drey"]
    flink["env"] = [it for it in flink["env"] if not it["name"].startswith("DREY_")]
    for key in ("command", "lifecycle"):
        flink.pop(key, None)
    properties = next((it["value"] for it in flink["env"] if it["name"] == "FLINK_PROPERTIES"), None)
    if properties is None:
        return {}
    # The image's entrypoint would write these to the directory of the configuration, which is a ConfigMap.
    flink["env"] = [it for it in flink["env"] if it["name"] != "FLINK_PROPERTIES"]
    options = dict(line.split(": ", 1) for line in properties.splitlines())
    if "jobmanager.rpc.address" in options:
        flink["args"][1:1] = ["-D", f"jobmanager.rpc.address={options.pop('jobmanager.rpc.address')}"]
    return options


class Job:
    """The example job in a namespace of its own."""

    def __init__(self, api, name, volumes, image, drey=True, ha=False, args=()):
        self.api, self.name, self.image, self.drey, self.ha, self.args = api, name, image, drey, ha, args
        self.volume = os.path.join(volumes, name)
        self.base = f"/api/v1/namespaces/{name}"
        self.begun = self.created_namespace()

    def created_namespace(self):
        os.makedirs(self.volume, exist_ok=True)
        os.chmod(self.volume, 0o777)  # noqa: S103 # for pods of any user
        size, name = {"storage": "1Gi"}, self.name
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        claim = {"namespace": name, "name": "flink-state"}
        self.apply([
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
                "accessModes": ["ReadWriteMany"], "capacity": size, "hostPath": {"path": self.volume},
                "persistentVolumeReclaimPolicy": "Retain", "claimRef": claim}},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": claim, "spec": {
                "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": name,
                "resources": {"requests": size}}},
        ])  # fmt: skip
        bound = "--for=jsonpath={.status.phase}=Bound"
        kubectl("--namespace", name, "wait", bound, "persistentvolumeclaim/flink-state", "--timeout=60s")
        return time.time()

    def apply(self, objects):
        documents = "".join(f"---\n{json.dumps(one)}\n" for one in objects)
        kubectl("--namespace", self.name, "apply", "--filename", "-", text=documents)

    def start(self):
        objects, options = load("rbac.yaml") + load("standalone-ha" if self.ha else "standalone/flink.yaml"), {**OPTIONS}
        for one in objects:
            if one["kind"] == "Deployment":
                spec = one["spec"]["template"]["spec"]
                use_images(spec, self.image)
                if one["metadata"]["name"].endswith("-jobmanager"):
                    spec["containers"][0]["args"] += self.args
                if not self.drey:
                    options |= without_drey(spec)
        options = {key: value.replace("$(NAMESPACE)", self.name) for key, value in options.items()}
        for one in objects:
            if "config.yaml" in one.get("data", {}):
                one["data"]["config.yaml"] = set_options(one["data"]["config.yaml"], options)
        self.apply(objects)

    def delete(self):
        for args in (
            ["delete", "deployments,replicasets", "--all", "--wait=false"],
            ["delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false"],
            ["delete", "namespace", self.name, "--wait=false"],
            ["delete", "persistentvolume", self.name, "--wait=false"],
        ):
            kubectl("--namespace", self.name, *args)
        # Without pods nothing of it burdens what is measured next.
        eventually(f"the pods of {self.name} to be gone", lambda: self.pods("app=example") == [])

    def pods(self, selector):
        listed = self.api.ask(f"{self.base}/pods?labelSelector={selector.replace('=', '%3D').replace(',', '%2C')}")
        return (listed or {}).get("items", [])

    def staying(self, component):
        """The pods of `jobmanager` or `taskmanager` that nobody has told to go."""
        found = self.pods(f"app=example,component={component}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def leader(self):
        """The pod of the JobManager that leads."""
        pods = self.staying("jobmanager")
        if not self.ha:
            return pods[0]
        data = (self.api.ask(f"{self.base}/configmaps/example-cluster-config-map") or {}).get("data") or {}
        address = data.get("org.apache.flink.k8s.leader.restserver", "")
        return next((pod for pod in pods if f"//{pod['status'].get('podIP')}:" in address), None)

    def evict(self, pod):
        """As `kubectl drain` and the autoscalers do."""
        name = pod["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.name}}
        self.api.ask(f"{self.base}/pods/{name}/eviction", "POST", eviction)

    def wait_running(self, after):
        """Waits until all tasks run that were deployed after the time `after`; when that was seen, and the job."""
        found, known, lock = [], set(), threading.Lock()
        done = threading.Event()

        def poll(rest):
            while not done.is_set():
                since = rest.running_since()
                if since and since[1] > after * 1000:
                    with lock:
                        found.append((time.time(), since[0]))
                    done.set()
                time.sleep(PAUSE)

        def seen(event):
            ip = event["object"].get("status", {}).get("podIP")
            with lock:
                if ip and ip not in known:
                    known.add(ip)
                    threading.Thread(target=poll, args=(Rest(ip),), daemon=True).start()
            return done.is_set()

        self.api.watch(f"{self.base}/pods?watch=1&labelSelector=component%3Djobmanager", seen)
        if not done.wait(LIMIT):
            done.set()
            raise Failed(f"{self.name}: not all tasks run after {LIMIT} s")
        return found[0]

    def dump(self):
        """What a person would look at first."""
        print(kubectl("--namespace", self.name, "get", "pods", "--output=wide"), file=sys.stderr)
        print(kubectl("--namespace", self.name, "get", "events", "--sort-by=.lastTimestamp"), file=sys.stderr)
        for pod in self.pods("app=example"):
            name = pod["metadata"]["name"]
            logs = ["logs", name, "--all-containers", "--prefix", "--tail=25"]
            done = subprocess.run(["kubectl", "--namespace", self.name, *logs], capture_output=True, text=True, check=False)
            print(done.stdout, file=sys.stderr)


class Lease:
    """Who holds the lease of Flink's leader election, from now on."""

    KEY = "control-plane.alpha.kubernetes.io/leader"

    def __init__(self, job):
        self.history, self.over = [], False
        path = f"{job.base}/configmaps?watch=1&fieldSelector=metadata.name%3Dexample-cluster-config-map"
        job.api.watch(path, self.seen)

    def seen(self, event):
        lease = json.loads(event["object"]["metadata"].get("annotations", {}).get(self.KEY, "null"))
        if lease:
            self.history.append((time.time(), lease))
        return self.over

    def hand_over(self):
        """When another pod took the lease, and whether it waited until it had expired; (None, None) if none took it."""
        self.over = True
        held, released = self.history[0][1]["holderIdentity"], False
        for at, lease in self.history:
            holder = lease["holderIdentity"]
            released |= not holder
            if holder and holder != held:
                return at, not released
        return None, None
