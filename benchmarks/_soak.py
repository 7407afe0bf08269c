"""Hours of service in one run: a steady stream to ten models on a real Kafka, with faults sprinkled in.

Prints, every minute and at the end: resident memory and its slope, open files, threads, lag, commits, windows and
messages; then the time from SIGTERM to the end. `python -m benchmarks._soak --minutes 60`

The stream repeats itself every five minutes, and so does memory. The slope is that of the cycles' means over the second
half of the run, with a 95 % interval from their scatter: the longer the run, the narrower it is (an hour says about
+-5 MB/h, three hours +-1).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import scipy.stats
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from monitor.demo.standins import status
from monitor.demo.standins.slack import SlackStandIn
from monitor.reference import kinds_of, seal
from tests.broker.realbroker import RealBroker

N_FEATURES = 20
CYCLE_MINUTES = 5
"""How often the stream repeats itself: a minute of it drifts."""
HEAD = """
[kafka]
bootstrap_servers = ["{servers}"]
[state]
directory = "state"
[alert]
repeat = "10m"
[[channel]]
name = "alerts"
kind = "slack"
allow_private = true
channel = "#alerts"
token_env = "SOAK_TOKEN"
base_url = "{slack}"
[http]
listen = "127.0.0.1:{port}"
"""
MODEL = """
[[model]]
name = "m{i}"
topics = ["m{i}"]
reference = "reference"
window = "1m"
lateness = "5s"
[model.fields]
timestamp = "ts"
score = "score"
features = "features"
"""


def records(rng: np.random.Generator, n: int, drifting: bool) -> list[bytes]:
    numbers = rng.normal(0.6 if drifting else 0.0, 1.0, (n, N_FEATURES)).round(4)
    words = rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])
    now = int(time.time() * 1000)
    return [
        json.dumps(
            {"ts": now, "score": float(row[0]), "features": {f"x{j}": v for j, v in enumerate(row.tolist())} | {"w": w}}
        ).encode()
        for row, w in zip(numbers, words.tolist(), strict=True)
    ]


class Stream(threading.Thread):
    """Sends records evenly to all models; one record in a thousand is broken, one minute in five drifts."""

    def __init__(self, servers: str, n_models: int, per_second: int) -> None:
        super().__init__(name="stream")
        self._producer = Producer({"bootstrap.servers": servers, "log_level": 0, "linger.ms": 20})
        self._n_models = n_models
        self._per_second = per_second
        self.stop = threading.Event()
        self.n_sent = 0

    def run(self) -> None:
        rng = np.random.default_rng(1)
        each = max(1, self._per_second // self._n_models)
        while not self.stop.is_set():
            began = time.monotonic()
            drifting = int(time.time() // 60) % CYCLE_MINUTES == CYCLE_MINUTES - 1
            for model in range(self._n_models):
                for value in records(rng, each, drifting):
                    self._send(f"m{model}", b"{" if rng.random() < 0.001 else value)
            self._producer.poll(0)
            self.stop.wait(max(0.0, 1.0 - (time.monotonic() - began)))
        self._producer.flush(10)

    def _send(self, topic: str, value: bytes) -> None:
        while not self.stop.is_set():
            try:
                self._producer.produce(topic, value)
            except BufferError:  # The broker is away for longer than the client holds records.
                self._producer.poll(1)
            else:
                self.n_sent += 1
                return


def of_process(pid: int) -> tuple[float, int, int]:
    """Resident MB, open files, threads."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return int(lines["VmRSS"].split()[0]) / 1024, files, int(lines["Threads"])


def scraped(port: int) -> dict[str, float]:
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals


def commit_p99(port: int) -> float:
    """Upper bound of the bucket that holds the 99th percentile of commit times, in seconds."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for family in families
        if family.name == "driftd_state_commit_seconds"
        for sample in family.samples
        if sample.name.endswith("_bucket")
    ]
    total = max(value for _, value in buckets)
    return min(le for le, value in buckets if value >= 0.99 * total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--rate", type=int, default=2_000, help="records per second, all models together")
    parser.add_argument("--port", type=int, default=18_787)
    options = parser.parse_args()
    rng, faults = np.random.default_rng(0), random.Random(0)
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="driftd-soak-")))
        frame = pd.DataFrame({f"x{j}": rng.normal(size=20_000) for j in range(N_FEATURES)})
        frame["score"], frame["w"] = rng.normal(size=20_000), rng.choice(["a", "b", "c"], 20_000, p=[0.6, 0.3, 0.1])
        seal(frame, kinds_of(frame, {}), home / "reference")
        broker = stack.enter_context(RealBroker())
        slack = stack.enter_context(SlackStandIn("xoxb-soak"))
        for i in range(options.models):
            broker.create_topic(f"m{i}", 2)
        text = HEAD.format(servers=broker.bootstrap_servers, slack=slack.api_url, port=options.port)
        (home / "driftd.toml").write_text(text + "".join(MODEL.format(i=i) for i in range(options.models)))
        log = stack.enter_context((home / "log").open("wb"))
        daemon = subprocess.Popen(
            [sys.executable, "-m", "monitor", "run", "--config", str(home / "driftd.toml")],
            stdout=log, stderr=log, env=os.environ | {"SOAK_TOKEN": "xoxb-soak"},
        )  # fmt: skip
        stack.callback(daemon.kill)
        stream = Stream(broker.bootstrap_servers, options.models, options.rate)
        stream.start()
        stack.callback(stream.stop.set)
        samples: list[tuple[float, float, int, int]] = []
        began = time.monotonic()
        heads = ("minute", "RSS MB", "files", "threads", "sent", "counted", "lag", "windows")
        print(" ".join(f"{head:>10}" for head in heads))
        while (elapsed := time.monotonic() - began) < options.minutes * 60:
            time.sleep(min(60.0, options.minutes * 60 - elapsed))
            if daemon.poll() is not None:
                raise SystemExit(f"the daemon ended with {daemon.returncode}: {(home / 'log').read_text()[-2000:]}")
            memory, files, threads = of_process(daemon.pid)
            samples.append((time.monotonic() - began, memory, files, threads))
            seen = scraped(options.port)
            print(
                f"{(time.monotonic() - began) / 60:10.1f} {memory:10.1f} {files:10d} {threads:10d} {stream.n_sent:10,d}"
                f" {seen.get('driftd_rows_total', 0):10,.0f} {seen.get('driftd_kafka_consumer_lag_records', 0):10,.0f}"
                f" {seen.get('driftd_windows_closed_total', 0):10,.0f}",
                flush=True,
            )
            if faults.random() < 0.2:
                slack.order(*(status(503) for _ in range(faults.randrange(1, 4))))
            if faults.random() < 0.05:
                broker.restart()
        report(samples, options.port)
        stream.stop.set()
        stream.join()
        time.sleep(2)
        stopped = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
        print(f"SIGTERM to exit: {time.monotonic() - stopped:.2f} s, exit code {daemon.returncode}")
        db = sqlite3.connect(home / "state" / "driftd.db")
        print("notices:", dict(db.execute("SELECT state, count(*) FROM outbox GROUP BY state").fetchall()))
        print(f"messages at Slack: {len(slack.messages)}")


def slope_of_cycles(at: list[float], memory: list[float]) -> tuple[float, float]:
    """Least squares over the means of whole cycles: MB an hour, and half the width of its 95 % interval."""
    cycle = np.array(at) // (60 * CYCLE_MINUTES)
    whole = [number for number in np.unique(cycle) if np.sum(cycle == number) >= CYCLE_MINUTES - 1]
    if len(whole) < 4:
        return math.nan, math.nan
    means = [float(np.mean(np.array(memory)[cycle == number])) for number in whole]
    fit = scipy.stats.linregress(np.array(whole) * CYCLE_MINUTES / 60, means)
    return float(fit.slope), float(fit.stderr * scipy.stats.t.ppf(0.975, len(whole) - 2))


def report(samples: list[tuple[float, float, int, int]], port: int) -> None:
    """Slopes over the second half, when everything that grows to its size has done so."""
    half = samples[len(samples) // 2 :]
    slope, error = slope_of_cycles([at for at, *_ in half], [memory for _, memory, *_ in half])
    spread = max(memory for _, memory, *_ in half) / min(memory for _, memory, *_ in half) - 1
    files, threads = [files for *_, files, _ in half], [threads for *_, threads in half]
    print(f"RSS: median {statistics.median(m for _, m, *_ in half):.1f} MB, slope {slope:+.2f} MB/h "
          f"({slope - error:+.2f} to {slope + error:+.2f}, goal < 1), spread {spread:.1%}")  # fmt: skip
    print(f"open files: {min(files)} to {max(files)}; threads: {min(threads)} to {max(threads)}")
    print(f"commit p99: <= {commit_p99(port) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
