"""Windows of one model: which rows belong together, and when a window is complete.

The clock is event time. The watermark is the smallest, over the partitions being read, of the newest event time seen
there less the allowed lateness; a window of time closes when the watermark reaches its end, and one that is counted in
rows closes when it is full. Whether a row is late is decided by its own partition alone: late is a row whose window
ends at or before what its partition's watermark was when the row came. Late rows never join a window before it closes;
they amend it afterwards, unless they are so late that nothing is kept of it. So the first form of every window follows
from the log alone, however the partitions were interleaved, and a replay after a crash gives the same windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from detectors import Bins
from detectors.blocks import N_PANES
from detectors.season import DAY_MS
from monitor.batch import NO_TIME, Batch, Int64s, Moment, Partition
from monitor.errors import ReferenceFault
from monitor.rowsample import RowSample, affordable
from monitor.tally import Rows, Stack, Tally

WHOLE: Final = "all"
"""The segment that holds every row."""
BUFFER_ROWS: Final = 16_384
"""Rows that wait to be counted together; counting costs the same for one row as for some hundred."""

OPEN: Final = -1
"""The number of a window that has not closed."""

Key = tuple[str, int]
"""Segment, and start of the window in epoch milliseconds (0 for the open window that is counted in rows)."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Rows that go to one window of one segment. sample: those of them that may have a place in the window's."""

    segment: str
    start_ms: int
    end_ms: int
    tally: Tally
    late: bool = False
    sample: RowSample | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The rows of one segment that belong together, as far as they have been read.

    start_ms, end_ms: the half-open span of event time; for windows counted in rows, the first event time and one past
    the last, both NO_TIME where rows have none. waiting: late rows of a window that is still open. n_late: rows that
    came late. index: number among the closed windows of its segment, -1 while open; minus the start where late rows
    alone made the window. sample: of the rows that came in time; None where none are kept, as for segments, and for a
    closed window that was read again.
    """

    segment: str
    start_ms: int
    end_ms: int
    tally: Tally
    waiting: Tally
    n_late: int = 0
    index: int = OPEN
    revision: int = 0
    sample: RowSample | None = None

    @classmethod
    def fresh(
        cls, bins: Bins, segment: str, start_ms: int = NO_TIME, end_ms: int = NO_TIME, sample: RowSample | None = None
    ) -> Window:
        """An open window without rows."""
        none = Tally.empty(bins)
        return cls(segment, start_ms, end_ms, none, none, sample=sample)

    @property
    def n_rows(self) -> int:
        return self.tally.n_rows

    @property
    def n_counted(self) -> int:
        """Rows, or values of a column that has more: labels may come while no predictions do."""
        return int(self.tally.profile.n_all.max(initial=0))

    def with_rows(self, tally: Tally, late: bool = False, sample: RowSample | None = None) -> Window:
        """The open window with these rows counted in; late ones wait for its end. sample: see `Piece`."""
        if late:
            return replace(self, waiting=self.waiting + tally)
        together = self.sample if self.sample is None or sample is None else self.sample + sample
        return replace(self, tally=self.tally + tally, sample=together)

    def closed(self, index: int) -> Window:
        """The window as it closes; what waits is left to `amended`."""
        return replace(self, tally=self.tally.as_window(), waiting=Tally.empty(self.tally.profile.bins), index=index)

    def amended(self, late: Tally) -> Window:
        """The closed window with late rows counted in, as its next revision."""
        return replace(
            self, tally=self.tally + late, n_late=self.n_late + late.n_rows, revision=self.revision + 1, sample=None
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Segments:
    """Which rows get windows of their own: of named categorical columns the most frequent words, in all a few.

    cells: the segment's name ("region=EU") to the row of its column in `Bins.names` and its cell there.
    """

    cells: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, bins: Bins, columns: Sequence[str], limit: int) -> Segments:
        """At most `limit` words in all, the most frequent of every column first.

        ReferenceFault for a column that the reference does not have, or not as one of words.
        """
        words = {column.name: column for column in bins.categorical}
        for name in columns:
            if name not in words:
                found = "one of numbers" if name in bins.names else "none of that name"
                raise ReferenceFault(
                    f"segments: wanted a column of words {name!r} in the reference, found {found}; "
                    f"columns of words: {', '.join(words) or 'none'}"
                )
        cells = {
            f"{name}={word}": (bins.names.index(name), words[name].codes()[word])
            for name in columns
            for word in words[name].vocabulary
        }
        ordered = sorted(cells, key=lambda name: cells[name][1])
        return cls({name: cells[name] for name in ordered[:limit]})

    @property
    def order(self) -> list[str]:
        """Names of all segments, the whole first: the order in which windows of one span are given out."""
        return [WHOLE, *self.cells]

    def split(self, stack: Stack, rows: Rows, pane: Rows | None = None) -> Iterable[tuple[str, Tally]]:
        """The chosen rows counted, as a whole and by segment; only what is not empty. pane: of each row, if asked."""
        yield WHOLE, stack.tally(rows, pane, whole=True)
        for name, (column, cell) in self.cells.items():
            mine = stack.cells[column, rows] == cell
            if mine.any():
                yield name, stack.tally(rows[mine], None if pane is None else pane[mine])


class Windows(Protocol):
    """What the engine asks of either kind of window.

    needs_time: whether every row must have an event time. n_dropped: rows that came too late for their window to be
    kept; n_again: rows that were in closed windows before. State, beside the open windows: newest, the newest event
    time seen in each partition; closed_until: windows that end there or before are closed; fences: offsets below which
    rows are read for the second time.
    """

    needs_time: bool
    n_dropped: int
    n_again: int
    fences: dict[Partition, int]
    newest: dict[Partition, int]
    closed_until: int
    open: dict[Key, Window]

    def add(self, batch: Batch) -> None:
        """Take rows; they are counted when enough wait, or at `settle`."""

    def settle(self) -> list[Piece]:
        """Count what waits. Returns rows whose window has closed already: they amend it, and that needs the store."""

    def ready(self, moment: Moment) -> bool:
        """Whether `close` would give a window."""

    def close(self, moment: Moment) -> list[Window]:
        """Take out the windows that are complete, in order; in each span the whole before its segments."""

    def finish(self) -> list[Window]:
        """Take out everything: the end of a replay."""

    def ahead(self) -> frozenset[Partition]:
        """Partitions that are better not read on for now: more windows are open than there should be, and these have
        passed the first of them. Others have not, and must be read for it to close."""


@dataclass(frozen=True, slots=True)
class Span:
    """How windows of time are cut, in milliseconds.

    lateness_ms: how far behind the newest row of its partition a row may come; retention_ms: how much further behind
    it still amends its window. max_open: windows, those of segments included, that may be open before partitions wait.
    """

    width_ms: int
    lateness_ms: int
    retention_ms: int = 90 * DAY_MS
    max_open: int = 1_000


@dataclass(frozen=True, slots=True)
class Extras:
    """What is kept of rows beyond their counts. panes: counts by quarters of a window; n_sampled: rows of a window."""

    panes: bool = False
    n_sampled: int = 0

    def sample(self, bins: Bins, segment: str) -> RowSample | None:
        """A fresh window's sample."""
        n_rows = self.n_sampled if segment == WHOLE else 0
        return RowSample.empty(bins, affordable(bins, n_rows)) if n_rows else None


NO_EXTRAS: Final = Extras()


class TimeWindows:
    """Tumbling windows of event time, aligned to the epoch."""

    needs_time = True

    def __init__(self, bins: Bins, span: Span, segments: Segments, extras: Extras = NO_EXTRAS) -> None:
        self._bins = bins
        self.extras = extras
        self.width_ms = span.width_ms
        self._lateness_ms = span.lateness_ms
        self._retention_ms = span.retention_ms
        self._max_open = span.max_open
        self._segments = segments
        self._buffer: list[tuple[Batch, NDArray[np.bool_]]] = []
        self._n_waiting = 0
        self._late: list[Piece] = []
        self.n_dropped = self.n_again = 0
        self.fences: dict[Partition, int] = {}
        self.newest: dict[Partition, int] = {}
        self.closed_until = NO_TIME
        self.open: dict[Key, Window] = {}

    def add(self, batch: Batch) -> None:
        """See `Windows.add`. Every row must have an event time."""
        fresh = self.beyond_fence(batch)
        self.n_again += batch.n_rows - fresh.n_rows
        if not (batch := fresh).n_rows:
            return
        before = self.newest.get(batch.partition, NO_TIME)
        newest = self.newest[batch.partition] = max(before, int(batch.time_ms.max()))
        if newest - self._lateness_ms < self._first_end(batch):  # so no row is late, as is usual
            kept, late = batch, np.zeros(batch.n_rows, np.bool_)
        else:
            seen = np.maximum(np.maximum.accumulate(batch.time_ms), before)
            behind_ms = seen - self._lateness_ms - self._ends(batch.time_ms)
            kept = batch.without(behind_ms >= self._retention_ms)
            late = behind_ms[behind_ms < self._retention_ms] >= 0
        self.n_dropped += batch.n_rows - kept.n_rows
        self._buffer.append((kept, late))
        self._n_waiting += kept.n_rows
        if self._n_waiting >= BUFFER_ROWS:
            self._count()

    def settle(self) -> list[Piece]:
        """See `Windows.settle`."""
        self._count()
        late, self._late = self._late, []
        return late

    def absorb(self, pieces: Iterable[Piece]) -> None:
        """Count rows that were cut into pieces elsewhere."""
        for piece in pieces:
            if piece.end_ms <= self.closed_until:
                self._late.append(piece)
                continue
            key = (piece.segment, piece.start_ms)
            window = self.open.get(key)
            if window is None:
                sample = self.extras.sample(self._bins, piece.segment)
                window = Window.fresh(self._bins, *key, piece.end_ms, sample)
            self.open[key] = window.with_rows(piece.tally, piece.late, piece.sample)

    def ready(self, moment: Moment) -> bool:
        """See `Windows.ready`."""
        watermark = self.watermark(moment)
        waiting = [self._first_end(batch) for batch, _ in self._buffer if batch.n_rows]
        return min([*waiting, *(window.end_ms for window in self.open.values())], default=watermark + 1) <= watermark

    def close(self, moment: Moment) -> list[Window]:
        """See `Windows.close`."""
        return self._close(self.watermark(moment))

    def finish(self) -> list[Window]:
        """See `Windows.finish`."""
        return self._close(max((window.end_ms for window in self.open.values()), default=NO_TIME))

    def ahead(self) -> frozenset[Partition]:
        """See `Windows.ahead`."""
        if len(self.open) <= self._max_open:
            return frozenset()
        first_ms = min(window.end_ms for window in self.open.values())
        return frozenset(at for at, newest in self.newest.items() if newest - self._lateness_ms >= first_ms)

    def watermark(self, moment: Moment) -> int:
        """Event time up to which every partition has been read; NO_TIME while one that is not idle has shown none.

        Where all are idle, the open windows that by the wall clock should be complete are.
        """
        busy = moment.assigned - moment.idle
        shown = [self.newest.get(partition, NO_TIME) for partition in busy or moment.assigned]
        newest = (min if busy else max)(shown, default=NO_TIME)
        watermark = newest - self._lateness_ms if newest != NO_TIME else NO_TIME
        if moment.assigned and not busy:
            ends = (window.end_ms for window in self.open.values())
            overdue = (end for end in ends if end <= moment.now_ms - self._lateness_ms)
            watermark = max(watermark, max(overdue, default=NO_TIME))
        return watermark

    def beyond_fence(self, batch: Batch, *, ends: bool = True) -> Batch:
        """The batch without rows that a closed window holds already; a fence that was passed is taken down.

        ends: whether it may be, which is so unless more is to come of the same records.
        """
        fence = self.fences.get(batch.partition)
        if fence is None:
            return batch
        if ends and batch.next_offset >= fence:
            del self.fences[batch.partition]
        return batch.without((batch.offsets < fence) & (self._ends(batch.time_ms) <= self.closed_until))

    def _close(self, watermark_ms: int) -> list[Window]:
        self.closed_until = max(self.closed_until, watermark_ms)
        done = [key for key, window in self.open.items() if window.end_ms <= self.closed_until]
        place = {name: i for i, name in enumerate(self._segments.order)}
        return [self.open.pop(key) for key in sorted(done, key=lambda key: (key[1], place[key[0]]))]

    def _count(self) -> None:
        buffer, self._buffer, self._n_waiting = self._buffer, [], 0
        if buffer:
            stack = Stack.of(self._bins, [batch for batch, _ in buffer])
            self.absorb(self._cut(stack, np.concatenate([late for _, late in buffer])))

    def _cut(self, stack: Stack, late: NDArray[np.bool_]) -> Iterable[Piece]:
        starts = self._ends(stack.time_ms) - self.width_ms
        firsts = starts[np.diff(starts, prepend=starts[:1] - 1) != 0]  # rows that come together: mostly of one window
        for start_ms in np.unique(firsts).tolist():
            for tardy in (False, True) if late.any() else (False,):
                rows = np.flatnonzero((starts == start_ms) & (late == tardy))
                if rows.size:
                    pane = (stack.time_ms[rows] - start_ms) * N_PANES // self.width_ms
                    sample = None if tardy else self._sampled(stack, rows, start_ms)
                    for segment, tally in self._segments.split(stack, rows, pane if self.extras.panes else None):
                        sampled = sample if segment == WHOLE else None
                        yield Piece(segment, start_ms, start_ms + self.width_ms, tally, tardy, sampled)

    def _sampled(self, stack: Stack, rows: Rows, start_ms: int) -> RowSample | None:
        """Those of the rows that may have a place in their window's sample."""
        window = self.open.get((WHOLE, start_ms))
        beside = self.extras.sample(self._bins, WHOLE) if window is None else window.sample
        return None if beside is None else stack.sample(rows, beside)

    def _first_end(self, batch: Batch) -> int:
        """The end of the first window that the rows belong to."""
        first_ms = int(batch.time_ms.min())
        return first_ms - first_ms % self.width_ms + self.width_ms

    def _ends(self, time_ms: Int64s) -> Int64s:
        if time_ms.size:
            first, last = int(time_ms.min()) // self.width_ms, int(time_ms.max()) // self.width_ms
            if first == last >= 0:  # rows that come together are mostly of one window, and divisions are slow
                return np.full(time_ms.shape, (first + 1) * self.width_ms)
        return time_ms - time_ms % self.width_ms + self.width_ms


def grouped(windows: Sequence[Window]) -> Iterable[list[Window]]:
    """Windows of one span together, in the order in which they were closed: each group begins with the whole."""
    group: list[Window] = []
    for window in windows:
        if group and window.segment == WHOLE:
            yield group
            group = []
        group.append(window)
    if group:
        yield group
