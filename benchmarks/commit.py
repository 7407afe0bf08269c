"""How long a commit takes until it is on the disk, and how large the database gets.

    python -m benchmarks.commit [--directory DIR] [--windows 24]

100 models of 25 columns, each with 5 segments beside the whole. Every window gets ten checkpoints with rows in all of
them, then closes and is judged. The directory should be on the disk that the state will be on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.clock import within
from monitor.batch import Batch, Moment, Partition
from monitor.board import Board
from monitor.config import Config
from monitor.engine import Commit, Engine
from monitor.line import Line, Saved
from monitor.reference import kinds_of, seal, unseal
from monitor.store import Store

N_MODELS, N_COLUMNS, N_SEGMENTS, N_ROWS, N_CHECKPOINTS = 100, 25, 5, 200, 10
WINDOW_MS = 3_600_000
GOAL_CHECKPOINT, GOAL_CLOSE = 0.25, 1.5
"""Seconds, at the 99th percentile: a checkpoint comes every five seconds, a close every hour."""


def frame(n_rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(n_rows)
    columns = {f"x{i}": rng.standard_normal(n_rows) for i in range(N_COLUMNS - 1)}
    return pd.DataFrame(columns | {"plan": rng.choice([f"p{i}" for i in range(N_SEGMENTS)], n_rows)})


def engine(folder: Path, store: Store) -> Engine:
    seen = frame(20_000)
    seal(seen, kinds_of(seen, {}), folder / "reference")
    reference = unseal(folder / "reference")
    models = [
        {
            "name": f"m{i}", "topics": [f"t{i}"], "reference": "reference", "decision": "family",
            "segments": ["plan"], "window": "1h", "lateness": "1s",
        }
        for i in range(N_MODELS)
    ]  # fmt: skip
    config = Config.model_validate({"model": models})
    recall = partial(store.recall, {model.name: reference.bins for model in config.model})
    board = Board(config.alert.burst)
    return Engine([Line(config, model, reference, Saved(), recall, board) for model in config.model], board)


def batches(line: Line, rng: np.random.Generator, time_ms: int, first: int) -> Batch:
    bins = line.layout.bins
    numbers = rng.standard_normal((bins.n_numeric, N_ROWS))
    codes = np.array(list(bins.categorical[0].codes().values()), np.uint8)
    words = rng.choice(codes, (1, N_ROWS))
    (at,) = (Partition(topic, 0) for topic in line.topics)
    offsets = np.arange(first, first + N_ROWS)
    times = np.full(N_ROWS, time_ms)
    return Batch(at, offsets, times, numbers, bins.cells(numbers, words), first + N_ROWS)


def timed(store: Store, commit: Commit | None) -> float:
    assert commit is not None
    began = time.perf_counter()
    store.apply(commit)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--windows", type=int, default=24)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.directory) as name:
        folder = Path(name)
        store = Store(folder / "state")
        machine, rng = engine(folder, store), np.random.default_rng(1)
        checkpoints: list[float] = []
        closes: list[float] = []
        n_seen = 0
        for window in range(wanted.windows):
            for step in range(N_CHECKPOINTS):
                now_ms = window * WINDOW_MS + step * WINDOW_MS // N_CHECKPOINTS
                for line in machine.lines:
                    line.add(batches(line, rng, now_ms, n_seen))
                n_seen += N_ROWS
                everywhere = frozenset(at for line in machine.lines for at in line.offsets)
                moment = Moment(now_ms, everywhere)
                taken = closes if machine.ready(moment) else checkpoints
                taken.append(timed(store, machine.tick(moment)))
        size_mb = store.database.n_bytes / 1e6
        ((n_windows,),) = store.database.rows("SELECT count(*) FROM windows")
        store.close()
    print(f"{N_MODELS} models, {N_COLUMNS} columns, {N_SEGMENTS} segments, {wanted.windows} windows")
    for what, taken, goal in (("checkpoint", checkpoints, GOAL_CHECKPOINT), ("close", closes, GOAL_CLOSE)):
        print(f"{what:12} median {np.median(taken) * 1e3:7.1f} ms")
        within(f"{what}: seconds at the 99th percentile", float(np.percentile(taken, 99)), goal)
    print(f"{size_mb:.1f} MB for {n_windows:,} closed windows: {size_mb * 1e3 / n_windows:.2f} kB each")


if __name__ == "__main__":
    main()
