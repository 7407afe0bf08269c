"""A partition that is read far ahead of another waits for it: few windows are open, and every row counts once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from detectors import Bins, Profile
from monitor.batch import Partition, Records
from monitor.check import Reference
from monitor.config import Config
from monitor.daemon import Daemon, Outside, Pace
from monitor.engine import Commit, Engine
from monitor.line import Line, Saved
from monitor.outbox import Courier
from monitor.store import Store
from tests.monitor.stand_in import Silent

WIDTH_MS = 60_000
START_MS = 1_700_000_040_000
FAST, SLOW = Partition("t", 0), Partition("t", 1)
BINS = Bins.of({"x": np.arange(100.0)}, {})
REFERENCE = Reference("r", BINS, Profile.empty(BINS))


class Uneven(Silent):
    """Two partitions with a row for every minute; a poll gives eight records of one, but one of the other."""

    def __init__(self, n_records: int) -> None:
        super().__init__(FAST, SLOW)
        self.n_records, self.at, self.n_back = n_records, {FAST: 0, SLOW: 0}, 0
        self.held, self.n_holds = frozenset[Partition](), 0

    def poll(self, timeout_seconds: float) -> Sequence[Records]:
        found = []
        for partition, n in ((FAST, 8), (SLOW, 1)):
            if partition in self.held:
                continue
            offsets = np.arange(self.at[partition], min(self.at[partition] + n, self.n_records), dtype=np.int64)
            if offsets.size:
                self.at[partition] = int(offsets[-1]) + 1
                times_ms, values = START_MS + offsets * WIDTH_MS, [b'{"x": 1}'] * offsets.size
                found.append(Records(partition, offsets, times_ms, values, self.at[partition]))
        return found

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        self.n_back += any(self.at[partition] > offset for partition, offset in offsets.items())
        self.at |= offsets

    def hold(self, partitions: frozenset[Partition]) -> None:
        self.n_holds += bool(partitions)
        self.held = partitions


class Noted(Store):
    """Remembers what was committed of windows."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.n_open: list[int] = []
        self.windows: list[tuple[int, bytes]] = []

    def apply(self, commit: Commit) -> int:
        for part in commit.models:
            self.n_open.append(part.n_open)
            self.windows += [(each.window.start_ms, each.window.tally.profile.to_bytes()) for each in part.judged]
        return super().apply(commit)


def worked(directory: Path, source: Uneven, max_open_windows: int) -> tuple[Noted, Outside]:
    """What came of reading all of it."""
    model = {"name": "m", "topics": ("t",), "reference": "r", "window": "1m", "lateness": "0s"}
    config = Config.model_validate({"state": {"max_open_windows": max_open_windows}, "model": (model,)})
    store, outside, turns = Noted(directory), Outside(), iter(range(100))
    line = Line(config, config.model[0], REFERENCE, Saved(), lambda *_: None)
    daemon = Daemon(Engine([line]), source, store, Courier({}), outside, Pace(0.0, 3600.0))
    daemon.run(lambda: next(turns, None) is not None, lambda _: None)
    store.close()
    return store, outside


def test_a_partition_that_is_far_ahead_waits_and_windows_come_out_the_same(tmp_path: Path):
    free, held = Uneven(60), Uneven(60)
    as_it_comes, _ = worked(tmp_path / "free", free, 1_000)
    in_step, outside = worked(tmp_path / "held", held, 10)
    assert max(as_it_comes.n_open) > 30
    assert max(in_step.n_open) <= 10 + 8
    assert free.n_holds == 0 < held.n_holds
    assert 0 < held.n_back <= held.n_holds  # what came of a partition in the poll in which it got ahead, and no more
    assert not held.held
    assert in_step.windows == as_it_comes.windows
    assert len(in_step.windows) == 59  # the last is open still
    assert outside.metrics.registry.get_sample_value("driftd_kafka_partitions_waiting") == 0
