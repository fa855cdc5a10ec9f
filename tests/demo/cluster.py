"""A small Flink cluster on loopback with the example job, under `drey run`, in a temporary directory of its own.

Every process carries the directory in its environment, so that all of them are found and ended, by process id, whatever
has happened. Used by the demo and by the bench.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
JOB_CLASS = "io.drey.example.ExampleJob"
START_LIMIT = 120
STOP_LIMIT = 75


class Failed(Exception):
    """It cannot go on; the message is for people."""


class Cluster:
    def __init__(self, drey, home, jar, java, prefix):
        self.drey_binary, self.home, self.java = drey, home, java
        self.lib = os.path.join(os.path.dirname(os.path.dirname(jar)), "lib")
        self.dir = tempfile.mkdtemp(prefix=prefix)
        self.rest_port, self.rpc_port = free_ports(2)
        self.processes = []
        self.drey = self.sidecar = None
        self.log_start = 0
        self.configure()

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def configure(self):
        for name in ("conf", "log", "tmp"):
            os.mkdir(self.path(name))
        shutil.copy(os.path.join(self.home, "conf", "log4j-console.properties"), self.path("conf"))
        with open(os.path.join(TESTS, "flink", "base.yaml"), encoding="utf-8") as base:
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
        log = self.path("log", "drey.log")
        self.log_start = os.path.getsize(log) if os.path.exists(log) else 0
        self.drey = self.start("drey.log", [self.drey_binary, "run", "--", *self.jobmanager()])

    def start_apart(self):
        """Supervisor and launcher as two processes."""
        self.sidecar = self.start("sidecar.log", [self.drey_binary, "sidecar"])
        self.drey = self.start("drey.log", [self.drey_binary, "launch", "--", *self.jobmanager()])

    def jobmanager(self):
        script = os.path.join(self.home, "bin", "standalone-job.sh")
        return [script, "start-foreground", "--job-classname", JOB_CLASS, "--out", self.path("out"), "--rate", "1000"]

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

    def call(self, *arguments):
        command = [self.drey_binary, *arguments]
        done = subprocess.run(command, env=self.environment(), cwd=self.dir, capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise Failed(f"`drey {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout

    def told(self):
        """The lines that drey has logged since its last start."""
        with open(self.path("log", "drey.log"), encoding="utf-8", errors="replace") as file:
            file.seek(self.log_start)
            return [line for line in file.read().splitlines() if re.match(r"\d{4}-\d\d-\d\dT", line)]

    def until_running(self, tell=lambda state, seconds: None):
        """Waits until all tasks run; how long it took, in seconds."""
        begun = time.monotonic()
        while True:
            if self.drey.poll() is not None:
                raise Failed(f"drey ended with {self.drey.returncode}:\n" + "\n".join(self.told()[-5:]))
            job = self.job()
            seconds = time.monotonic() - begun
            if self.is_running(job):
                return seconds
            if seconds > START_LIMIT:
                raise Failed(f"the job is not running after {START_LIMIT} s")
            tell(job["state"] if job else "waiting for Flink", seconds)
            time.sleep(0.25)

    def stop_by_sigterm(self):
        """SIGTERM for drey; how long it took to end, in seconds."""
        self.drey.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        while self.drey.poll() is None:
            if time.monotonic() - begun > STOP_LIMIT:
                raise Failed("drey did not end")
            time.sleep(0.05)
        if self.drey.returncode:
            raise Failed(f"drey ended with {self.drey.returncode}:\n" + "\n".join(self.told()[-5:]))
        return time.monotonic() - begun

    def flink_pid(self):
        return json.loads(self.call("status", "--output", "json"))["flink-pid"]

    def vanish(self):
        """The JobManager and its supervisor are gone at once, as when a machine fails."""
        jobmanager = self.flink_pid()
        os.kill(self.drey.pid, signal.SIGKILL)
        os.kill(jobmanager, signal.SIGKILL)
        self.drey.wait()

    def short(self, text):
        return text.replace(f"file://{self.dir}", "…").replace(f"file:{self.dir}", "…").replace(self.dir, "…")

    def clean_up(self, keep=False):
        """Ends what was started, known by its environment, by process id, and removes the directory."""
        supervisors = [process.pid for process in (self.drey, self.sidecar) if process]
        for ending in (signal.SIGTERM, signal.SIGKILL):
            wait = time.monotonic() + 10
            left = self.left()
            for pid in left:
                # A JobManager that is told to go ends at once, a drey would first take a savepoint.
                send(pid, signal.SIGKILL if pid in supervisors else ending)
            while left and time.monotonic() < wait:
                time.sleep(0.05)
                left = self.left()
        if keep:
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


def end_on_signals():
    """Makes SIGINT, SIGTERM and SIGHUP a SystemExit, once: a second one must not interrupt the cleaning up."""
    endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupted(number, _frame):
        for ending in endings:
            signal.signal(ending, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for ending in endings:
        signal.signal(ending, interrupted)
