#!/usr/bin/env python3
"""The demo: a Flink job survives a SIGTERM and a kill -9, and every event is counted exactly once.

Usage: demo.py DREY FLINK_HOME JOB_JAR JAVA_HOME     (what `make demo` calls)

Everything happens on 127.0.0.1 and in one temporary directory, which is removed at the end, together with every process
that was started, also after Ctrl-C or a failure. DEMO_KEEP=1 keeps the directory, with all logs.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKER = os.path.join(HERE, "..", "images", "example-job", "check.py")
JOB_CLASS = "io.drey.example.ExampleJob"
RATE = 1000
RUN_SECONDS = 8
START_LIMIT = 120
STOP_LIMIT = 75


class Failed(Exception):
    """The demo cannot go on; the message is for people."""


class Screen:
    """Steps, and one line below them that is kept up to date; plain lines now and then where stdout is no terminal."""

    def __init__(self):
        self.terminal = sys.stdout.isatty()
        self.open = False
        self.last = 0.0
        self.started = time.monotonic()

    def step(self, text):
        self.close()
        bold, normal = ("\033[1m", "\033[0m") if self.terminal else ("", "")
        print(f"\n{bold}[{time.monotonic() - self.started:3.0f} s] {text}{normal}", flush=True)

    def say(self, text):
        self.close()
        print("".join(f"    {line}\n" for line in text.splitlines()), end="", flush=True)

    def live(self, text, final=False):
        now = time.monotonic()
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K    {text}"[: width + 4], end="", flush=True)
            self.open = True
        elif final or now - self.last >= 2:
            print(f"    {text}", flush=True)
            self.last = now

    def close(self):
        if self.open:
            print(flush=True)
        self.open = False
        self.last = 0.0


class Output:
    """Events that the job has committed: a part file without a leading dot never changes again."""

    def __init__(self, directory):
        self.directory = directory
        self.lines = {}

    def committed(self):
        for folder, _folders, names in os.walk(self.directory):
            for path in (os.path.join(folder, name) for name in names if not name.startswith(".")):
                if path not in self.lines:
                    with open(path, "rb") as file:
                        self.lines[path] = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 16), b""))
        return sum(self.lines.values())


class Demo:
    def __init__(self, drey, home, jar, java):
        self.drey_binary, self.home, self.java = drey, home, java
        self.lib = os.path.join(os.path.dirname(os.path.dirname(jar)), "lib")
        self.dir = tempfile.mkdtemp(prefix="drey-demo-")
        self.screen = Screen()
        self.output = Output(self.path("out"))
        self.rest_port, self.rpc_port = free_ports(2)
        self.processes = []
        self.drey = None
        self.restarts = 0
        self.checkpoints = {}
        self.records = []

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    # --- what is started ---------------------------------------------------------------------------------------------

    def configure(self):
        for name in ("conf", "log", "tmp"):
            os.mkdir(self.path(name))
        shutil.copy(os.path.join(self.home, "conf", "log4j-console.properties"), self.path("conf"))
        with open(os.path.join(HERE, "flink", "base.yaml"), encoding="utf-8") as base:
            text = base.read()
        with open(os.path.join(self.home, "conf", "config.yaml"), encoding="utf-8") as default:
            opens = re.search(r"all: (--add-exports.*)", default.read())
        text += f"""
rest.port: {self.rest_port}
metrics.fetcher.update-interval: 500
jobmanager.rpc.port: {self.rpc_port}
io.tmp.dirs: {self.path("tmp")}
execution.checkpointing.interval: 1s
execution.checkpointing.dir: file://{self.path("checkpoints")}
execution.checkpointing.savepoint-dir: file://{self.path("savepoints")}
env.java.opts.all: {opens.group(1) if opens else "-showversion"}
"""
        with open(self.path("conf", "config.yaml"), "w", encoding="utf-8") as file:
            file.write(text)

    def environment(self):
        """Nothing of the caller's own Flink or Drey, and no file outside of the directory."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("FLINK_", "DREY_", "JAVA_", "_JAVA", "JDK_"))}
        return {
            **keep,
            "JAVA_HOME": self.java,
            "JAVA_TOOL_OPTIONS": f"-Djava.io.tmpdir={self.path('tmp')} -XX:-UsePerfData"
            " -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "TMPDIR": self.path("tmp"),
            "FLINK_CONF_DIR": self.path("conf"),
            "FLINK_LIB_DIR": self.lib,
            "FLINK_LOG_DIR": self.path("log"),
            "FLINK_PID_DIR": self.path("tmp"),
            "FLINK_IDENT_STRING": "demo",
            "DREY_STATE_DIR": self.path("state"),
        }

    def start(self, name, command):
        """In a session of its own, so that Ctrl-C reaches the demo alone, which then ends everything in order."""
        with open(self.path("log", name), "ab") as log:
            process = subprocess.Popen(
                command, env=self.environment(), cwd=self.dir, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def start_taskmanager(self):
        self.start("taskmanager.log", [os.path.join(self.home, "bin", "taskmanager.sh"), "start-foreground"])

    def start_drey(self):
        self.records = []
        self.checkpoints = {}
        self.story = os.path.getsize(self.path("log", "drey.log")) if os.path.exists(self.path("log", "drey.log")) else 0
        script = os.path.join(self.home, "bin", "standalone-job.sh")
        job = ["--job-classname", JOB_CLASS, "--out", self.path("out"), "--rate", str(RATE)]
        self.drey = self.start("drey.log", [self.drey_binary, "run", "--", script, "start-foreground", *job])

    # --- what is seen ------------------------------------------------------------------------------------------------

    def rest(self, path):
        """An answer of Flink's REST interface; None while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest_port}{path}", timeout=2) as answer:
                return json.load(answer)
        except (OSError, ValueError, urllib.error.URLError):
            return None

    def job(self):
        """State, running tasks and all tasks of the job; None while there is none."""
        jobs = (self.rest("/jobs/overview") or {}).get("jobs") or [None]
        return jobs[0]

    def is_running(self, job):
        return bool(job) and job["state"] == "RUNNING" and 0 < job["tasks"]["total"] == job["tasks"]["running"]

    def rate(self, job):
        """Events per second over the last seconds, as the source counts them."""
        vertices = (self.rest(f"/jobs/{job['jid']}") or {}).get("vertices")
        if vertices:
            self.records.append((time.monotonic(), vertices[0]["metrics"]["write-records"]))
        self.records = self.records[-12:]
        (then, before), (now, after) = (self.records or [(0, 0)])[0], (self.records or [(0, 0)])[-1]
        return (after - before) / (now - then) if now > then else 0

    def progress(self, job):
        self.checkpoints = self.rest(f"/jobs/{job['jid']}/checkpoints") or self.checkpoints
        newest = ((self.checkpoints.get("latest") or {}).get("completed") or {}).get("id", "-")
        return (
            f"{job['state']}   {self.rate(job):6,.0f} events/s   {self.output.committed():7,} committed   "
            f"newest checkpoint {newest}   restarts {self.restarts}"
        )

    def call(self, *arguments):
        command = [self.drey_binary, *arguments]
        done = subprocess.run(command, env=self.environment(), cwd=self.dir, capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise Failed(f"`drey {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout

    def told(self):
        """What drey has logged since its start, without what is long and says nothing here."""
        with open(self.path("log", "drey.log"), encoding="utf-8", errors="replace") as file:
            file.seek(self.story)
            text = "\n".join(line for line in file.read().splitlines() if re.match(r"\d{4}-\d\d-\d\dT", line))
        text = re.sub(r"^\S+T(\d\d:\d\d:\d\d\.\d{3})Z +", r"\1 ", text, flags=re.M)
        text = re.sub(r' (job_id|trigger_id|run|cluster_id|job|rest|flink_version|budget_s)=("[^"]*"|\S+)', "", text)
        return self.short(text).splitlines()

    def short(self, text):
        return text.replace(f"file://{self.dir}", "…").replace(f"file:{self.dir}", "…").replace(self.dir, "…")

    # --- the story ---------------------------------------------------------------------------------------------------

    def until_running(self):
        begun = time.monotonic()
        while True:
            if self.drey.poll() is not None:
                raise Failed(f"drey ended with {self.drey.returncode}:\n" + "\n".join(self.told()[-5:]))
            job = self.job()
            seconds = time.monotonic() - begun
            if self.is_running(job):
                self.screen.live(f"all tasks are running after {seconds:.0f} s", final=True)
                self.screen.close()
                return
            if seconds > START_LIMIT:
                raise Failed(f"the job is not running after {START_LIMIT} s")
            self.screen.live(f"starting: {job['state'].lower() if job else 'waiting for Flink'}, {seconds:.0f} s")
            time.sleep(0.25)

    def run_for(self, seconds):
        """Shows the job at work, until some time has passed and events of this run have been committed."""
        end, limit = time.monotonic() + seconds, time.monotonic() + START_LIMIT
        before = self.output.committed()
        line = ""
        while time.monotonic() < end or self.output.committed() == before:
            if time.monotonic() > limit or self.drey.poll() is not None:
                raise Failed("the job commits nothing")
            job = self.job()
            if job:
                line = self.progress(job)
                self.screen.live(line)
            time.sleep(0.25)
        self.screen.live(line, final=True)
        self.screen.close()

    def stop_by_sigterm(self):
        self.drey.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        while self.drey.poll() is None:
            if time.monotonic() - begun > STOP_LIMIT:
                raise Failed("drey did not end")
            time.sleep(0.05)
        wanted = ("Asked to end", "Savepoint intent", "Savepoint triggered", "Restore point recorded", "Flink ended")
        story = [line for line in self.told() if any(word in line for word in wanted)]
        self.screen.say("\n".join(story))
        if self.drey.returncode:
            raise Failed(f"drey ended with {self.drey.returncode}")
        self.screen.say(f"drey ended with 0 after {time.monotonic() - begun:.1f} s")

    def vanish(self):
        """The JobManager and its supervisor are gone at once, as when a machine fails."""
        jobmanager = json.loads(self.call("status", "--output", "json"))["flink-pid"]
        os.kill(self.drey.pid, signal.SIGKILL)
        os.kill(jobmanager, signal.SIGKILL)
        self.drey.wait()

    def resume(self):
        self.restarts += 1
        self.start_drey()
        self.until_running()
        chosen = [line for line in self.told() if "Restore point chosen" in line]
        self.screen.say("\n".join(chosen))

    def play(self):
        step = self.screen.step
        step("Flink starts under `drey run -- bin/standalone-job.sh start-foreground …`, with one TaskManager")
        self.screen.say(f"everything is in {self.dir}, Flink's web interface at http://127.0.0.1:{self.rest_port}")
        self.configure()
        self.start_taskmanager()
        self.start_drey()
        self.until_running()
        self.run_for(RUN_SECONDS)

        step("SIGTERM, as before an upgrade or an eviction: drey takes a savepoint, reads it back and records it")
        self.stop_by_sigterm()
        step("The pointer names it, for the next start (`drey pointer show`)")
        self.screen.say(self.short(self.call("pointer", "show")))

        step("The same command again: the job resumes from exactly there")
        self.resume()
        self.run_for(RUN_SECONDS)

        step("kill -9 of drey and of the JobManager at once, as when a machine vanishes: no savepoint this time")
        self.vanish()
        step("The same command again: drey finds the newest retained checkpoint, and the job resumes from it")
        self.resume()
        self.run_for(RUN_SECONDS)

        step("SIGTERM: the end")
        self.stop_by_sigterm()
        step("The checker reads everything that the job has committed")
        checked = subprocess.run(
            [sys.executable, CHECKER, self.path("out")], capture_output=True, text=True, check=False
        )
        verdict = checked.stdout.strip()
        if checked.returncode:
            raise Failed(verdict or checked.stderr.strip())
        self.screen.say(f"{verdict}, across {self.restarts} restarts, 1 of them kill -9")

    # --- the end -----------------------------------------------------------------------------------------------------

    def clean_up(self):
        """Ends what was started, known by its environment, by process id, and removes the directory."""
        self.screen.close()
        for ending in (signal.SIGTERM, signal.SIGKILL):
            wait = time.monotonic() + 10
            left = self.left()
            for pid in left:
                # A JobManager that is told to go ends at once, a drey would first take a savepoint.
                send(pid, signal.SIGKILL if self.drey and pid == self.drey.pid else ending)
            while left and time.monotonic() < wait:
                time.sleep(0.05)
                left = self.left()
        if os.environ.get("DEMO_KEEP", "") not in ("", "0"):
            print(f"\nkept: {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def left(self):
        for process in self.processes:
            process.poll()
        mark, found = f"FLINK_CONF_DIR={self.dir}/".encode(), []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if mark in file.read():
                        found.append(int(name))
            except OSError:
                pass
        return found


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def interrupted(number, _frame):
    # A second one must not interrupt the cleaning up.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main():
    if len(sys.argv) != 5:
        print(__doc__.strip(), file=sys.stderr)
        return 64
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, interrupted)
    demo = Demo(*map(os.path.abspath, sys.argv[1:]))
    try:
        demo.play()
        return 0
    except Failed as failure:
        demo.screen.close()
        print(f"\nThe demo failed: {failure}\nDEMO_KEEP=1 keeps the logs.", file=sys.stderr)
        return 1
    except SystemExit as stopped:
        demo.screen.close()
        print("\nStopped.", file=sys.stderr)
        return stopped.code
    finally:
        demo.clean_up()


if __name__ == "__main__":
    sys.exit(main())
