#!/usr/bin/env python3
"""What a scrape through Drey costs beside a direct one, of the same page in the same run.

Usage: metrics.py DREY FLINK_HOME JAVA_HOME PROXIES     (what `make bench-metrics` calls, with a release binary)

The page is that of Flink's own reporter with as many series as asked for (Reporter.java). Drey keeps nothing between two
scrapes (--metrics-cache 0s). BENCH_SCRAPES (100) is how often each page is scraped in each way.

No proxy that merges pages could be had, so these are the nearest things, both of Debian: exporter_exporter reads the page
at each scrape, parses it (`verify`) and serves it, and merges nothing; Pushgateway merges what is pushed to it, so one scrape
is the direct read, a push of that page, and the read of the merged one.
"""

import glob
import gzip
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


def scrape(port, compressed, path="/metrics"):
    """One scrape; its milliseconds to the last byte, and the body."""
    headers = {"Accept": "text/plain;version=0.0.4", "X-Prometheus-Scrape-Timeout-Seconds": "60"}
    if compressed:
        headers["Accept-Encoding"] = "gzip"
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=headers)
    body = connection.getresponse().read()
    took = (time.perf_counter() - start) * 1000
    connection.close()
    return took, body


def by_gateway(flink, gateway):
    """One scrape by way of Pushgateway."""
    start = time.perf_counter()
    _, page = scrape(flink, False)
    connection = http.client.HTTPConnection("127.0.0.1", gateway, timeout=60)
    connection.request("PUT", "/metrics/job/flink", body=page)
    answer = connection.getresponse()
    if answer.status != 200:
        sys.exit(f"Pushgateway says {answer.status}: {answer.read(500)}")
    answer.read()
    connection.close()
    _, body = scrape(gateway, False)
    return (time.perf_counter() - start) * 1000, body


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
    def __init__(self, drey, flink, java, proxies, directory):
        self.drey, self.proxies, self.directory = drey, proxies, directory
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

    def exporter_exporter(self, flink):
        port = free_port()
        config = os.path.join(self.directory, f"exporters-{port}.yaml")
        with open(config, "w", encoding="ascii") as file:
            file.write(f"modules: {{flink: {{method: http, timeout: 60s, http: {{port: {flink}, path: /metrics, verify: true}}}}}}\n")
        command = [os.path.join(self.proxies, "prometheus-exporter-exporter"), "-config.file", config,
                   "-web.listen-address", f"127.0.0.1:{port}"]
        process = subprocess.Popen(command, cwd=self.directory)
        wait_for(port, process)
        return process, port

    def pushgateway(self):
        port = free_port()
        command = [os.path.join(self.proxies, "prometheus-pushgateway"), f"--web.listen-address=127.0.0.1:{port}",
                   "--log.level=error"]
        process = subprocess.Popen(command, cwd=self.directory)
        wait_for(port, process)
        return process, port

    def ways(self, series, scrapes):
        """Scrapes one page in all ways, in turns, so that all of them see the same noise."""
        reporter, direct = self.reporter(series)
        drey, proxy = self.proxy(direct)
        exporter, module = self.exporter_exporter(direct)
        gateway, pushed = self.pushgateway()
        ways = {
            "direct": (None, lambda: scrape(direct, False)),
            "drey": (drey, lambda: scrape(proxy, False)),
            "direct, gzip": (None, lambda: scrape(direct, True)),
            "drey, gzip": (drey, lambda: scrape(proxy, True)),
            "exporter_exporter": (exporter, lambda: scrape(module, False, "/proxy?module=flink")),
            "Pushgateway": (gateway, lambda: by_gateway(direct, pushed)),
        }
        try:
            found = {way: {"times": [], "cpu": 0.0, "flink": 0.0, "peak": 0} for way in ways}
            for turn in range(-max(5, scrapes // 5), scrapes):
                for way, (process, work) in ways.items():
                    before = process and cpu(process), cpu(reporter)
                    took, body = work()
                    text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
                    lines = text.count(b"\nflink_")
                    if lines < series - 1:
                        sys.exit(f"{way} has {lines} series of {series}: {text[:500]}")
                    if turn < 0:
                        continue
                    found[way]["times"].append(took)
                    found[way]["cpu"] += cpu(process) - before[0] if process else 0
                    found[way]["flink"] += cpu(reporter) - before[1]
            for way, (process, _) in ways.items():
                found[way]["peak"] = process and peak(process)
            return found, len(scrape(direct, False)[1])
        finally:
            for process in (drey, exporter, gateway, reporter):
                process.kill()
                process.wait()

    def run(self):
        for series in SIZES:
            scrapes = max(10, SCRAPES // 5) if series > 10_000 else SCRAPES
            found, page = self.ways(series, scrapes)
            print(f"\n{series} series, {page / 1e6:.2f} MB, {scrapes} scrapes each way; CPU for each scrape")
            for way, it in found.items():
                middle, late = quantiles(it["times"])
                used, flink = (it[key] / scrapes * 1000 for key in ("cpu", "flink"))
                most = f"peak {it['peak'] / 1024:6.1f} MiB" if it["peak"] else ""
                print(f"  {way:18} p50 {middle:8.2f} ms  p99 {late:8.2f} ms   CPU {used:8.2f} ms, Flink {flink:7.2f} ms  {most}")
            for kind in ("", ", gzip"):
                ratio = quantiles(found["drey" + kind]["times"])[1] / quantiles(found["direct" + kind]["times"])[1]
                print(f"  p99 of Drey is {ratio:.2f} of the direct read's{kind}")
            seconds = found["drey, gzip"]["cpu"] / scrapes
            if seconds:
                print(f"  Drey reads, merges and compresses {page / 1e6 / seconds:.0f} MB/s of one core")
            most = found["drey"]["peak"]
            if series == SIZES[0]:
                self.baseline = most
            else:
                each = (most - self.baseline) * 1024 / series
                print(f"  Drey's peak is {each:.1f} bytes a series beyond that of {SIZES[0]} series", flush=True)


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    directory = tempfile.mkdtemp(prefix="drey-bench-")
    try:
        Bench(*sys.argv[1:], directory).run()
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
