"""A topic that is deleted and made anew, while the daemon runs and while it does not: every row of the new log counts
once, whatever was already read of it under the old one's offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Bins, Profile
from monitor.batch import NO_TIME, Partition, Records
from monitor.check import Reference
from monitor.config import Config
from monitor.daemon import Daemon, Outside, Pace
from monitor.engine import Commit, Engine
from monitor.line import Line, Saved, shape
from monitor.outbox import Courier
from monitor.store import Store
from tests.monitor.stand_in import Silent

AT = Partition("t", 0)
BINS = Bins.of({"x": np.arange(100.0)}, {})
REFERENCE = Reference("r", BINS, Profile.empty(BINS))
CONFIG = Config.model_validate({"model": ({"name": "m", "topics": ("t",), "reference": "r", "window": "9999 rows"},)})


class Topic(Silent):
    """A log under a name. What it gives next is at the reader's offset in whichever log is there."""

    def __init__(self, name: str, n_records: int) -> None:
        super().__init__(AT)
        self.name, self.n_records, self.at = name, n_records, 0

    def make_anew(self, n_records: int) -> None:
        self.name, self.n_records = f"{self.name}+", n_records

    def poll(self, timeout_seconds: float) -> Sequence[Records]:
        offsets = np.arange(self.at, min(self.at + 3, self.n_records), dtype=np.int64)
        if not offsets.size:
            return []
        self.at = int(offsets[-1]) + 1
        return [Records(AT, offsets, np.full(offsets.size, NO_TIME), [b'{"x": 1}'] * offsets.size, self.at)]

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        self.at = offsets.get(AT, self.at)

    def log_ids(self) -> Mapping[str, str]:
        return {"t": self.name}


def work(directory: Path, topic: Topic, n_rounds: int, anew_at: int = -1, n_records: int = 0) -> None:
    """A daemon from its start to its end, so many rounds; the topic is made anew before one of them."""
    store = Store(directory)
    saved = store.load("m", shape(CONFIG.model[0], REFERENCE), BINS)
    line = Line(CONFIG, CONFIG.model[0], REFERENCE, saved, lambda *_: None)
    rounds = iter(range(n_rounds))

    def wanted() -> bool:
        number = next(rounds, None)
        if number == anew_at:
            topic.make_anew(n_records)
        return number is not None

    topic.at = 0
    Daemon(Engine([line]), topic, store, Courier({}), Outside(), Pace(0.0, 60.0)).run(wanted, lambda _: None)
    store.close()


def test_progress_is_committed_after_so_many_records(tmp_path: Path):
    class Counted(Store):
        offsets: Sequence[int] = ()

        def apply(self, commit: Commit) -> int:
            self.offsets = [*self.offsets, *(part.offsets[AT] for part in commit.models)]
            return super().apply(commit)

    store, rounds = Counted(tmp_path / "state"), iter(range(10))
    line = Line(CONFIG, CONFIG.model[0], REFERENCE, Saved(), lambda *_: None)
    pace = Pace(3600.0, 60.0, checkpoint_records=9)
    daemon = Daemon(Engine([line]), Topic("first", 30), store, Courier({}), Outside(), pace)
    daemon.run(lambda: next(rounds, None) is not None, lambda _: None)
    store.close()
    assert store.offsets == [3, 12, 21, 30]  # the first tick is at once


sizes = st.integers(1, 20)


@settings(max_examples=15)
@given(n_old=sizes, n_new=sizes, n_rounds=st.integers(1, 8), anew_at=st.integers(1, 8), running=st.booleans())
def test_every_row_of_the_new_log_counts_once(n_old: int, n_new: int, n_rounds: int, anew_at: int, running: bool):
    with TemporaryDirectory() as home:
        directory, topic = Path(home) / "state", Topic("first", n_old)
        work(directory, topic, n_rounds, anew_at if running else -1, n_new)
        if topic.name == "first":
            topic.make_anew(n_new)
        n_read_of_old = min(n_old, 3 * (min(anew_at, n_rounds) if running else n_rounds))
        work(directory, topic, 10)
        store = Store(directory)
        saved = store.load("m", shape(CONFIG.model[0], REFERENCE), BINS)
        store.close()
        assert saved.state is not None
        assert saved.state.logs == (("t", "first+"),)
        assert saved.state.counts.anew == 1
        assert saved.state.counts.rows == n_read_of_old + n_new
        assert saved.offsets == {AT: n_new}
        assert sum(window.n_rows for window in saved.open.values()) == n_read_of_old + n_new
