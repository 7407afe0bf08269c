"""How much sooner two workers have caught up than one: wall time from the first row to the last of 400,000 records.

    python -m benchmarks.workers [--records 400000] [--runs 3]

One is the daemon as it is without workers: it reads, decodes and counts in its only process. Two are processes that
read and decode, and a third that counts. Broker and daemon share the machine's cores; the start of processes is not in
the time. The least of several runs, taking turns.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

from benchmarks.ingest import SHAPES, Shape, broker, fill, options
from monitor.batch import Moment
from monitor.decode.reading import Reading
from monitor.sources.kafka import KafkaSource
from monitor.sources.workers import Job, Workers
from monitor.tune import settle

GOAL = 1.7


def seconds(servers: Sequence[str], topic: str, n_records: int, shape: Shape, n_workers: int) -> float:
    """From the first rows that come until all are counted, scaled to all: the first were not waited for."""
    line, one = shape.line(), partial(KafkaSource, [topic], options(servers))
    job = Job(one, [_of(line.readings[0], topic)], settle)
    with closing(one() if n_workers == 1 else Workers(job, n_workers)) as source:
        began = first = 0.0
        while (n_read := sum(line.offsets.values())) < n_records:
            found = source.poll(0.5)
            for records in found:
                line.step(records)
            if not began and found:
                began, first = time.perf_counter(), sum(line.offsets.values())
        taken = time.perf_counter() - began
        line.tick(Moment(0, source.assigned()))
    return taken * n_records / (n_read - first)


def _of(reading: Reading, topic: str) -> Reading:
    return replace(reading, topics=frozenset([topic]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=400_000)
    parser.add_argument("--runs", type=int, default=3)
    wanted = parser.parse_args()
    settle()
    rng, shape, least = random.Random(1), SHAPES["25 features"], {1: float("inf"), 2: float("inf")}
    with broker() as running:
        servers = fill(running, "workers", [shape.record(rng, i) for i in range(wanted.records)])
        for _ in range(wanted.runs):
            for n_workers, taken in least.items():
                least[n_workers] = min(taken, seconds(servers, "workers", wanted.records, shape, n_workers))
    print(
        f"{type(running).__name__}, {wanted.records:,} records, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    for n_workers, taken in least.items():
        print(f"{n_workers} worker{'s' * (n_workers > 1)}: {taken:6.2f} s, {wanted.records / taken:10,.0f} records/s")
    ratio = least[1] / least[2]
    print(f"two are {ratio:.2f}x one; goal >= {GOAL}x on an idle machine  {'met' if ratio >= GOAL else 'MISSED'}")


if __name__ == "__main__":
    main()
