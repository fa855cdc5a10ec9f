#!/usr/bin/env python3
"""What Drey costs and saves in pods, beside plain Flink on the same Kubernetes node in the same run.

Usage: kubernetes.py DREY FLINK_VERSION     (what `make bench-k8s` calls, with a release binary)

The pods are those of `deploy/`, once as they are and once without Drey; nothing is changed in Flink's configuration but
how fresh its REST answers are. BENCH_RUNS (3) is how often each pod is evicted. The example job has 1,000 events a
second and a checkpoint every ten seconds, and a pod is evicted five seconds after one. A job that nothing is done to stays
all the time: what its pods ask of the API server is counted in the audit log. With BENCH_KEEP the node stays up.
"""

import calendar
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from bench import cpu, memory, say, spread  # noqa: E402
from pods import ROOT, Api, Failed, Job, Lease, Rest, drey_image, eventually  # noqa: E402
from cluster import end_on_signals  # noqa: E402

sys.path.insert(0, os.path.join(ROOT, "images", "example-job"))
from check import lines_of  # noqa: E402

RUNS = int(os.environ.get("BENCH_RUNS", "3"))
NODE = os.path.join(ROOT, "target", "k8s-bench")
AFTER_CHECKPOINT = 5
# Of the example job's numbers.
SPLITS = 8
# Until what starts up has settled, and nothing is left of it in what is counted.
SETTLE = 30
INSIDE = "DREY_BENCH_INSIDE"


# --- what was processed again ----------------------------------------------------------------------------------------


def output_files(job):
    """All part files, also those that were never committed, by the writer's own id in their names."""
    found = {}
    for folder, _, names in os.walk(os.path.join(job.volume, "out")):
        for name in names:
            writer = re.match(r"\.?part-([0-9a-f-]{36})-", name)
            if writer:
                found.setdefault(writer.group(1), []).append(os.path.join(folder, name))
    return found


def events_of(files):
    """(number, split) of each whole line."""
    return {fields[:2] for path in files for _, fields in lines_of(path) if fields}


def processed_again(job, old, new):
    """How many events went through the job before the eviction whose number was not behind it when it went on: the sink
    writes each to a file at once, and each start of the job has writers of its own."""
    files, first = output_files(job), {}
    for number, split in events_of(path for writer in new for path in files[writer]):
        first[split] = min(number, first.get(split, number))
    before = events_of(path for writer in old for path in files[writer])
    return sum(number >= first[split] for number, split in before)


# --- an eviction -----------------------------------------------------------------------------------------------------


def wait_steady(rest, job):
    """Waits until the job has completed a checkpoint since it runs, and AFTER_CHECKPOINT seconds more."""

    def newest():
        completed = (rest.checkpoints(job) or {}).get("latest", {}).get("completed")
        return completed and not completed["is_savepoint"] and completed

    before = (newest() or {}).get("id", 0)
    checkpoint = eventually("a checkpoint", lambda: (newest() or {"id": 0})["id"] > before and newest())
    time.sleep(max(0, checkpoint["latest_ack_timestamp"] / 1000 + AFTER_CHECKPOINT - time.time()))


def restored_from(rest, job):
    stats = eventually("checkpoint statistics", lambda: rest.checkpoints(job))
    path = (stats["latest"]["restored"] or {}).get("external_path")
    return "empty state" if path is None else "a savepoint" if "/savepoints/" in path else "a checkpoint"


class Evictions:
    """What becomes of one job, time after time."""

    def __init__(self, job):
        self.job, self.earlier, self.flink_job = job, set(), job.wait_running(job.begun)[1]

    def rest(self):
        return Rest(eventually("a leader", self.job.leader)["status"]["podIP"])

    def one(self, component):
        job = self.job
        eventually("all pods to be there", lambda: all_there(job))
        wait_steady(self.rest(), self.flink_job)
        pod = eventually("a leader", job.leader) if component == "jobmanager" else job.staying(component)[0]
        lease = Lease(job) if job.ha else None
        eventually("the lease", lambda: lease is None or bool(lease.history))
        old, begun = output_files(job).keys() - self.earlier, time.time()
        job.evict(pod)
        at, self.flink_job = job.wait_running(begun)
        result = {"seconds": at - begun, "from": restored_from(self.rest(), self.flink_job)}
        self.earlier |= old
        eventually("events of all splits", lambda: len({split for _, split in self.new_events()}) == SPLITS)
        result["again"] = processed_again(job, old, output_files(job).keys() - self.earlier)
        if lease:
            taken, waited = lease.hand_over()
            result.update(taken=taken and taken - begun, waited=waited)
        return result

    def new_events(self):
        files = output_files(self.job)
        return events_of(path for writer in files.keys() - self.earlier for path in files[writer])


def all_there(job):
    """No pod goes any more, and a JobManager on standby is as far as it gets."""
    pods, managers = job.pods("app=example"), job.staying("jobmanager")
    return len(pods) == (3 if job.ha else 2) and all(
        "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] == "Running" for pod in pods
    ) and all(Rest(pod["status"]["podIP"]).get("/overview") for pod in managers)  # fmt: skip


def measure(job, components):
    """All evictions of one kind of deployment."""
    say(f"  {job.name}: starting")
    job.start()
    try:
        evictions, results = Evictions(job), {component: [] for component in components}
        for number in range(RUNS):
            for component in components:
                result = evictions.one(component)
                results[component].append(result)
                lease = f"{lease_of(result)}, " if "taken" in result else ""
                say(f"  {job.name}: {component} {number + 1} of {RUNS}: running after {result['seconds']:.1f} s, {lease}"
                    f"{result['again']} events again, from {result['from']}")  # fmt: skip
        return results
    except Failed:
        job.dump()
        raise
    finally:
        job.delete()


def lease_of(result):
    if result["taken"] is None:
        return "lease never changed hands"
    return f"lease taken after {result['taken']:.1f} s{', when it had expired' if result['waited'] else ''}"


def row(title, plain, drey, goal):
    say(f"{title} (goal: {goal})")
    for name, results in (("plain Flink", plain), ("with Drey", drey)):
        origins = ", ".join(f"{origin} {n}×" for origin, n in Counter(it["from"] for it in results).items())
        say(f"  {name:12} all tasks run after {spread([it['seconds'] for it in results], 's')}; events processed again: "
            f"{spread([it['again'] for it in results], '', 0)}; from {origins}")  # fmt: skip
        if any(it.get("taken") for it in results):
            taken = [it["taken"] for it in results if it["taken"]]
            waited = sum(bool(it["waited"]) for it in results)
            say(f"  {'':12} leader's lease taken after {spread(taken, 's')}; "
                f"its expiry was waited for in {waited} of {len(results)}")  # fmt: skip
    say(f"  time, ratio of the medians: {middle(drey, 'seconds') / middle(plain, 'seconds'):.2f}")
    say()


def middle(results, key):
    return statistics.median(it[key] for it in results)


# --- an idle pod -----------------------------------------------------------------------------------------------------


def idle_processes(job):
    """Drey's processes in the pods of a job, as name: process id."""
    names, found = names_of(job), {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read().decode().split("\0")
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = dict(it.split("=", 1) for it in file.read().decode().split("\0") if "=" in it)
        except OSError:
            continue
        component = names.get(environment.get("HOSTNAME"))
        if component and os.path.basename(command[0]) in ("drey", "drey-launch"):
            found[f"{component}, {'sidecar' if 'sidecar' in command else 'launcher'}"] = pid
    return found


def report_idle(job, processes, cpu_before, begun):
    seconds = time.time() - begun
    requests = audited(begun)
    for name in sorted(names_of(job)):
        asked = Counter(request for pod, request in requests if pod == name)
        watches = sum(n for request, n in asked.items() if request.startswith("watch"))
        rest = {request: n for request, n in asked.items() if not request.startswith("watch")}
        say(f"Idle for {seconds:.0f} s, pod {name}: {sum(rest.values()) * 3600 / seconds:.1f} requests per hour to the API "
            f"server (goal: at most 12), {watches * 3600 / seconds:.1f} watches opened per hour"
            + "".join(f"; {n}× {request}" for request, n in sorted(asked.items())))  # fmt: skip
    for name, pid in sorted(processes.items()):
        used = (cpu(pid) - cpu_before[name]) / seconds * 1000
        say(f"Idle for {seconds:.0f} s, {name}: {memory(pid, 'VmRSS'):.1f} MiB resident, of which "
            f"{memory(pid, 'RssAnon'):.1f} MiB are not the binary's; at most {memory(pid, 'VmHWM'):.1f} MiB; "
            f"{used:.2f} mcores (goal: 10 MiB, 1 mcore)")  # fmt: skip
    for pod in job.api.ask("/api/v1/nodes/node1/proxy/stats/summary")["pods"]:
        for container in pod["containers"]:
            if pod["podRef"]["namespace"] == job.name and container["name"] == "drey":
                size = container["memory"]["workingSetBytes"] / 2**20
                say(f"  container `drey` by the kubelet: working set {size:.1f} MiB")


def names_of(job):
    """The pods of a job, with their components."""
    return {pod["metadata"]["name"]: one for one in ("jobmanager", "taskmanager") for pod in job.staying(one)}


def audited(begun):
    """(pod, verb and resource) of each request since then, in order; a watch counts when it begins."""
    found = []
    with open(os.path.join(NODE, "log", "audit"), encoding="utf-8") as file:
        for entry in map(json.loads, file):
            stage = "ResponseStarted" if entry["verb"] == "watch" else "ResponseComplete"
            at = time.strptime(entry["requestReceivedTimestamp"].split(".")[0], "%Y-%m-%dT%H:%M:%S")
            if entry["stage"] == stage and calendar.timegm(at) >= begun:
                pod = entry["user"].get("extra", {}).get("authentication.kubernetes.io/pod-name", ["?"])[0]
                found.append((pod, f"{entry['verb']} {entry.get('objectRef', {}).get('resource', entry['requestURI'])}"))
    return found


# --- all of it -------------------------------------------------------------------------------------------------------


def bench(flink):
    api, volumes = Api(), os.path.join(NODE, "volumes")
    image = f"drey.test/example-job:{flink}"
    try:
        say(f"Flink {flink}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians, with minimum and maximum\n")
        idle = Job(api, "idle", volumes, image, args=["--rate", "10"])
        idle.start()
        idle.wait_running(idle.begun)
        time.sleep(SETTLE)
        processes, begun = idle_processes(idle), time.time()
        cpu_before = {name: cpu(pid) for name, pid in processes.items()}
        found = {}
        for ha, components in ((False, ("jobmanager", "taskmanager")), (True, ("jobmanager",))):
            for drey in (False, True):
                name = f"{'drey' if drey else 'plain'}{'-ha' if ha else ''}"
                found[name] = measure(Job(api, name, volumes, image, drey, ha), components)
        say()
        row("JobManager evicted, no HA", found["plain"]["jobmanager"], found["drey"]["jobmanager"], "9 s; 0 events")
        row("JobManager evicted, Kubernetes HA, one on standby", found["plain-ha"]["jobmanager"],
            found["drey-ha"]["jobmanager"], "9 s; 500 events; lease not waited for")  # fmt: skip
        row("TaskManager evicted", found["plain"]["taskmanager"], found["drey"]["taskmanager"], "8 s; 500 events")
        report_idle(idle, processes, cpu_before, begun)
        return 0
    finally:
        api.end()


def node_sh(*args):
    script = os.path.join(ROOT, "tests", "cluster", "node.sh")
    return subprocess.run([script, *args], check=True, stdout=subprocess.PIPE, text=True).stdout


def main(doc, bench):
    """Runs `bench` inside a node's network."""
    if len(sys.argv) != 3:
        print(doc.strip(), file=sys.stderr)
        return 64
    end_on_signals()
    try:
        if os.environ.get(INSIDE):
            return bench(sys.argv[2])
        policy = os.path.join(HERE, "audit.yaml")
        node_sh("up", NODE, f"--audit-policy-file={policy}", f"--audit-log-path={NODE}/log/audit")
        images = subprocess.run([os.path.join(ROOT, "tests", "setup.sh"), "images"], check=True, stdout=subprocess.PIPE, text=True)
        node_sh("load", NODE, images.stdout.strip(), drey_image(sys.argv[1], os.path.join(NODE, "drey")))
        script = os.path.join(ROOT, "tests", "cluster", "node.sh")
        command = [script, "exec", NODE, sys.executable, "-B", *sys.argv]
        return subprocess.run(command, check=False, env={**os.environ, INSIDE: "1"}).returncode
    except (Failed, subprocess.CalledProcessError) as failure:
        print(f"\nThe bench failed: {failure}", file=sys.stderr)
        return 1
    finally:
        if not os.environ.get(INSIDE) and os.environ.get("BENCH_KEEP", "") in ("", "0"):
            node_sh("down", NODE)


if __name__ == "__main__":
    sys.exit(main(__doc__, bench))
