#!/usr/bin/env python3
"""What a scrape through Drey costs beside a direct one, of the same page in the same run.

Usage: metrics.py DREY FLINK_HOME JAVA_HOME     (what `make bench-metrics` calls, with a release binary)

The page is that of Flink's own reporter with as many series as asked for (Reporter.java). Drey keeps nothing between two
scrapes (--metrics-cache 0s). BENCH_SCRAPES (100) is how often each page is scraped in each way.
"""

import glob
import http.client
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SIZES = (100, 10_000, 100_000)
SCRAPES = int(os.environ.get("BENCH_SCRAPES", "100"))
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def scrape(port, gzip):
    """One scrape; its milliseconds to the last byte, and the body's length."""
    headers = {"Accept": "text/plain;version=0.0.4", "X-Prometheus-Scrape-Timeout-Seconds": "60"}
    if gzip:
        headers["Accept-Encoding"] = "gzip"
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics", headers=headers)
    body = connection.getresponse().read()
    took = (time.perf_counter() - start) * 1000
    connection.close()
    return took, body


def cpu(process):
    """CPU seconds of a process up to now."""
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak(process):
    """The most resident memory of a process up to now, in KiB."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def wait_for(port, process):
    while True:
        if process.poll() is not None:
            sys.exit(f"process {process.args[0]} ended with {process.returncode}")
        try:
            return scrape(port, False)
        except OSError:
            time.sleep(0.05)


def quantiles(times):
    ordered = sorted(times)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


class Bench:
    def __init__(self, drey, flink, java, directory):
        self.drey, self.directory = drey, directory
        self.java = os.path.join(java, "bin", "java")
        jars = glob.glob(os.path.join(flink, "lib", "*.jar"))
        self.path = ":".join(jars + glob.glob(os.path.join(flink, "plugins", "metrics-prometheus", "*.jar")))
        self.baseline = 0

    def reporter(self, series):
        port = free_port()
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "Reporter.java")
        command = [self.java, "-Xmx2g", "-cp", self.path, source, str(port), str(series)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if "ready" not in process.stdout.readline():
            sys.exit("Flink's reporter does not start")
        return process, port

    def proxy(self, flink):
        port = free_port()
        state = tempfile.mkdtemp(dir=self.directory)
        command = [self.drey, "sidecar", "--state-dir", state, "--metrics-address", f"127.0.0.1:{port}",
                   "--flink-metrics-port", str(flink), "--metrics-cache", "0s", "--log-level", "error"]
        process = subprocess.Popen(command)
        wait_for(port, process)
        return process, port

    def ways(self, series, scrapes):
        """Scrapes one page in all ways, in turns, so that all of them see the same noise."""
        reporter, direct = self.reporter(series)
        drey, proxy = self.proxy(direct)
        memory = peak(drey)
        try:
            for _ in range(max(5, scrapes // 5)):
                scrape(direct, True), scrape(proxy, True)
            used = {}
            times = {way: [] for way in ("direct", "drey", "direct, gzip", "drey, gzip")}
            for way, port, gzip in (("direct", direct, False), ("drey", proxy, False),
                                    ("direct, gzip", direct, True), ("drey, gzip", proxy, True)):
                used[way] = [0.0, 0.0]
            for _ in range(scrapes):
                for way, port, gzip in (("direct", direct, False), ("drey", proxy, False),
                                        ("direct, gzip", direct, True), ("drey, gzip", proxy, True)):
                    before = cpu(drey), cpu(reporter)
                    took, body = scrape(port, gzip)
                    times[way].append(took)
                    used[way][0] += cpu(drey) - before[0]
                    used[way][1] += cpu(reporter) - before[1]
            page = len(scrape(direct, False)[1])
            return times, used, page, peak(drey), memory
        finally:
            for process in (drey, reporter):
                process.kill()
                process.wait()

    def run(self):
        for series in SIZES:
            scrapes = max(10, SCRAPES // 5) if series > 10_000 else SCRAPES
            times, used, page, most, idle = self.ways(series, scrapes)
            print(f"\n{series} series, {page / 1e6:.2f} MB, {scrapes} scrapes each way")
            for way, values in times.items():
                middle, late = quantiles(values)
                drey, flink = (seconds / scrapes * 1000 for seconds in used[way])
                print(f"  {way:13} p50 {middle:8.2f} ms  p99 {late:8.2f} ms   CPU: Drey {drey:7.2f} ms, Flink {flink:7.2f} ms")
            for kind in ("", ", gzip"):
                ratio = quantiles(times["drey" + kind])[1] / quantiles(times["direct" + kind])[1]
                print(f"  p99 of Drey is {ratio:.2f} of the direct read's{kind}")
            seconds = used["drey, gzip"][0] / scrapes
            if seconds:
                print(f"  read, merged and compressed at {page / 1e6 / seconds:.0f} MB/s of one core")
            if series == SIZES[0]:
                self.baseline = most
            else:
                each = (most - self.baseline) * 1024 / series
                print(f"  peak memory {most / 1024:.1f} MiB, of which {each:.1f} bytes a series beyond {SIZES[0]} series' "
                      f"{self.baseline / 1024:.1f} MiB")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    directory = tempfile.mkdtemp(prefix="drey-bench-")
    try:
        Bench(*sys.argv[1:], directory).run()
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
