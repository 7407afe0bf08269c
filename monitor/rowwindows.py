"""Windows that are counted in rows: the other kind beside `TimeWindows`, behind the same contract."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detectors import Bins
from detectors.blocks import N_PANES
from monitor.batch import NO_TIME, Batch, Int64s, Moment, Partition
from monitor.tally import Stack
from monitor.window import BUFFER_ROWS, NO_EXTRAS, WHOLE, Extras, Key, Piece, Segments, Window


class RowWindows:
    """Windows of a fixed number of rows, in the order they are read; a row is never late.

    Over several partitions that order is not repeatable: meant for files and for topics of one partition.
    """

    needs_time = False

    def __init__(self, bins: Bins, n_rows: int, segments: Segments, extras: Extras = NO_EXTRAS) -> None:
        self._bins = bins
        self._extras = extras
        self._n_rows = n_rows
        self._segments = segments
        self._buffer: list[Batch] = []
        self._n_waiting = 0
        self._full: list[Window] = []
        self.n_dropped = self.n_again = 0
        self.fences: dict[Partition, int] = {}
        self.newest: dict[Partition, int] = {}
        self.closed_until = NO_TIME
        self.open: dict[Key, Window] = {}

    def add(self, batch: Batch) -> None:
        """See `Windows.add`."""
        if not batch.n_rows:
            return
        self._buffer.append(batch)
        self._n_waiting += batch.n_rows
        if self._n_waiting >= BUFFER_ROWS:
            self._count()

    def settle(self) -> list[Piece]:
        """See `Windows.settle`; nothing is ever late."""
        self._count()
        return []

    def ready(self, moment: Moment) -> bool:  # noqa: ARG002  # as `Windows` has it
        """See `Windows.ready`."""
        return bool(self._full) or self._n_open() + self._n_waiting >= self._n_rows

    def close(self, moment: Moment) -> list[Window]:  # noqa: ARG002  # as `Windows` has it
        """See `Windows.close`."""
        full, self._full = self._full, []
        return full

    def finish(self) -> list[Window]:
        """See `Windows.finish`."""
        rest, self._full = [*self._full, *self._take()], []
        return rest

    def ahead(self) -> frozenset[Partition]:
        """See `Windows.ahead`; there is one window, and every partition fills it."""
        return frozenset()

    def _n_open(self) -> int:
        return self.open[WHOLE, 0].n_rows if self.open else 0

    def _take(self) -> list[Window]:
        taken, self.open = self.open, {}
        return [taken[name, 0] for name in self._segments.order if (name, 0) in taken]

    def _count(self) -> None:
        buffer, self._buffer, self._n_waiting = self._buffer, [], 0
        if not buffer:
            return
        stack, at = Stack.of(self._bins, buffer), 0
        while at < stack.time_ms.size:
            rows = np.arange(at, min(at + self._n_rows - self._n_open(), stack.time_ms.size))
            pane = (self._n_open() + np.arange(rows.size)) * N_PANES // self._n_rows
            for segment, tally in self._segments.split(stack, rows, pane if self._extras.panes else None):
                window = self.open.get((segment, 0))
                if window is None:
                    window = Window.fresh(self._bins, segment, sample=self._extras.sample(self._bins, segment))
                sample = None if window.sample is None else stack.sample(rows, window.sample)
                self.open[segment, 0] = _spanning(window.with_rows(tally, sample=sample), stack.time_ms[rows])
            at += rows.size
            if self._n_open() == self._n_rows:
                self._full += self._take()


def _spanning(window: Window, time_ms: Int64s) -> Window:
    """The window, its span stretched over these event times."""
    known = time_ms[time_ms != NO_TIME]
    if not known.size:
        return window
    low, high = int(known.min()), int(known.max()) + 1
    start_ms = low if window.start_ms == NO_TIME else min(window.start_ms, low)
    return replace(window, start_ms=start_ms, end_ms=max(window.end_ms, high))
