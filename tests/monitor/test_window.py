"""Windows of event time hold exactly the rows of their span, however the rows arrive."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Bins
from detectors.bins import FIRST
from monitor.batch import NO_TIME, Batch, Partition
from monitor.window import WHOLE, RowWindows, TimeWindows, Window

BINS = Bins.of({"x": np.arange(10.0)}, {"region": {"EU": 5, "US": 3}})
P0, P1 = Partition("t", 0), Partition("t", 1)
WIDTH = 100


def batch(partition: Partition, times: list[int], first: int = 0) -> Batch:
    n = len(times)
    numbers = np.array(times, np.float64)[None] % 10
    words = np.array([[FIRST + time % 2 for time in times]], np.uint8).reshape(1, n)
    offsets = np.arange(first, first + n, dtype=np.int64)
    cells = BINS.cells(numbers, words)
    return Batch(partition, offsets, np.array(times, np.int64), numbers, cells, first + n)


def by_start(windows: list[Window], segment: str = WHOLE) -> dict[int, int]:
    return {window.start_ms: window.n_rows for window in windows if window.segment == segment}


def test_a_window_closes_when_every_partition_has_passed_its_end_by_the_lateness():
    windows = TimeWindows(BINS, WIDTH, lateness_ms=20)
    windows.add(batch(P0, [10, 50, 130]))
    assert windows.watermark({P0, P1}) == NO_TIME
    windows.add(batch(P1, [20, 119]))
    assert windows.close(windows.watermark({P0, P1})) == []
    windows.add(batch(P1, [120], first=2))
    (closed,) = windows.close(windows.watermark({P0, P1}))
    assert (closed.start_ms, closed.end_ms, closed.n_rows) == (0, 100, 3)
    assert (closed.extents[P0].first, closed.extents[P0].last) == (0, 1)
    assert closed.profile.n_windows == 1


def test_an_idle_partition_does_not_hold_windows_open():
    windows = TimeWindows(BINS, WIDTH, lateness_ms=0)
    windows.add(batch(P0, [10, 250]))
    assert windows.watermark({P0, P1}) == NO_TIME
    assert windows.watermark({P0, P1}, idle={P1}) == 250


def test_rows_of_a_closed_window_are_given_back_as_late():
    windows = TimeWindows(BINS, WIDTH, lateness_ms=0)
    windows.add(batch(P0, [10, 250]))
    (closed,) = windows.close(windows.watermark({P0}))
    (late,) = windows.add(batch(P0, [40, 260], first=2))
    assert (late.start_ms, late.profile.n_rows) == (0, 1)
    amended = closed.with_rows(late.profile, late.extents, n_late=1)
    assert (amended.n_rows, amended.n_late, amended.extents[P0].last) == (2, 1, 2)


def test_segments_split_the_whole():
    windows = TimeWindows(BINS, WIDTH, lateness_ms=0, segments=["region"])
    windows.add(batch(P0, [1, 2, 3, 200]))
    closed = windows.close(windows.watermark({P0}))
    assert [(w.segment, w.n_rows) for w in closed] == [(WHOLE, 3), ("region=EU", 1), ("region=US", 2)]


def test_negative_event_times_have_windows_too():
    windows = TimeWindows(BINS, WIDTH, lateness_ms=0)
    windows.add(batch(P0, [-1, 0]))
    assert sorted(start for start, _ in windows.open) == [-100, 0]


@settings(max_examples=80, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 600)), max_size=60), st.integers(0, 300), st.data())
def test_no_row_is_lost_or_counted_twice(rows: list[tuple[int, int]], lateness: int, data: st.DataObject):
    windows = TimeWindows(BINS, WIDTH, lateness)
    got: Counter[int] = Counter()
    offset = 0
    while rows[offset:]:
        size = data.draw(st.integers(1, 10))
        for number, partition in enumerate((P0, P1)):
            times = [time for p, time in rows[offset : offset + size] if p == number]
            for late in windows.add(batch(partition, times)):
                got[late.start_ms] += late.profile.n_rows
        got.update(by_start(windows.close(windows.watermark({P0, P1}))))
        offset += size
    got.update(by_start(windows.close(10_000)))
    assert got == Counter(time - time % WIDTH for _, time in rows)
    assert not windows.open


@pytest.mark.parametrize("cut", range(1, 9))
def test_how_a_log_is_cut_into_batches_does_not_matter(cut: int):
    times = [5, 101, 20, 130, 99, 210, 180, 305, 310]

    def run(pieces: list[list[int]]) -> list[bytes]:
        windows, first = TimeWindows(BINS, WIDTH, lateness_ms=1_000), 0
        for piece in pieces:
            windows.add(batch(P0, piece, first))
            first += len(piece)
        return [window.profile.to_bytes() for window in windows.close(10_000)]

    assert run([times[:cut], times[cut:]]) == run([times])


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 30))
def test_windows_of_rows_are_full_and_lose_nothing(sizes: list[int], n_rows: int):
    windows, offset = RowWindows(BINS, n_rows, ["region"]), 0
    for size in sizes:
        windows.add(batch(P0, list(range(offset, offset + size)), offset))
        offset += size
    full = [window for window in windows.close() if window.segment == WHOLE]
    rest = [window for window in windows.take() if window.segment == WHOLE]
    assert [window.n_rows for window in full] == [n_rows] * (offset // n_rows)
    assert sum(window.n_rows for window in rest) == offset % n_rows
    assert [(w.start_ms, w.end_ms) for w in full] == [(i * n_rows, (i + 1) * n_rows) for i in range(len(full))]
