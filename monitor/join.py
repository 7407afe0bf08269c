"""Labels that come later than their predictions: joined by id, each makes one loss in the window in which it came.

A prediction waits for its label for as long as the model's `lag`, a label for its prediction until the label's window
closes. A loss belongs to the window of its label, whose event time is when its record was logged. It counts if both
records came in time for that window, each by its own partition's clock; such a window is still open when the second of
them is read, so windows follow from the logs alone, however the topics were interleaved. What waits is kept as sorted
runs that never change, so that a commit writes only the new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import Bins, Profile
from detectors.blocks import N_PANES
from detectors.cells import Bools, Cells, Floats
from monitor.batch import NO_TIME, Batch, Int64s, Keys, Partition
from monitor.config import Labels
from monitor.frozen import checked, unchecked
from monitor.loss import absolute, labels_of, unlike
from monitor.tally import Extent, Panes, Tally
from monitor.window import WHOLE, Piece, Segments, TimeWindows

RUN_ROWS: Final = 1 << 18
"""Runs are put together up to so many rows; what is older than the lag is forgotten by whole runs."""
_LONG_AGO: Final = -(2**62)
"""Before every event, and still far from what no integer holds."""
NO_KEY: Final = np.uint64(0)
_VERSION: Final = 1

Rows = NDArray[np.void]


class Labelled(msgspec.Struct, frozen=True):
    """What became of labels and of those that wait for them, since the model's first record.

    predictions: that can get a label; joined: that got it in time. labels: that came in time, `joined` among them.
    repeated: labels and predictions whose id was known already. late: labels that came too late for their window, or
    whose prediction did, by less than the lag. forgotten: of either, given up because too many waited.
    """

    predictions: int = 0
    labels: int = 0
    joined: int = 0
    repeated: int = 0
    late: int = 0
    forgotten: int = 0

    def more(self, **counts: int) -> Labelled:
        """With these counted in."""
        return msgspec.structs.replace(self, **{name: getattr(self, name) + n for name, n in counts.items()})

    @property
    def coverage(self) -> float | None:
        """Share of the predictions that have got their label, in [0, 1]; None before the first prediction."""
        return self.joined / self.predictions if self.predictions else None


class RunKey(NamedTuple):
    """Names a run of what waits. side: "predictions" or "labels"."""

    side: str
    number: int


class _Frozen(msgspec.Struct, frozen=True, array_like=True):
    version: int
    n_groups: int
    partitions: tuple[tuple[str, int], ...]
    rows: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What waits, in ascending order of its ids. partitions: which `at` of a row stands for."""

    rows: Rows
    keys: Keys
    partitions: tuple[Partition, ...]

    @classmethod
    def of(cls, rows: Rows, partitions: tuple[Partition, ...]) -> Self:
        """From rows of distinct ids, in any order."""
        ordered = rows[np.argsort(rows["key"], kind="stable")]
        return cls(ordered, np.ascontiguousarray(ordered["key"]), partitions)

    def __add__(self, other: Run) -> Run:
        partitions = tuple(dict.fromkeys((*self.partitions, *other.partitions)))
        places = np.array([partitions.index(at) for at in other.partitions], np.int32)
        moved = other.rows.copy()
        moved["at"] = places[moved["at"]]
        return Run.of(np.concatenate((self.rows, moved)), partitions)

    @property
    def latest_ms(self) -> int:
        return int(self.rows["time_ms"].max(initial=NO_TIME))

    def to_bytes(self) -> bytes:
        """With a check sum."""
        n_groups = self.rows.dtype["groups"].shape[0]
        partitions = tuple((at.topic, at.number) for at in self.partitions)
        return checked(msgspec.msgpack.encode(_Frozen(_VERSION, n_groups, partitions, self.rows.tobytes())))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. ValueError says what is wrong."""
        found = msgspec.msgpack.decode(unchecked(data), type=_Frozen)
        if found.version != _VERSION:
            raise ValueError(f"waiting rows of version {found.version}; this driftd reads version {_VERSION}")
        rows = np.frombuffer(found.rows, _row_type(found.n_groups))
        return cls(rows, np.ascontiguousarray(rows["key"]), tuple(Partition(*at) for at in found.partitions))


Runs = Mapping[RunKey, Run]


class _Pool:
    """One side of what waits: runs by number, the oldest first."""

    def __init__(self, side: str, n_groups: int) -> None:
        self._side = side
        self.type = _row_type(n_groups)
        self.runs: dict[RunKey, Run] = {}

    @property
    def n_rows(self) -> int:
        return sum(run.keys.size for run in self.runs.values())

    def find(self, keys: Keys) -> tuple[Bools, Rows, Iterator[tuple[Partition, Bools]]]:
        """Which of these ids wait here, the row of each (zeros where it does not), and which lie in what partition."""
        found, rows = np.zeros(keys.size, np.bool_), np.zeros(keys.size, self.type)
        origin: list[tuple[Partition, Bools]] = []
        for run in self.runs.values():
            place = np.minimum(np.searchsorted(run.keys, keys), run.keys.size - 1)
            here = run.keys[place] == keys
            rows[here], found[here] = run.rows[place[here]], True
            origin += [(at, here & (run.rows["at"][place] == i)) for i, at in enumerate(run.partitions)]
        return found, rows, ((at, mine) for at, mine in origin if mine.any())

    def add(self, at: Partition, rows: Rows) -> None:
        """Wait: rows of one partition whose ids are not in here."""
        if not rows.size:
            return
        run, number = Run.of(rows, (at,)), 1 + max((key.number for key in self.runs), default=0)
        while self.runs:
            last = next(reversed(self.runs))
            before = self.runs[last]
            if before.keys.size >= 2 * run.keys.size or before.keys.size + run.keys.size > RUN_ROWS:
                break
            run = before + run
            del self.runs[last]
        self.runs[RunKey(self._side, number)] = run

    def forget(self, before_ms: int, most: int) -> int:
        """Let go of runs that are wholly older, and of the oldest while there are more rows; how many were too many."""
        self.runs = {key: run for key, run in self.runs.items() if run.latest_ms >= before_ms}
        n_forgotten = 0
        while self.n_rows > most:
            n_forgotten += self.runs.pop(next(iter(self.runs))).keys.size
        return n_forgotten


@dataclass(frozen=True, slots=True)
class Terms:
    """What a join depends on. width_ms, lateness_ms: of the windows; lag_ms: how long a prediction waits; most: rows
    that may wait on either side."""

    width_ms: int
    lateness_ms: int
    lag_ms: int
    most: int

    @classmethod
    def of(cls, labels: Labels, width_ms: int, lateness_ms: int) -> Self:
        return cls(width_ms, lateness_ms, labels.lag, labels.max_waiting)


@dataclass(slots=True, eq=False)
class Join:
    """One model's predictions and labels on their way to each other.

    windows: where losses go. counts: since the first record.
    """

    bins: Bins
    segments: Segments
    windows: TimeWindows
    terms: Terms
    counts: Labelled = field(default_factory=Labelled)
    _predictions: _Pool = field(init=False)
    _labels: _Pool = field(init=False)
    _row: int = field(init=False)
    _output: int = field(init=False)
    _own: Bins = field(init=False)
    _columns: list[int] = field(init=False)

    def __post_init__(self) -> None:
        ((self._row, self._output),) = self.bins.errors.items()
        self._own = Bins((self.bins.numeric[self._row],), ())
        self._columns = sorted({column for column, _ in self.segments.cells.values()})
        self._predictions = _Pool("predictions", len(self._columns))
        self._labels = _Pool("labels", 0)

    @property
    def waiting(self) -> Runs:
        """All that waits."""
        return {**self._predictions.runs, **self._labels.runs}

    def restore(self, waiting: Runs, counts: Labelled) -> None:
        """Go on from what was remembered."""
        self.counts = counts
        for pool, side in ((self._predictions, "predictions"), (self._labels, "labels")):
            pool.runs = {key: run for key, run in sorted(waiting.items()) if key.side == side}

    def predicted(self, batch: Batch) -> None:
        """Rows that may get a label, before their windows take them."""
        if not batch.keys.size:
            return
        rows = np.zeros(batch.n_rows, self._predictions.type)
        rows["key"], rows["value"] = batch.keys, self._of_output(batch.numbers, batch.cells)
        rows["time_ms"] = np.maximum(batch.time_ms, self._seen(batch) - self.terms.lateness_ms)
        rows["groups"] = batch.cells[self._columns].T
        rows = rows[(rows["key"] != NO_KEY) & ~np.isnan(rows["value"]) & np.isnan(batch.numbers[self._row])]
        rows = self._fresh(rows, self._predictions)
        _, labels, origin = self._labels.find(np.ascontiguousarray(rows["key"]))
        for at, mine in origin:
            self._score(at, labels[mine], rows[mine])
        self._predictions.add(batch.partition, rows)
        self.counts = self.counts.more(predictions=rows.size)

    def clock(self, predictions: Batch, offsets: Int64s) -> Int64s:
        """The newest event time of their partition's predictions at each of these offsets, before they are taken."""
        seen = np.append(self._seen(predictions), 0)
        place = np.searchsorted(predictions.offsets, offsets)
        before = max(self.windows.newest.get(predictions.partition, NO_TIME), _LONG_AGO)
        return np.where(place > 0, np.maximum(seen[place - 1], before), before)

    def labelled(self, batch: Batch, seen: Int64s | None = None) -> None:
        """Labels, as a batch on the cells of the output alone.

        seen: the partition's clock at each, where predictions are its clock; without it labels are their own.
        """
        if not batch.n_rows:
            return
        if seen is None:
            seen = self._seen(batch)
            self.windows.newest[batch.partition] = int(seen[-1])
        rows = np.zeros(batch.n_rows, self._labels.type)
        rows["key"], rows["value"] = batch.keys, batch.numbers[0] if batch.numbers.size else labels_of(batch.cells[0])
        rows["time_ms"], rows["offset"] = batch.time_ms, batch.offsets
        end_ms = self._ends(batch.time_ms)
        late = (seen - self.terms.lateness_ms >= end_ms) | (end_ms <= self.windows.closed_until)
        fresh = self._fresh(rows[~late], self._labels)
        self.counts = self.counts.more(labels=fresh.size, late=int(late.sum()))
        found, predictions, _ = self._predictions.find(np.ascontiguousarray(fresh["key"]))
        self._labels.add(batch.partition, fresh)
        self._score(batch.partition, fresh[found], predictions[found])

    def forget(self) -> None:
        """Let go of what no record that comes in time can ask for any more: a second label would be one as late as the
        lag after its prediction, which may be known a window later than the first label."""
        before_ms = self.windows.closed_until - 2 * self.terms.width_ms - self.terms.lag_ms
        pools = (self._predictions, self._labels)
        self.counts = self.counts.more(forgotten=sum(pool.forget(before_ms, self.terms.most) for pool in pools))

    def _fresh(self, rows: Rows, pool: _Pool) -> Rows:
        """The rows whose ids come for the first time."""
        _, first = np.unique(rows["key"], return_index=True)
        once = rows[np.sort(first)]
        known, _, _ = pool.find(np.ascontiguousarray(once["key"]))
        n_repeated = rows.size - once.size + int(known.sum())
        self.counts = self.counts.more(repeated=n_repeated)
        return once[~known]

    def _score(self, at: Partition, labels: Rows, predictions: Rows) -> None:
        """Count the losses of pairs. at: where the labels lie."""
        end_ms, apart_ms = self._ends(labels["time_ms"]), labels["time_ms"] - predictions["time_ms"]
        # What lies further apart may be forgotten by now or not, so it is not even counted.
        near = (apart_ms <= self.terms.lag_ms) & (apart_ms >= -self.terms.lag_ms - self.terms.width_ms)
        in_time = near & (end_ms > self.windows.closed_until) & (predictions["time_ms"] < end_ms)
        labels, predictions, end_ms = labels[in_time], predictions[in_time], end_ms[in_time]
        loss = self._loss(predictions["value"], labels["value"])
        self.counts = self.counts.more(joined=labels.size, late=int(near.sum() - labels.size))
        self.windows.absorb(self._cut(at, labels, predictions["groups"], loss, end_ms))

    def _cut(self, at: Partition, labels: Rows, groups: Cells, loss: Floats, end_ms: Int64s) -> Iterable[Piece]:
        width_ms = self.terms.width_ms
        pane = (labels["time_ms"] - end_ms + width_ms) * N_PANES // width_ms
        for end in np.unique(end_ms).tolist():
            here = end_ms == end
            for segment, mine in self._segments(groups, here):
                offsets = labels["offset"][mine]
                extents = {at: Extent(int(offsets.min()), int(offsets.max()))}
                yield Piece(segment, end - width_ms, end, self._tally(loss[mine], pane[mine], extents))

    def _segments(self, groups: Cells, here: Bools) -> Iterator[tuple[str, Bools]]:
        yield WHOLE, here
        for name, (column, cell) in self.segments.cells.items():
            mine = here & (groups[:, self._columns.index(column)] == cell)
            if mine.any():
                yield name, mine

    def _tally(self, loss: Floats, pane: Int64s, extents: Mapping[Partition, Extent]) -> Tally:
        panes = None
        if self.windows.extras.panes:
            panes = Panes.of(self.bins, {i: self._counted(loss[pane == i]) for i in np.unique(pane).tolist()})
        return Tally(self._counted(loss), extents, panes=panes)

    def _counted(self, loss: Floats) -> Profile:
        numbers = loss[None]
        alone = Profile.of(self._own, numbers, self._own.cells(numbers, np.empty((0, loss.size), np.uint8)))
        return alone.within(self.bins, self._row)

    def _loss(self, outputs: Floats, labels: Floats) -> Floats:
        return absolute(labels, outputs) if self._output < self.bins.n_numeric else unlike(labels, outputs)

    def _of_output(self, numbers: Floats, cells: Cells) -> Floats:
        if self._output < self.bins.n_numeric:
            return np.asarray(numbers[self._output])
        return labels_of(cells[self._output])

    def _seen(self, batch: Batch) -> Int64s:
        """The newest event time of the partition, at each row."""
        newest = self.windows.newest.get(batch.partition, NO_TIME)
        return np.maximum(np.maximum.accumulate(batch.time_ms), newest) if batch.n_rows else batch.time_ms

    def _ends(self, time_ms: Int64s) -> Int64s:
        return time_ms - time_ms % self.terms.width_ms + self.terms.width_ms


def _row_type(n_groups: int) -> np.dtype[Any]:
    """One that waits: its id's hash, since when it counts as known, its output or label, and where it lies."""
    return np.dtype(
        [
            ("key", "<u8"), ("time_ms", "<i8"), ("value", "<f8"), ("offset", "<i8"), ("at", "<i4"),
            ("groups", "u1", (n_groups,)),
        ]
    )  # fmt: skip
