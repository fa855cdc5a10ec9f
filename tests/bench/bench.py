#!/usr/bin/env python3
"""What Drey costs, each figure beside a baseline from the same run on the same machine.

Usage: bench.py DREY FLINK_HOME JOB_JAR JAVA_HOME     (what `make bench` calls, with a release binary)

BENCH_RUNS (7) is how often Flink is stopped in each of the two ways, BENCH_SECONDS (60) how long an idle process is watched.
"""

import http.client
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "demo"))
from cluster import Cluster, Failed, end_on_signals  # noqa: E402

RUNS = int(os.environ.get("BENCH_RUNS", "7"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "60"))
CHECKPOINTS = 1000
STARTS = 31
TIGHT = 0.001
LIMIT = 60


def say(text=""):
    print(text, flush=True)


def spread(values, unit, digits=1):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} {unit} ({low:.{digits}f}–{high:.{digits}f})"


class Tight:
    """One kept connection to Flink's REST interface, as a poller would have that spares nothing."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def ask(self, method, path, body=None):
        payload = json.dumps(body) if body is not None else None
        self.connection.request(method, path, payload, {"Content-Type": "application/json"})
        return json.loads(self.connection.getresponse().read())


# --- a stop ----------------------------------------------------------------------------------------------------------


def stop_by_poller(cluster):
    """Flink's own stop-with-savepoint, until its location can be read; in milliseconds."""
    job = cluster.job()["jid"]
    rest = Tight(cluster.rest_port)
    rest.ask("GET", "/overview")
    target = cluster.path("baseline", job)
    begun = time.perf_counter()
    body = {"drain": False, "formatType": "NATIVE", "targetDirectory": f"file://{target}"}
    trigger = rest.ask("POST", f"/jobs/{job}/stop", body)["request-id"]
    while True:
        answer = rest.ask("GET", f"/jobs/{job}/savepoints/{trigger}")
        if answer["status"]["id"] == "COMPLETED":
            break
        time.sleep(TIGHT)
    location = answer["operation"]["location"]
    took = (time.perf_counter() - begun) * 1000
    if not os.path.exists(os.path.join(location.removeprefix("file:"), "_metadata")):
        raise Failed(f"no savepoint at {location}")
    cluster.drey.wait(LIMIT)
    return took


def stop_by_drey(cluster):
    """From SIGTERM until the pointer on disk names the savepoint; in milliseconds, with the steps on the way."""
    file = cluster.path("state", "pointer.json")
    run = read_pointer(file)["run"]["id"]
    wall, begun = time.time(), time.perf_counter()
    cluster.drey.send_signal(signal.SIGTERM)
    seen = None
    while True:
        inode = os.stat(file).st_ino
        if inode != seen:
            seen, entry = inode, read_pointer(file)
            newest = (entry["history"] or [{}])[0]
            if "intent" not in entry and newest.get("kind") == "stop" and newest.get("run") == run:
                break
        if time.perf_counter() - begun > LIMIT:
            raise Failed("nothing was recorded")
        time.sleep(TIGHT / 2)
    took = (time.perf_counter() - begun) * 1000
    cluster.drey.wait(LIMIT)
    return took, steps(cluster.told(), wall)


def read_pointer(file):
    with open(file, encoding="utf-8") as text:
        return json.load(text)["jobs"]["application"]


def steps(lines, begun):
    """Milliseconds from SIGTERM to each line of the log."""
    found = {}
    for name, words in {
        "SIGTERM seen": "Asked to end",
        "intent stored": "Savepoint intent stored",
        "triggered": "Savepoint triggered",
        "recorded": "Restore point recorded",
    }.items():
        line = next((line for line in lines if words in line), None)
        if line:
            at = datetime.strptime(line.split()[0], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
            found[name] = (at.timestamp() - begun) * 1000
    return found


def measure_stops(cluster):
    baseline, drey, ways = [], [], []
    for number in range(2 * RUNS):
        cluster.start_drey()
        cluster.until_running()
        wait_for_checkpoints(cluster, 2)
        if number % 2:
            took, way = stop_by_drey(cluster)
            drey.append(took)
            ways.append(way)
        else:
            baseline.append(stop_by_poller(cluster))
        say(f"  stop {number + 1} of {2 * RUNS}: {'drey' if number % 2 else 'tight poller'} {(drey if number % 2 else baseline)[-1]:.1f} ms")
    say()
    say(f"Stop: SIGTERM to pointer recorded         {spread(drey, 'ms')}")
    say(f"  baseline: /stop to location readable    {spread(baseline, 'ms')}")
    over = statistics.median(drey) - statistics.median(baseline)
    say(f"  Drey's own part, median minus median    {over:.1f} ms (goal: at most 30 ms)")
    names = [name for name in ways[0] if all(name in way for way in ways)]
    say("  medians on the way, from SIGTERM:       " + ", ".join(
        f"{name} {statistics.median(way[name] for way in ways):.0f} ms" for name in names))  # fmt: skip
    say()


def wait_for_checkpoints(cluster, count):
    limit = time.monotonic() + LIMIT
    while time.monotonic() < limit:
        job = cluster.job()
        stats = job and cluster.rest(f"/jobs/{job['jid']}/checkpoints")
        if stats and stats["counts"]["completed"] >= count:
            return
        time.sleep(0.1)
    raise Failed("the job completes no checkpoints")


# --- the restore step ------------------------------------------------------------------------------------------------


def measure_restore(cluster):
    cluster.start_drey()
    cluster.until_running()
    wait_for_checkpoints(cluster, 2)
    run = read_pointer(cluster.path("state", "pointer.json"))["run"]
    cluster.vanish()
    fill(os.path.join(run["checkpoint-dir"].removeprefix("file://"), run["job-id"]))
    job = [os.path.join(cluster.home, "bin", "standalone-job.sh"), "start-foreground", "--job-classname", "x"]
    chosen = cluster.call("restore", "--dry-run", "--", *job)
    if f"chk-{CHECKPOINTS}\n" not in chosen:
        raise Failed(f"the newest checkpoint was not chosen:\n{chosen}")
    restore, version = [], []
    for _ in range(STARTS):
        restore.append(timed(cluster, "restore", "--dry-run", "--", *job))
        version.append(timed(cluster, "--version"))
    say(f"Restore step, {CHECKPOINTS} retained checkpoints   {spread(restore, 'ms')} (goal: at most 50 ms)")
    say(f"  baseline: `drey --version`              {spread(version, 'ms')}")
    say()
    shutil.rmtree(cluster.path("state"))


def fill(directory):
    """Turns the checkpoints there into CHECKPOINTS of them; the id is eight bytes after magic and format."""
    newest = max(int(name.removeprefix("chk-")) for name in os.listdir(directory) if name.startswith("chk-"))
    with open(os.path.join(directory, f"chk-{newest}", "_metadata"), "rb") as file:
        metadata = file.read()
    for number in range(1, CHECKPOINTS + 1):
        os.makedirs(os.path.join(directory, f"chk-{number}"), exist_ok=True)
        with open(os.path.join(directory, f"chk-{number}", "_metadata"), "wb") as file:
            file.write(metadata[:8] + number.to_bytes(8, "big") + metadata[16:])


def timed(cluster, *arguments):
    environment = cluster.environment()
    begun = time.perf_counter()
    subprocess.run([cluster.drey_binary, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - begun) * 1000


# --- idle ------------------------------------------------------------------------------------------------------------


def measure_idle(cluster):
    cluster.start_drey()
    cluster.until_running()
    watched = {"drey run": cluster.drey.pid, "JobManager (baseline)": cluster.flink_pid()}
    idle(watched)
    cluster.stop_by_sigterm()
    cluster.start_apart()
    cluster.until_running()
    idle({"drey sidecar": cluster.sidecar.pid, "drey launch": cluster.drey.pid})
    cluster.stop_by_sigterm()
    cluster.sidecar.send_signal(signal.SIGTERM)
    cluster.sidecar.wait(LIMIT)


def idle(watched):
    time.sleep(5)
    before = {name: cpu(pid) for name, pid in watched.items()}
    time.sleep(SECONDS)
    for name, pid in watched.items():
        used = (cpu(pid) - before[name]) / SECONDS * 100
        say(
            f"Idle for {SECONDS} s: {name:24}{used:.3f} % of a core, {memory(pid, 'VmRSS'):.1f} MiB resident, of which "
            f"{memory(pid, 'RssAnon'):.1f} MiB are not the binary's; at most {memory(pid, 'VmHWM'):.1f} MiB"
            + (" (goal: at most 0.1 %, 10 MiB)" if name.startswith("drey") else "")
        )


def cpu(pid):
    """Seconds on a processor, of all threads."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def memory(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(rf"^{field}:\s+(\d+) kB", file.read(), re.M).group(1)) / 1024


# --- the binary ------------------------------------------------------------------------------------------------------


def measure_binary(drey):
    linked = subprocess.run(["ldd", drey], capture_output=True, text=True, check=False)
    sections = subprocess.run(["readelf", "-S", "-W", drey], capture_output=True, text=True, check=False).stdout
    say(f"Binary: {os.path.getsize(drey) / 1e6:.1f} MB (goal: at most 15 MB), "
        f"{(linked.stdout + linked.stderr).strip()}, {'not stripped' if '.symtab' in sections else 'stripped'}")  # fmt: skip
    say()


def main():
    if len(sys.argv) != 5:
        print(__doc__.strip(), file=sys.stderr)
        return 64
    end_on_signals()
    cluster = Cluster(*map(os.path.abspath, sys.argv[1:]), prefix="drey-bench-")
    try:
        say(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians, with minimum and maximum\n")
        measure_binary(cluster.drey_binary)
        cluster.start_taskmanager()
        measure_stops(cluster)
        measure_restore(cluster)
        measure_idle(cluster)
        return 0
    except Failed as failure:
        print(f"\nThe bench failed: {failure}", file=sys.stderr)
        return 1
    except SystemExit as stopped:
        return stopped.code
    finally:
        cluster.clean_up(keep=os.environ.get("BENCH_KEEP", "") not in ("", "0"))


if __name__ == "__main__":
    sys.exit(main())
