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
import subprocess
import sys
import time

from cluster import START_LIMIT, TESTS, Cluster, Failed, end_on_signals

CHECKER = os.path.join(os.path.dirname(TESTS), "images", "example-job", "check.py")
RUN_SECONDS = 8


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
    """The story, on one cluster."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.screen = Screen()
        self.output = Output(cluster.path("out"))
        self.restarts = 0
        self.checkpoints = {}
        self.records = []

    # --- what is seen ------------------------------------------------------------------------------------------------

    def rate(self, job):
        """Events per second over the last seconds, as the source counts them; None at first."""
        vertices = (self.cluster.rest(f"/jobs/{job['jid']}") or {}).get("vertices")
        if vertices:
            self.records.append((time.monotonic(), vertices[0]["metrics"]["write-records"]))
        self.records = self.records[-12:]
        if len(self.records) < 4:
            return None
        (then, before), (now, after) = self.records[0], self.records[-1]
        return (after - before) / (now - then)

    def progress(self, job):
        self.checkpoints = self.cluster.rest(f"/jobs/{job['jid']}/checkpoints") or self.checkpoints
        newest = ((self.checkpoints.get("latest") or {}).get("completed") or {}).get("id", "-")
        rate = self.rate(job)
        return (
            f"{job['state']}   {'     –' if rate is None else f'{rate:6,.0f}'} events/s   {self.output.committed():7,} committed   "
            f"newest checkpoint {newest}   restarts {self.restarts}"
        )

    # --- the story ---------------------------------------------------------------------------------------------------

    def start(self):
        self.records, self.checkpoints = [], {}
        self.cluster.start_drey()
        seconds = self.cluster.until_running(
            lambda state, seconds: self.screen.live(f"starting: {state.lower()}, {seconds:.0f} s")
        )
        self.screen.live(f"all tasks are running after {seconds:.0f} s", final=True)
        self.screen.close()

    def run_for(self, seconds):
        """Shows the job at work, until some time has passed and events of this run have been committed."""
        end, limit = time.monotonic() + seconds, time.monotonic() + START_LIMIT
        before = self.output.committed()
        line = ""
        while time.monotonic() < end or self.output.committed() == before:
            if time.monotonic() > limit or self.cluster.drey.poll() is not None:
                raise Failed("the job commits nothing")
            job = self.cluster.job()
            if job:
                line = self.progress(job)
                self.screen.live(line)
            time.sleep(0.25)
        self.screen.live(line, final=True)
        self.screen.close()

    def stop_by_sigterm(self):
        seconds = self.cluster.stop_by_sigterm()
        wanted = ("Asked to end", "Savepoint intent", "Savepoint triggered", "Restore point recorded", "Flink ended")
        self.screen.say("\n".join(line for line in self.story() if any(word in line for word in wanted)))
        self.screen.say(f"drey ended with 0 after {seconds:.1f} s")

    def resume(self):
        self.restarts += 1
        self.start()
        self.screen.say("\n".join(line for line in self.story() if "Restore point chosen" in line))

    def story(self):
        """What drey has logged since its start, without what is long and says nothing here."""
        text = "\n".join(self.cluster.told())
        text = re.sub(r"^\S+T(\d\d:\d\d:\d\d\.\d{3})Z +", r"\1 ", text, flags=re.M)
        text = re.sub(r' (job_id|trigger_id|run|cluster_id|job|rest|flink_version|budget_s)=("[^"]*"|\S+)', "", text)
        return self.cluster.short(text).splitlines()

    def play(self):
        step = self.screen.step
        step("Flink starts under `drey run -- bin/standalone-job.sh start-foreground …`, with one TaskManager")
        web = f"http://127.0.0.1:{self.cluster.rest_port}"
        self.screen.say(f"everything is in {self.cluster.dir}, Flink's web interface at {web}")
        self.cluster.start_taskmanager()
        self.start()
        self.run_for(RUN_SECONDS)

        step("SIGTERM, as before an upgrade or an eviction: drey takes a savepoint, reads it back and records it")
        self.stop_by_sigterm()
        step("The pointer names it, for the next start (`drey pointer show`)")
        self.screen.say(self.cluster.short(self.cluster.call("pointer", "show")))
        step("What the savepoint holds (`drey inspect PATH`)")
        path = json.loads(self.cluster.call("pointer", "show", "--output", "json"))["savepoint-path"]
        self.screen.say(self.cluster.short(self.cluster.call("inspect", path)))

        step("The same command again: the job resumes from exactly there")
        self.resume()
        self.run_for(RUN_SECONDS)

        step("kill -9 of drey and of the JobManager at once, as when a machine vanishes: no savepoint this time")
        self.cluster.vanish()
        step("The same command again: drey finds the newest retained checkpoint, and the job resumes from it")
        self.resume()
        self.run_for(RUN_SECONDS)

        step("SIGTERM: the end")
        self.stop_by_sigterm()
        step("The checker reads everything that the job has committed")
        checked = subprocess.run(
            [sys.executable, CHECKER, self.cluster.path("out")], capture_output=True, text=True, check=False
        )
        verdict = checked.stdout.strip()
        if checked.returncode:
            raise Failed(verdict or checked.stderr.strip())
        self.screen.say(f"{verdict}, across {self.restarts} restarts, 1 of them kill -9")


def main():
    if len(sys.argv) != 5:
        print(__doc__.strip(), file=sys.stderr)
        return 64
    end_on_signals()
    cluster = Cluster(*map(os.path.abspath, sys.argv[1:]), prefix="drey-demo-")
    try:
        Demo(cluster).play()
        return 0
    except Failed as failure:
        print(f"\nThe demo failed: {failure}\nDEMO_KEEP=1 keeps the logs.", file=sys.stderr)
        return 1
    except SystemExit as stopped:
        print("\nStopped.", file=sys.stderr)
        return stopped.code
    finally:
        cluster.clean_up(keep=os.environ.get("DEMO_KEEP", "") not in ("", "0"))


if __name__ == "__main__":
    sys.exit(main())
