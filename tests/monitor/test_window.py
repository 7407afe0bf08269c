"""Windows of event time hold exactly the rows of their span, however the rows arrive."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Bins
from detectors.cells import FIRST
from monitor.batch import NO_TIME, Batch, Moment, Partition
from monitor.rowwindows import RowWindows
from monitor.window import WHOLE, Segments, Span, TimeWindows, Window

BINS = Bins.of({"x": np.arange(10.0)}, {"region": {"EU": 5, "US": 3}})
P0, P1 = Partition("t", 0), Partition("t", 1)
WIDTH = 100
NOW = 10**15
NONE = Segments({})


def batch(partition: Partition, times: list[int], first: int = 0) -> Batch:
    n = len(times)
    numbers = np.array(times, np.float64)[None] % 10
    words = np.array([[FIRST + time % 2 for time in times]], np.uint8).reshape(1, n)
    offsets = np.arange(first, first + n, dtype=np.int64)
    cells = BINS.cells(numbers, words)
    return Batch(partition, offsets, np.array(times, np.int64), numbers, cells, first + n)


def moment(*assigned: Partition, idle: tuple[Partition, ...] = (), now_ms: int = 0) -> Moment:
    return Moment(now_ms, frozenset(assigned), frozenset(idle))


def close(windows: TimeWindows, *assigned: Partition) -> list[Window]:
    windows.settle()
    return windows.close(moment(*assigned))


def by_start(windows: list[Window], segment: str = WHOLE) -> dict[int, int]:
    return {window.start_ms: window.n_rows for window in windows if window.segment == segment}


def test_a_window_closes_when_every_partition_has_passed_its_end_by_the_lateness():
    windows = TimeWindows(BINS, Span(WIDTH, 20), NONE)
    windows.add(batch(P0, [10, 50, 130]))
    assert windows.watermark(moment(P0, P1)) == NO_TIME
    windows.add(batch(P1, [20, 119]))
    assert not windows.ready(moment(P0, P1))
    assert close(windows, P0, P1) == []
    windows.add(batch(P1, [120], first=2))
    assert windows.ready(moment(P0, P1))
    (closed,) = close(windows, P0, P1)
    assert (closed.start_ms, closed.end_ms, closed.n_rows) == (0, 100, 3)
    assert (closed.tally.extents[P0].first, closed.tally.extents[P0].last) == (0, 1)
    assert closed.closed(0).tally.profile.n_windows == 1


def test_an_idle_partition_does_not_hold_windows_open():
    windows = TimeWindows(BINS, Span(WIDTH, 0), NONE)
    windows.add(batch(P0, [10, 250]))
    assert windows.watermark(moment(P0, P1)) == NO_TIME
    assert windows.watermark(moment(P0, P1, idle=(P1,))) == 250


def test_where_nothing_comes_any_more_the_wall_clock_ends_what_is_open_and_nothing_else():
    windows = TimeWindows(BINS, Span(WIDTH, 20), NONE)
    windows.add(batch(P0, [10, 250]))
    windows.settle()
    quiet = moment(P0, idle=(P0,), now_ms=300)
    assert by_start(windows.close(quiet)) == {0: 1}
    assert by_start(windows.close(moment(P0, idle=(P0,), now_ms=320))) == {200: 1}
    windows.add(batch(P0, [310], first=2))
    assert windows.settle() == []


def test_rows_of_a_closed_window_are_given_back_as_late():
    windows = TimeWindows(BINS, Span(WIDTH, 0), NONE)
    windows.add(batch(P0, [10, 250]))
    (closed,) = close(windows, P0)
    windows.add(batch(P0, [40, 260], first=2))
    (late,) = windows.settle()
    assert (late.start_ms, late.tally.n_rows) == (0, 1)
    amended = closed.closed(0).amended(late.tally)
    assert (amended.n_rows, amended.n_late, amended.revision, amended.tally.extents[P0].last) == (2, 1, 1, 2)


def test_a_row_late_in_its_own_partition_waits_for_the_end_of_a_window_that_another_holds_open():
    windows = TimeWindows(BINS, Span(WIDTH, 0), NONE)
    windows.add(batch(P1, [1]))
    windows.add(batch(P0, [10, 250, 40]))
    assert close(windows, P0, P1) == []
    windows.add(batch(P1, [100], first=1))
    (closed,) = close(windows, P0, P1)
    assert (closed.n_rows, closed.waiting.n_rows) == (2, 1)


def test_rows_too_late_for_their_window_to_be_kept_are_dropped_however_fast_the_log_is_read():
    for pieces in ([[10, 1_050, 20, 960]], [[10], [1_050], [20], [960]]):
        windows, first = TimeWindows(BINS, Span(WIDTH, 50, retention_ms=200), NONE), 0
        for piece in pieces:
            windows.add(batch(P0, piece, first))
            first += len(piece)
            close(windows, P0)
        assert (windows.n_dropped, windows.newest) == (1, {P0: 1_050})


def test_segments_split_the_whole():
    windows = TimeWindows(BINS, Span(WIDTH, 0), Segments.of(BINS, ["region"], 50))
    windows.add(batch(P0, [1, 2, 3, 200]))
    closed = close(windows, P0)
    assert [(w.segment, w.n_rows) for w in closed] == [(WHOLE, 3), ("region=EU", 1), ("region=US", 2)]
    assert list(Segments.of(BINS, ["region"], 1).cells) == ["region=EU"]


def test_negative_event_times_have_windows_too():
    windows = TimeWindows(BINS, Span(WIDTH, 0), NONE)
    windows.add(batch(P0, [-1, 0]))
    windows.settle()
    assert sorted(start for _, start in windows.open) == [-100, 0]


rows_of_two_partitions = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 600)), max_size=60)


@settings(max_examples=80, derandomize=True, deadline=None)
@given(rows_of_two_partitions, st.integers(0, 300), st.data())
def test_no_row_is_lost_or_counted_twice(rows: list[tuple[int, int]], lateness: int, data: st.DataObject):
    windows = TimeWindows(BINS, Span(WIDTH, lateness), NONE)
    got: Counter[int] = Counter()

    def take(found: list[Window]) -> None:
        for window in found:
            got[window.start_ms] += window.n_rows + window.waiting.n_rows

    offset = 0
    while rows[offset:]:
        size = data.draw(st.integers(1, 10))
        for number, partition in enumerate((P0, P1)):
            windows.add(batch(partition, [time for p, time in rows[offset : offset + size] if p == number]))
        for late in windows.settle():
            got[late.start_ms] += late.tally.n_rows
        take(windows.close(moment(P0, P1)))
        offset += size
    take(windows.finish())
    assert +got == Counter(time - time % WIDTH for _, time in rows)
    assert not windows.open


@settings(max_examples=80, derandomize=True, deadline=None)
@given(rows_of_two_partitions, st.integers(0, 300), st.randoms(use_true_random=False))
def test_how_partitions_are_interleaved_does_not_change_what_a_window_closes_with(rows, lateness, random):
    logs = {p: [time for number, time in rows if number == p.number] for p in (P0, P1)}

    def run(order: list[Partition]) -> list[tuple[int, bytes]]:
        windows, read, closed = TimeWindows(BINS, Span(WIDTH, lateness), NONE), {P0: 0, P1: 0}, []
        for partition in order:
            windows.add(batch(partition, [logs[partition][read[partition]]], read[partition]))
            read[partition] += 1
            windows.settle()
            closed += windows.close(moment(P0, P1))
        closed += windows.finish()
        # A window made by late rows alone comes into being when they come; it closes with nothing.
        return [(w.start_ms, w.tally.profile.to_bytes()) for w in closed if w.n_rows]

    order = [P0] * len(logs[P0]) + [P1] * len(logs[P1])
    first = run(order)
    for _ in range(3):
        random.shuffle(order)
        assert run(order) == first


@settings(max_examples=60, derandomize=True, deadline=None)
@given(rows_of_two_partitions, st.integers(0, 300), st.integers(1, 4))
def test_partitions_that_wait_for_others_keep_few_windows_open_and_change_none(rows, lateness, max_open):
    logs = {p: [time for number, time in rows if number == p.number] for p in (P0, P1)}

    def run(span: Span) -> tuple[list[tuple[int, bytes]], int]:
        windows, read, closed, most = TimeWindows(BINS, span, NONE), {P0: 0, P1: 0}, [], 0
        while todo := [p for p in (P0, P1) if read[p] < len(logs[p])]:
            # The first is read as far as it may be; one that was read to its end is idle.
            partition = min(set(todo) - windows.ahead(), default=todo[0])
            windows.add(batch(partition, [logs[partition][read[partition]]], read[partition]))
            read[partition] += 1
            windows.settle()
            closed += windows.close(moment(P0, P1))
            if set(todo) - windows.ahead():
                most = max(most, len(windows.open))
        closed += windows.finish()
        return [(w.start_ms, w.tally.profile.to_bytes()) for w in closed if w.n_rows], most

    free, _ = run(Span(WIDTH, lateness))
    held, most = run(Span(WIDTH, lateness, max_open=max_open))
    assert held == free
    assert most <= max_open + 1 + lateness // WIDTH + 2  # the other's own windows, while it catches up


@pytest.mark.parametrize("cut", range(1, 9))
def test_how_a_log_is_cut_into_batches_does_not_matter(cut: int):
    times = [5, 101, 20, 130, 99, 210, 180, 305, 310]

    def run(pieces: list[list[int]]) -> list[bytes]:
        windows, first = TimeWindows(BINS, Span(WIDTH, 1_000), NONE), 0
        for piece in pieces:
            windows.add(batch(P0, piece, first))
            first += len(piece)
        windows.settle()
        return [window.tally.profile.to_bytes() for window in windows.finish()]

    assert run([times[:cut], times[cut:]]) == run([times])


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 30), st.booleans())
def test_windows_of_rows_are_full_and_lose_nothing(sizes: list[int], n_rows: int, often: bool):
    windows, offset = RowWindows(BINS, n_rows, Segments.of(BINS, ["region"], 9)), 0
    for size in sizes:
        windows.add(batch(P0, list(range(offset, offset + size)), offset))
        offset += size
        if often:
            windows.settle()
    assert windows.ready(moment(P0)) == (offset >= n_rows)
    windows.settle()
    full = [window for window in windows.close(moment(P0)) if window.segment == WHOLE]
    rest = [window for window in windows.finish() if window.segment == WHOLE]
    assert [window.n_rows for window in full] == [n_rows] * (offset // n_rows)
    assert sum(window.n_rows for window in rest) == offset % n_rows
    assert [(w.start_ms, w.end_ms) for w in full] == [(i * n_rows, (i + 1) * n_rows) for i in range(len(full))]
