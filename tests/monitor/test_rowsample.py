"""A window's sample is the rows of the lowest lots, however they were read, and it is bounded."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors import Bins
from detectors.cells import FIRST
from monitor.batch import Batch, Moment, Partition
from monitor.rowsample import MOST_BYTES, RowSample, affordable, lots
from monitor.rowwindows import RowWindows
from monitor.window import WHOLE, Extras, Segments, Span, TimeWindows, Window

BINS = Bins.of({"x": np.arange(10.0)}, {"region": {"EU": 5, "US": 3}})
P0, P1 = Partition("t", 0), Partition("t", 1)
Row = tuple[int, int]


def batch(at: Partition, rows: list[Row]) -> Batch:
    """Rows given by offset and event time; x tells which row of its partition it is."""
    offsets, times = np.array(rows, np.int64).reshape(-1, 2).T
    numbers = np.arange(offsets.size, dtype=np.float64)[None] / 7 + offsets
    cells = BINS.cells(numbers, (FIRST + offsets[None] % 2).astype(np.uint8))
    return Batch(at, offsets.copy(), times.copy(), numbers, cells, int(offsets[-1]) + 1 if rows else 0)


def parts(whole: Batch, cuts: list[int]) -> list[Batch]:
    """The batch cut between records."""
    borders = [-1, *sorted(cuts), 10**9]
    inside = [(whole.offsets > low) & (whole.offsets <= high) for low, high in pairwise(borders)]
    return [whole.without(~mine) for mine in inside]


def expected(batches: list[Batch], limit: int) -> set[tuple[str, int, float]]:
    """By sorting everything."""
    rows = [
        (int(lot), at.partition.topic, at.partition.number, x)
        for at in batches
        for lot, x in zip(lots(at.partition, at.offsets), at.numbers[0].tolist(), strict=True)
    ]
    return {(topic, number, x) for _, topic, number, x in sorted(rows)[:limit]}


def found(sample: RowSample | None) -> set[tuple[str, int, float]]:
    assert sample is not None
    at = [sample.partitions[i] for i in sample.place.tolist()]
    return {(*at, x) for at, x in zip(at, sample.numbers[0].tolist(), strict=True)}


log = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=60).map(
    lambda steps: [
        (offset, 0)
        for offset, (_, n) in zip(np.cumsum([step for step, _ in steps]).tolist(), steps, strict=True)
        for _ in range(n)
    ]
)


@settings(deadline=None)
@given(st.data(), log, log, st.integers(1, 40))
def test_however_rows_are_cut_and_ordered_the_lowest_lots_are_kept(
    data: st.DataObject, one: list[Row], other: list[Row], limit: int
):
    whole = [batch(P0, one), batch(P1, other)]
    cuts = st.lists(st.integers(0, 180), max_size=6)
    queues = [parts(each, data.draw(cuts)) for each in whole]
    windows = TimeWindows(BINS, Span(100, 0), Segments.of(BINS, ["region"], 5), Extras(n_sampled=limit))
    while any(queues):
        windows.add(data.draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
        if data.draw(st.booleans()):
            windows.settle()
            windows.open = {key: _again(window) for key, window in windows.open.items()}
    windows.settle()
    closed = {window.segment: window for window in windows.finish()}
    assert found(closed[WHOLE].sample) == expected(whole, limit)
    assert all(window.sample is None for segment, window in closed.items() if segment != WHOLE)
    straight = TimeWindows(BINS, Span(100, 0), Segments({}), Extras(n_sampled=limit))
    for each in whole:
        straight.add(each)
    straight.settle()
    (same,) = straight.finish()
    assert closed[WHOLE].sample is not None
    assert same.sample is not None
    assert same.sample.to_bytes() == closed[WHOLE].sample.to_bytes()


def _again(window: Window) -> Window:
    """As a start after a crash has it."""
    if window.sample is None:
        return window
    data = window.sample.to_bytes()
    thawed = RowSample.from_bytes(BINS, data)
    assert thawed.to_bytes() == data
    object.__setattr__(window, "sample", thawed)
    return window


def test_two_rows_at_one_offset_are_two_rows_in_whatever_order_they_come():
    """As where a topic was made anew within a window."""
    windows = [TimeWindows(BINS, Span(100, 0), Segments({}), Extras(n_sampled=4)) for _ in range(2)]
    one, other = batch(P0, [(offset, 10) for offset in range(9)]), batch(P0, [(offset, 20) for offset in range(9)])
    samples: list[list[RowSample]] = [[], []]
    for each, order, kept in zip(windows, ((one, other), (other, one)), samples, strict=True):
        for part in order:
            each.add(part)
            each.settle()
            sample = each.open[WHOLE, 0].sample
            assert sample is not None
            kept.append(sample)
    assert samples[0][1].to_bytes() == samples[1][1].to_bytes()
    assert sorted(samples[0][1].time_ms.tolist()) == [10, 10, 20, 20]
    for earlier, later in samples:
        assert later.beyond(earlier).n_rows == 2
        assert (earlier + later.beyond(earlier)).to_bytes() == later.to_bytes()


def test_windows_counted_in_rows_have_samples_of_their_own_rows():
    windows = RowWindows(BINS, 500, Segments({}), Extras(n_sampled=50))
    whole = batch(P0, [(offset, 0) for offset in range(1_200)])
    for part in parts(whole, [333, 777]):
        windows.add(part)
        windows.settle()
    closed = [*windows.close(Moment(0, frozenset({P0}))), *windows.finish()]
    for window, first in zip(closed, (0, 500, 1_000), strict=True):
        rows = whole.without((whole.offsets < first) | (whole.offsets >= first + 500))
        assert found(window.sample) == expected([rows], 50)


def test_rows_that_come_late_are_not_in_the_sample_and_make_none():
    windows = TimeWindows(BINS, Span(100, 0), Segments({}), Extras(n_sampled=50))
    windows.add(batch(P0, [(0, 10), (1, 250), (2, 20), (3, 260)]))
    windows.settle()
    (first, second) = windows.finish()
    assert (first.n_rows, first.waiting.n_rows, first.sample.n_rows if first.sample else None) == (1, 1, 1)
    assert second.sample is not None
    assert second.sample.offsets.tolist() == [*second.sample.offsets[np.argsort(second.sample.lots)]]
    assert sorted(second.sample.offsets.tolist()) == [1, 3]
    assert first.closed(0).amended(first.waiting).sample is None


def test_no_sample_where_none_is_wanted():
    windows = TimeWindows(BINS, Span(100, 0), Segments({}))
    windows.add(batch(P0, [(0, 10)]))
    windows.settle()
    assert [window.sample for window in windows.finish()] == [None]


def test_a_sample_is_like_the_rows_it_was_taken_from():
    """Lots say nothing of the rows: over neighbouring offsets, and over the rows of one record, they are uniform."""
    dense = lots(P0, np.arange(50_000))
    blocks = lots(P0, np.repeat(np.arange(50), 1_000))
    for found_lots in (dense, blocks, dense[::64]):
        assert stats.kstest(found_lots.astype(np.float64) / 2.0**64, "uniform").pvalue > 1e-4
        assert np.unique(found_lots).size == found_lots.size
    assert stats.spearmanr(dense[:-1], dense[1:]).pvalue > 1e-4
    assert not np.intersect1d(dense, lots(P1, np.arange(50_000))).size
    assert (lots(P0, np.array([7, 7, 7, 9]))[[0, 3]] == lots(P0, np.array([7, 9]))).all()


def test_wide_models_keep_fewer_rows():
    wide = Bins.of({f"x{i}": np.arange(3.0) for i in range(1_000)}, {})
    assert affordable(BINS, 300) == 300
    n_rows = affordable(wide, 300)
    assert 1 <= n_rows < 300
    assert n_rows * 9 * 1_000 <= MOST_BYTES


def test_damage_and_other_cells_are_refused():
    sample = RowSample.empty(BINS, 5)
    data = bytearray(sample.to_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        RowSample.from_bytes(BINS, bytes(data))
    with pytest.raises(ValueError, match="another reference"):
        RowSample.from_bytes(Bins.of({"x": np.arange(11.0)}, {}), sample.to_bytes())
