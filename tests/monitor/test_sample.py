"""A sample is the same at every reading, however the log is cut, and what is counted of it stands for the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.consumer.fetcher import Fetcher
from kafka.record.memory_records import MemoryRecordsBuilder

from detectors import Bins, Profile
from monitor.batch import Moment, Partition, Records
from monitor.check import Reference
from monitor.config import Config
from monitor.line import Line, Saved
from monitor.sources.batchpath import batch_reader, take
from monitor.sources.kafka import KafkaSource
from monitor.sources.recordbatch import frame, record_frames
from monitor.sources.sample import Sample

AT = Partition("predictions", 3)
offsets = st.lists(st.integers(0, 2**62), max_size=50).map(lambda found: np.array(sorted(found), np.int64))


@settings(derandomize=True, deadline=None)
@given(offsets, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 50))
def test_the_same_records_at_every_reading_and_more_of_them_in_a_larger_share(
    at: np.ndarray, a: float, b: float, cut: int
):
    small, large = sorted((a, b))
    chosen = Sample(small).chosen(AT, at)
    parts = [Sample(small).chosen(AT, part) for part in (at[:cut], at[cut:])]
    assert np.array_equal(np.concatenate(parts), chosen)
    assert (Sample(large).chosen(AT, at) >= chosen).all()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99, 1.0])
def test_the_share_is_kept_in_every_partition_and_along_the_log(share: float):
    n = 50_000
    for number in range(4):
        chosen = Sample(share).chosen(Partition("t", number), np.arange(n))
        for part in np.split(chosen, 5):
            assert abs(part.mean() - share) <= 5 * math.sqrt(share * (1 - share) / part.size)


def test_partitions_choose_apart():
    one, other = (Sample(0.5).chosen(Partition("t", number), np.arange(10_000)) for number in (0, 1))
    assert 0.45 < (one == other).mean() < 0.55


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_shares_that_cannot_be(share: float):
    with pytest.raises(ValueError, match="sample"):
        Sample(share)


@pytest.mark.parametrize("start", [100, 117])
def test_both_ways_of_reading_choose_alike(start: int):
    builder = MemoryRecordsBuilder(2, 0, 1 << 20, offset=100)
    for i in range(60):
        builder.append(1_700_000_000_000 + i, None, None if i % 9 == 0 else b"v" * i, [])
    builder.close()
    log = bytes(builder.buffer())

    def keep(at: np.ndarray) -> np.ndarray:
        return Sample(0.3).chosen(AT, at)

    reader = batch_reader()
    assert reader is not None
    ours = frame(take(reader, log, start), keep)
    theirs = record_frames(take(Fetcher.PartitionRecords, log, start), keep)
    assert ours[0].tolist() == theirs[0].tolist() == [at for at in range(start, 160) if keep(np.array([at]))[0]]
    assert list(ours[2]) == list(theirs[2])


def test_a_poll_tells_how_many_records_it_passed_over(monkeypatch: pytest.MonkeyPatch):
    source = KafkaSource(["t"], {}, sample=Sample(0.25))
    builder = MemoryRecordsBuilder(2, 0, 1 << 20, offset=0)
    for i in range(400):
        builder.append(1_700_000_000_000 + i, None, b"{}", [])
    builder.close()
    assert source._reader is not None
    pieces = take(source._reader, bytes(builder.buffer()), 0)
    records = source._records(None, AT, pieces)  # type: ignore[arg-type]  # no client is asked
    assert records is not None
    assert (records.n_read, records.next_offset) == (400, 400)
    assert 50 < records.offsets.size < 150


def test_what_is_reported_is_scaled_and_what_is_judged_is_not():
    bins = Bins.of({"age": np.arange(100.0)}, {})
    model = {"name": "m", "topics": ("t",), "reference": "r", "fields": {"timestamp": "ts"}}
    kafka = {"bootstrap_servers": ("b:1",), "sample": 0.1}
    config = Config.model_validate({"kafka": kafka, "model": (model,)})
    line = Line(config, config.model[0], Reference("r", bins, Profile.empty(bins)), Saved(), lambda *_: None)
    values = [b'{"ts": %d, "age": 3}' % (1_700_000_000_000 + i) for i in range(50)]
    at = np.arange(50, dtype=np.int64) * 10
    line.step(Records(Partition("t", 0), at, at + 1_700_000_000_000, values, 500, n_passed=450))
    commit = line.tick(Moment(0, frozenset({Partition("t", 0)})))
    assert commit is not None
    assert (commit.n_rows, commit.state.counts.rows) == (500, 500)
    assert [window.n_rows for window in commit.open.values()] == [50]
    assert config.unsampled.kafka is not None
    assert config.unsampled.kafka.sample == 1
