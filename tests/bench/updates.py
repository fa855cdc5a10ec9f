#!/usr/bin/env python3
"""How long a job is down while its configuration or its image changes: with Drey, and by the script that people write.

Usage: updates.py DREY FLINK_VERSION     (what `make bench-updates` calls, with a release binary)

Both run the example job in the pods of `deploy/standalone` and of `deploy/native` (BENCH_MODES), one after the other on one
Kubernetes node, and each change is made BENCH_RUNS (3) times to each, in turn. The script stops the job with a savepoint through
Flink's REST interface, deletes the Deployments, waits until the pods are gone, and applies the changed manifests, or submits the job
with `flink run`, with the savepoint's path. With Drey the changed manifests are applied, or `drey job upgrade` is called, and that is
all; `in place` is another ConfigMap alone, which the sidecar follows. Downtime is from the last event that the old job wrote to the
first one of the new job.
"""

import datetime
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import kubernetes  # noqa: E402
from bench import say, spread  # noqa: E402
from kubernetes import middle, output_files  # noqa: E402
from pods import Api, Failed, Job, Rest, eventually, kubectl, load, set_options, use_images, without_drey, OPTIONS  # noqa: E402

FLINK = sys.argv[-1]

RUNS = int(os.environ.get("BENCH_RUNS", "3"))
MODES = os.environ.get("BENCH_MODES", "standalone native").split()
SAMPLE = 0.02
IN_PLACE = "configuration in place"
CHANGES = ("configuration", "image", IN_PLACE)
GOAL = 0.5
# What the new pods say on their way, in the order in which it happens: where the time goes.
STEPS = {
    "lock taken": "Taking the lock",
    "restore point chosen": "Restore point chosen",
    "scripts through": "Starting (standalonejob|kubernetes-application)",
    "JobManager's JVM runs": "Starting (StandaloneApplicationClusterEntryPoint|KubernetesApplicationClusterEntrypoint)",
    "its REST interface": "Rest endpoint listening",
    "job made": r"Job example .* switched from state CREATED to RUNNING",
    "TaskManager registered": "Successful registration at resource manager",
    "tasks restored": "switched from INITIALIZING to RUNNING",
}


class Writes:
    """When each writer of the job's output wrote first and last: the sink writes each event to a file at once."""

    def __init__(self, job):
        self.job, self.sizes, self.first, self.last, self.over = job, {}, {}, {}, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.over.wait(SAMPLE):
            now = time.time()
            for writer, paths in output_files(self.job).items():
                size = sum(map(size_of, paths))
                if size > self.sizes.get(writer, 0):
                    self.first.setdefault(writer, now)
                    self.last[writer] = now
                # Files are renamed when they are committed, so one look may miss one of them.
                self.sizes[writer] = max(size, self.sizes.get(writer, 0))

    def end(self):
        self.over.set()
        self.thread.join()


def size_of(path):
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def follow_changes(spec):
    """The sidecar applies what changes in Flink's configuration."""
    sidecar = spec["initContainers"][-1]
    sidecar["env"] = [*sidecar.get("env", []), {"name": "DREY_ON_CONFIG_CHANGE", "value": "restart"}]


class Standalone(Job):
    """The example job, whose manifests change."""

    def __init__(self, api, name, volumes, image, drey):
        super().__init__(api, name, volumes, image, drey)
        # Of the configuration, and of the pods' template, which has it as a chart would.
        self.generation, self.template, self.savepoint = 0, 0, None

    def options(self):
        options = {**OPTIONS, "execution.checkpointing.timeout": f"{600 + self.generation} s"}
        if self.savepoint:
            options["execution.state-recovery.path"] = self.savepoint
        return options

    def objects(self):
        found, options = load("rbac.yaml") + load("standalone/flink.yaml"), self.options()
        for one in found:
            if one["kind"] == "Deployment":
                template = one["spec"]["template"]
                use_images(template["spec"], self.image)
                # What a chart does so that a changed ConfigMap rolls the pods.
                template["metadata"].setdefault("annotations", {})["generation"] = str(self.template)
                if self.drey:
                    follow_changes(template["spec"])
                else:
                    options |= without_drey(template["spec"])
        for one in found:
            if "config.yaml" in one.get("data", {}):
                one["data"]["config.yaml"] = set_options(one["data"]["config.yaml"], options)
        return found

    def start(self):
        self.apply(self.objects())

    def change(self, what, images):
        """Makes the change, with Drey; the next start has it."""
        self.generation += 1
        if what != IN_PLACE:
            self.template = self.generation
        if what == "image":
            self.image = images[self.image == images[0]]

    def with_drey(self, _what):
        self.start()

    def by_script(self, flink_job):
        """What `with_drey` is without Drey."""
        rest = Rest(self.leader()["status"]["podIP"])
        self.savepoint = stop(rest.ip, flink_job)
        kubectl("--namespace", self.name, "delete", "deployments", "--all")
        kubectl("--namespace", self.name, "wait", "--for=delete", "pods", "--selector=app=example", "--timeout=120s")
        self.start()


class Native(Standalone):
    """The same in native mode, submitted with Flink's command line."""

    def start(self):
        setup = [os.path.join(kubernetes.ROOT, "tests", "setup.sh"), "flink", FLINK, "java", FLINK]
        home, java = subprocess.run(setup, check=True, capture_output=True, text=True).stdout.split()[:2]
        self.apply(load("rbac.yaml"))
        conf = os.path.join(kubernetes.ROOT, "deploy", "native", "conf")
        with tempfile.TemporaryDirectory() as directory:
            options = self.options() | {"kubernetes.namespace": self.name, "kubernetes.container.image.ref": self.image,
                                        "kubernetes.container.image.pull-policy": "Never"}  # fmt: skip
            for component in ("jobmanager", "taskmanager"):
                options |= self.pod_template(component, directory)
            with open(os.path.join(conf, "config.yaml"), encoding="utf-8") as file:
                text = set_options(file.read(), options)
            with open(os.path.join(directory, "config.yaml"), "w", encoding="utf-8") as file:
                file.write(text)
            shutil.copy(os.path.join(conf, "log4j-console.properties"), directory)
            places = {"FLINK_CONF_DIR": directory, "FLINK_LOG_DIR": directory, "JAVA_HOME": java}
            command = [os.path.join(home, "bin", "flink"), "run", "--target", "kubernetes-application",
                       "--class", "io.drey.example.ExampleJob", "local:///opt/flink/usrlib/example-job.jar", "--out", "/state/out"]  # fmt: skip
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, **places, "JVM_ARGS": "-XX:TieredStopAtLevel=1"})

    def pod_template(self, component, directory):
        """Writes it; the options that name it."""
        pod, options = load(f"native/{component}.yaml")[0], {}
        use_images(pod["spec"], self.image)
        if not self.drey:
            options = without_drey(pod["spec"]) | {"kubernetes.entry.path": "/docker-entrypoint.sh"}
        elif component == "jobmanager":
            follow_changes(pod["spec"])
        path = os.path.join(directory, f"{component}.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(pod, file)
        return options | {f"kubernetes.pod-template-file.{component}": path}

    def with_drey(self, what):
        key, value = list(self.options().items())[-1]
        if what == IN_PLACE:
            found = json.loads(kubectl("--namespace", self.name, "get", "configmap/flink-config-example", "--output=json"))
            found["data"]["config.yaml"] = set_options(found["data"]["config.yaml"], {key: value})
            kubectl("--namespace", self.name, "replace", "--filename=-", text=json.dumps(found))
            return
        change = ["--image", self.image] if what == "image" else ["--set", f"{key}={value}"]
        command = [sys.argv[1], "job", "upgrade", "example", "--namespace", self.name, *change]
        # A variable that is the bench's own is an unknown setting to Drey.
        env = {name: value for name, value in os.environ.items() if not name.startswith("DREY_")}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)


def stop(ip, flink_job):
    """Stops the job with a savepoint; its path."""
    answer = post(ip, f"/jobs/{flink_job}/stop", {"drain": False, "targetDirectory": "/state/savepoints"})
    path = f"/jobs/{flink_job}/savepoints/{answer['request-id']}"
    done = lambda: ((Rest(ip).get(path) or {}).get("operation") or {}).get("location")  # noqa: E731
    return eventually("the savepoint", done)


def post(ip, path, body):
    connection = http.client.HTTPConnection(ip, 8081, timeout=30)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status >= 300:
        raise Failed(f"POST {path}: {text.decode()}")
    return json.loads(text)


def timeline(job, start):
    """When the pods that run now said each of `STEPS` for the first time after `start`, as seconds after it."""
    since = datetime.datetime.fromtimestamp(start, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    # A pod that is just being made has no logs yet.
    pods = [pod["metadata"]["name"] for pod in job.pods("app=example") if pod["status"]["phase"] == "Running"]
    how = ["logs", "--all-containers", "--timestamps", "--tail=-1", "--since-time", since]
    logs = "".join(kubectl("--namespace", job.name, *how, pod) for pod in pods)
    found = {}
    for line in logs.splitlines():
        stamp, _, text = line.partition(" ")
        for step, pattern in STEPS.items():
            if re.search(pattern, text):
                at = datetime.datetime.fromisoformat(stamp[:26] + "+00:00").timestamp() - start
                if at > 0:
                    found[step] = min(at, found.get(step, at))
    return found


def one(job, flink_job, change, images):
    """One change; what it cost, and the new job."""
    kubernetes.wait_steady(Rest(job.leader()["status"]["podIP"]), flink_job)
    writes, old = Writes(job), set(output_files(job))
    begun = time.time()
    job.change(change, images)
    if job.drey:
        job.with_drey(change)
    else:
        job.by_script(flink_job)
    running, flink_job = job.wait_running(begun)
    eventually("an event of the new job", lambda: bool(set(writes.first) - old))
    writes.end()
    last = max(at for writer, at in writes.last.items() if writer in old)
    first = min(at for writer, at in writes.first.items() if writer not in old)
    origin = kubernetes.restored_from(Rest(eventually("a JobManager", job.leader)["status"]["podIP"]), flink_job)
    return flink_job, {
        "down": first - last, "stopped": last - begun, "running": running - last, "whole": first - begun, "from": origin,
        "steps": timeline(job, last),
    }  # fmt: skip


def measure(jobs, images):
    found = {(job.name, change): [] for job in jobs for change in CHANGES}
    current = {}
    for job in jobs:
        job.start()
        current[job.name] = job.wait_running(job.begun)[1]
    for number in range(RUNS):
        for change in CHANGES:
            for job in jobs:
                current[job.name], result = one(job, current[job.name], change, images)
                found[job.name, change].append(result)
                say(f"  {job.name}: {change} {number + 1} of {RUNS}: down for {result['down']:.1f} s, from {result['from']}")
    return found


def report(mode, found):
    for change in CHANGES:
        script, drey = found[f"{mode}-script", change], found[f"{mode}-drey", change]
        say(f"{mode}: {change} changed (goal: {GOAL} of the script's downtime)")
        for name, results in (("by script", script), ("with Drey", drey)):
            column = lambda key: spread([it[key] for it in results], "s")  # noqa: E731,B023
            say(f"  {name}  down for {column('down')}; last event {column('stopped')} after the order; "
                f"all tasks seen to run {column('running')} after the last event")  # fmt: skip
        for name, results in (("by script", script), ("with Drey", drey)):
            steps = ((step, [it["steps"][step] for it in results if step in it["steps"]]) for step in STEPS)
            steps = [f"{step} {spread(found, 's')}" for step, found in steps if found]
            say(f"  {name}, after the last event: {'; '.join(steps)}")
        say(f"  downtime, ratio of the medians: {middle(drey, 'down') / middle(script, 'down'):.2f}\n")


def bench(flink):
    api, volumes = Api(), os.path.join(kubernetes.NODE, "volumes")
    images = [f"drey.test/example-job:{flink}", f"drey.test/example-job:{flink}-again"]
    # The same image by another name: what it costs to pull one depends on the registry alone.
    ctr = ["ctr", "--address", os.path.join(kubernetes.NODE, "containerd.sock"), "--namespace", "k8s.io"]
    subprocess.run([*ctr, "images", "tag", "--force", *images], check=True, stdout=subprocess.DEVNULL)
    kinds, jobs = {"standalone": Standalone, "native": Native}, []
    say(f"Flink {flink}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians, with minimum and maximum\n")
    try:
        for mode in MODES:
            names = ((f"{mode}-script", False), (f"{mode}-drey", True))
            jobs = [kinds[mode](api, name, volumes, images[0], drey) for name, drey in names]
            report(mode, measure(jobs, images))
            for job in jobs:
                job.delete()
        return 0
    except Failed:
        for job in jobs:
            job.dump()
        raise
    finally:
        api.end()


if __name__ == "__main__":
    sys.exit(kubernetes.main(__doc__, bench))
