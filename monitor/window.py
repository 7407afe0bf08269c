"""Windows of one model: which rows belong together, and when a window is complete.

The clock is event time. The watermark is the smallest, over the partitions being read, of the newest event time seen
there less the allowed lateness; a window of time closes when the watermark reaches its end, and one that is counted in
rows closes when it is full. Everything here is a function of the batches seen, in order: no wall clock, so a replay
after a crash gives the same windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors import Bins, Profile
from monitor.batch import NO_TIME, Batch, Partition

Rows = NDArray[np.intp]
Segments = dict[str, tuple[int, int]]
WHOLE: Final = ""
"""The segment that holds every row."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a window's rows lie in one partition: first and last offset, both inclusive."""

    first: int
    last: int

    def __or__(self, other: Extent) -> Extent:
        return Extent(min(self.first, other.first), max(self.last, other.last))


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The rows of one segment that belong together, as far as they have been read.

    start_ms, end_ms: the half-open span of event time; for windows counted in rows, the first event time and one past
    the last, both NO_TIME where rows have none. n_late: rows that came after the window had closed.
    """

    segment: str
    start_ms: int
    end_ms: int
    profile: Profile
    extents: Mapping[Partition, Extent] = field(default_factory=dict)
    n_late: int = 0
    revision: int = 0

    @property
    def n_rows(self) -> int:
        return self.profile.n_rows

    def with_rows(self, profile: Profile, extents: Mapping[Partition, Extent], n_late: int = 0) -> Window:
        """The window with these rows counted in."""
        merged = dict(self.extents)
        for partition, extent in extents.items():
            merged[partition] = merged[partition] | extent if partition in merged else extent
        return replace(self, profile=self.profile + profile, extents=merged, n_late=self.n_late + n_late)


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of a batch that go to one window of one segment."""

    segment: str
    start_ms: int
    profile: Profile
    extents: Mapping[Partition, Extent]


class TimeWindows:
    """Tumbling windows of event time, aligned to the epoch.

    width_ms, lateness_ms: both in milliseconds. segments: names of categorical columns whose words get windows of their
    own, at most `max_segments` words in all, the most frequent first.
    """

    def __init__(
        self, bins: Bins, width_ms: int, lateness_ms: int, segments: Iterable[str] = (), max_segments: int = 50
    ) -> None:
        self._bins = bins
        self._width_ms = width_ms
        self._lateness_ms = lateness_ms
        self._segments = _segment_cells(bins, segments, max_segments)
        self._newest: dict[Partition, int] = {}
        self._closed_until = NO_TIME
        self.open: dict[tuple[int, str], Window] = {}

    def add(self, batch: Batch) -> list[Slice]:
        """Count a batch. Returns the rows whose window has closed already: they amend it, and that needs the store."""
        late: list[Slice] = []
        if batch.n_rows:
            self._newest[batch.partition] = max(
                self._newest.get(batch.partition, NO_TIME), int(batch.time_ms.max(initial=NO_TIME))
            )
            starts = batch.time_ms - batch.time_ms % self._width_ms
            for start in np.unique(starts).tolist():
                for piece in self._slices(batch, np.flatnonzero(starts == start), start):
                    if start + self._width_ms <= self._closed_until:
                        late.append(piece)
                    else:
                        self._count(piece)
        return late

    def watermark(self, partitions: Iterable[Partition], idle: Iterable[Partition] = ()) -> int:
        """Event time up to which every partition has been read; NO_TIME while one that is not idle has shown none."""
        waiting = set(partitions) - set(idle)
        seen = [self._newest.get(partition, NO_TIME) for partition in waiting] or list(self._newest.values())
        newest = min(seen, default=NO_TIME) if waiting else max(seen, default=NO_TIME)
        return newest - self._lateness_ms if newest != NO_TIME else NO_TIME

    def close(self, watermark_ms: int) -> list[Window]:
        """Take out the windows that end at or before the watermark: by time, and in each the whole before segments."""
        if watermark_ms <= self._closed_until:
            return []
        self._closed_until = watermark_ms
        done = sorted(key for key, window in self.open.items() if window.end_ms <= watermark_ms)
        windows = [self.open.pop(key) for key in done]
        return [replace(w, profile=replace(w.profile, n_windows=1)) for w in windows]

    def _count(self, piece: Slice) -> None:
        key = (piece.start_ms, piece.segment)
        window = self.open.get(key) or Window(
            piece.segment, piece.start_ms, piece.start_ms + self._width_ms, Profile.empty(self._bins)
        )
        self.open[key] = window.with_rows(piece.profile, piece.extents)

    def _slices(self, batch: Batch, rows: Rows, start_ms: int) -> list[Slice]:
        return _slices(self._bins, self._segments, batch, rows, start_ms)


class RowWindows:
    """Windows of a fixed number of rows, in the order they are read; a row is never late.

    Over several partitions that order is not repeatable: meant for files and for topics of one partition.
    """

    def __init__(self, bins: Bins, n_rows: int, segments: Iterable[str] = (), max_segments: int = 50) -> None:
        self._bins = bins
        self._n_rows = n_rows
        self._segments = _segment_cells(bins, segments, max_segments)
        self._full: list[Window] = []
        self.open: dict[str, Window] = {}

    def add(self, batch: Batch) -> None:
        """Count a batch; it may fill several windows."""
        at = 0
        while at < batch.n_rows:
            room = self._n_rows - (self.open[WHOLE].n_rows if self.open else 0)
            rows = np.arange(at, min(at + room, batch.n_rows))
            for piece in _slices(self._bins, self._segments, batch, rows, int(batch.time_ms[at])):
                newest = int(batch.time_ms[rows].max())
                window = self.open.get(piece.segment) or Window(
                    piece.segment, piece.start_ms, NO_TIME, Profile.empty(self._bins)
                )
                start_ms = min(window.start_ms, int(batch.time_ms[rows].min()))
                end_ms = max(window.end_ms, newest + 1) if newest != NO_TIME else window.end_ms
                grown = replace(window, start_ms=start_ms, end_ms=end_ms)
                self.open[piece.segment] = grown.with_rows(piece.profile, piece.extents)
            at += rows.size
            if self.open[WHOLE].n_rows == self._n_rows:
                self._full += self.take()

    def close(self) -> list[Window]:
        """Take out the full windows, in order; in each the whole before its segments."""
        full, self._full = self._full, []
        return full

    def take(self) -> list[Window]:
        """Take out what is open, full or not: the end of a replay."""
        windows = [self.open[name] for name in sorted(self.open)]
        self.open = {}
        return [replace(window, profile=replace(window.profile, n_windows=1)) for window in windows]


def _slices(bins: Bins, segments: Segments, batch: Batch, rows: Rows, start_ms: int) -> list[Slice]:
    """The chosen rows of a batch, as a whole and by segment."""
    chosen = [(WHOLE, rows)]
    chosen += [(name, rows[batch.cells[column, rows] == cell]) for name, (column, cell) in segments.items()]
    return [
        Slice(
            name,
            start_ms,
            Profile.of(bins, batch.numbers[:, some], batch.cells[:, some]),
            {batch.partition: Extent(int(batch.offsets[some[0]]), int(batch.offsets[some[-1]]))},
        )
        for name, some in chosen
        if some.size
    ]


def _segment_cells(bins: Bins, columns: Iterable[str], limit: int) -> Segments:
    """Segment names ("region=EU") and the column and cell that each stands for."""
    words = {column.name: column for column in bins.categorical}
    cells = {
        f"{name}={word}": (bins.names.index(name), cell)
        for name in columns
        for word, cell in words[name].codes().items()
        if word in words[name].vocabulary
    }
    ordered = sorted(cells, key=lambda name: cells[name][1])
    return {name: cells[name] for name in ordered[:limit]}
