"""Resident memory of reading: 20 million records of 25 features through one line, as a daemon would, without Kafka.

    python -m benchmarks.memory [--records 20000000]

Windows close all the while; every fetch is a new copy of its bytes. Memory must stay flat once it is warm.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.scale import FETCH, START_MS, config, reference, rows
from monitor.batch import Moment, Partition, Records
from monitor.line import Line, Saved
from monitor.tune import settle

GOAL = 0.05
TICK_ROWS = 500_000


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000_000)
    n_records = parser.parse_args().records
    settle()
    settings, at = config(), Partition("t", 0)
    line = Line(settings, settings.model[0], reference(20, 5), Saved(), lambda *_: None)
    parts = [json.dumps(row["features"]).encode() for row in rows(FETCH, 20, 5)]
    seen: list[float] = []
    for first in range(0, n_records, FETCH):
        # A window of an hour fills every 180,000 records.
        values = [b'{"ts": %d, "score": 0.5, "features": %s}' % (START_MS + (first + i) * 20, part)
                  for i, part in enumerate(parts)]  # fmt: skip
        offsets = np.arange(first, first + FETCH, dtype=np.int64)
        line.step(Records(at, offsets, START_MS + offsets * 20, values, first + FETCH))
        if (first + FETCH) % TICK_ROWS == 0:
            line.tick(Moment(0, frozenset({at})))
            seen.append(resident_mib())
            if len(seen) % 4 == 0:
                print(f"{first + FETCH:12,d} records: {seen[-1]:6.1f} MiB resident", flush=True)
    warm = seen[len(seen) // 10 :]
    growth = np.mean(warm[-len(warm) // 4 :]) / np.mean(warm[: len(warm) // 4]) - 1
    print(f"growth from the first quarter to the last: {growth:+.1%}, goal <= {GOAL:.0%}  "
          f"{'met' if growth <= GOAL else 'MISSED'}")  # fmt: skip


if __name__ == "__main__":
    main()
