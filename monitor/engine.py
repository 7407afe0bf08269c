"""The pure middle as one machine: records in, commits out.

`step` takes records; `tick` closes what is complete and gives a Commit: everything that has to be remembered together,
or not at all. Nothing in here opens a socket, a file or a thread, and the clock is an argument; so the daemon, the
replay of files and the tests run the same code, and a crash between two commits costs nothing but work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import numpy as np

from monitor.batch import NO_TIME, Batch, Moment, Partition, Records, Reject
from monitor.check import Judge, Reference
from monitor.config import Config, Model, Rows
from monitor.decode import REGISTRY as DECODERS
from monitor.decode import Decoder, layout
from monitor.message import Subject
from monitor.watch import Found, Recall, Watch, WatchState
from monitor.window import Key, Piece, RowWindows, Segments, Span, TimeWindows, Window, Windows, grouped

SKEW_MS: Final = 3_600_000
"""How far an event time may lie after its record was logged: clocks differ, but none is right about the future."""


class Counts(msgspec.Struct, frozen=True):
    """Rows of one model since its first record.

    dropped: late rows of windows that are not kept any more; lost: records that Kafka deleted before they were read;
    rejected: records that became no row, by kind.
    """

    rows: int = 0
    late: int = 0
    dropped: int = 0
    lost: int = 0
    rejected: dict[str, int] = {}


class LineState(msgspec.Struct, frozen=True):
    """What is remembered of a model beside its windows.

    shape: the reference, window and segments that open windows and memories rest on; they mean nothing on another.
    newest: topic, partition and newest event time seen there.
    """

    shape: str
    newest: tuple[tuple[str, int, int], ...] = ()
    closed_until: int = NO_TIME
    watch: WatchState = WatchState()
    counts: Counts = Counts()


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """All that a model's line goes on from: offsets to read on at, open windows, and the judge's memories."""

    state: LineState | None = None
    offsets: Mapping[Partition, int] = field(default_factory=dict)
    open: Mapping[Key, Window] = field(default_factory=dict)
    memories: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ModelCommit:
    """What changed for one model.

    offsets: of partitions that were read on. open: windows with new rows; gone: windows that are no longer open.
    memories: of segments whose windows closed. found: windows that closed or were amended, and what came of it.
    """

    model: str
    state: LineState
    offsets: Mapping[Partition, int]
    open: Mapping[Key, Window]
    gone: frozenset[Key]
    memories: Mapping[str, bytes]
    found: Found
    rejects: tuple[Reject, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Commit:
    """Everything that is to be remembered together; models for which nothing changed are not in it."""

    now_ms: int
    models: tuple[ModelCommit, ...]


class Line:
    """One model's way from records to notices."""

    def __init__(self, config: Config, model: Model, reference: Reference, saved: Saved, recall: Recall) -> None:
        self.name = model.name
        self.topics = frozenset(model.topics)
        self.layout = layout(model.fields, reference.bins)
        self._decoder: Decoder = DECODERS[model.format](self.layout)
        subject = Subject(model.name, model.version, reference.bins.n_columns, reference.id, config.hash)
        self._watch = Watch(config, subject, Judge.of(reference, model, config.rule), recall)
        self._windows = _windows(model, reference, config.state.retention)
        self._shape = shape(model, reference)
        self._committed = saved
        self._offsets = dict(saved.offsets)
        self._counts = Counts()
        if saved.state is not None:
            self._restore(saved, saved.state)
        self._rejects: list[Reject] = []
        self._n_rows = self._n_lost = 0

    @property
    def offsets(self) -> Mapping[Partition, int]:
        """Where to read on."""
        return self._offsets

    def step(self, records: Records, now_ms: int | None = None) -> None:
        """Take records of one partition, in their order; what was taken before is passed over.

        now_ms: the wall clock, None where the log is old and has no clock of its own.
        """
        known = self._offsets.get(records.partition, 0)
        if records.next_offset <= known:
            return
        fresh = _from(records, known)
        self.add(_screened(self._decoder.decode(fresh), fresh, now_ms, self._windows.needs_time))

    def add(self, batch: Batch) -> None:
        """Take rows that are decoded already."""
        self._windows.add(batch)
        self._rejects += batch.rejects
        self._n_rows += batch.n_rows
        self._offsets[batch.partition] = batch.next_offset

    def jump(self, at: Partition, offset: int) -> None:
        """Reading goes on at this offset: the log in between is gone, or it was made anew."""
        self._n_lost += max(0, offset - self._offsets.get(at, 0))
        self._offsets[at] = offset

    def ready(self, moment: Moment) -> bool:
        """Whether a tick would close a window."""
        return self._windows.ready(moment)

    def tick(self, moment: Moment) -> ModelCommit | None:
        """Close what is complete; None when nothing changed since the last tick."""
        late = self._windows.settle()
        return self._commit(late, self._windows.close(moment))

    def finish(self) -> ModelCommit | None:
        """Close everything: the end of a replay."""
        late = self._windows.settle()
        return self._commit(late, self._windows.finish())

    def _commit(self, late: Sequence[Piece], closed: Sequence[Window]) -> ModelCommit | None:
        # A window of late rows alone is none until they amend it: when that is depends on how the log was read.
        for group in grouped([window for window in closed if window.n_rows]):
            self._watch.close(group)
        waited = [Piece(w.segment, w.start_ms, w.end_ms, w.waiting) for w in closed if w.waiting.n_rows]
        self._watch.amend([*late, *waited])
        offsets = {at: offset for at, offset in self._offsets.items() if self._committed.offsets.get(at) != offset}
        if not offsets and not self._watch.found.judged:
            return None
        before, memories = self._committed, dict(self._watch.memories)
        state = self._state()
        now = Saved(state, dict(self._offsets), dict(self._windows.open), memories)
        commit = ModelCommit(
            model=self.name,
            state=state,
            offsets=offsets,
            open={key: window for key, window in now.open.items() if before.open.get(key) is not window},
            gone=frozenset(before.open.keys() - now.open.keys()),
            memories={name: kept for name, kept in memories.items() if before.memories.get(name) != kept},
            found=self._watch.found,
            rejects=tuple(self._rejects),
        )
        self._committed, self._watch.found, self._rejects = now, Found(), []
        self._n_rows = self._n_lost = self._windows.n_dropped = 0
        return commit

    def _restore(self, saved: Saved, state: LineState) -> None:
        self._watch.state = state.watch
        self._counts = state.counts
        if state.shape == self._shape:
            self._windows.open = dict(saved.open)
            self._watch.memories = dict(saved.memories)
        self._windows.newest = {Partition(topic, number): time_ms for topic, number, time_ms in state.newest}
        self._windows.closed_until = state.closed_until

    def _state(self) -> LineState:
        found, rejected = self._watch.found, Counter(self._counts.rejected)
        rejected.update(reject.kind for reject in self._rejects)
        self._counts = Counts(
            self._counts.rows + self._n_rows,
            self._counts.late + found.n_late,
            self._counts.dropped + self._windows.n_dropped,
            self._counts.lost + self._n_lost,
            dict(sorted(rejected.items())),
        )
        newest = tuple((at.topic, at.number, time_ms) for at, time_ms in sorted(self._windows.newest.items()))
        return LineState(self._shape, newest, self._windows.closed_until, self._watch.state, self._counts)


class Engine:
    """All models' lines. A record goes to every model that reads its topic."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = tuple(lines)
        self._by_topic: dict[str, list[Line]] = {}
        for line in lines:
            for topic in line.topics:
                self._by_topic.setdefault(topic, []).append(line)

    @property
    def topics(self) -> frozenset[str]:
        return frozenset(self._by_topic)

    def positions(self) -> Mapping[Partition, int]:
        """Where to read on: of every partition that all its topic's models have read, the earliest of their offsets.

        Models that are ahead pass over what they have seen. A partition that some model never read is not in here, so
        that it is read from its beginning.
        """
        positions: dict[Partition, int] = {}
        for at in {at for line in self.lines for at in line.offsets}:
            readers = self._by_topic.get(at.topic, [])
            if readers and all(at in line.offsets for line in readers):
                positions[at] = min(line.offsets[at] for line in readers)
        return positions

    def step(self, records: Records, now_ms: int) -> None:
        """Take records of one partition, in their order."""
        for line in self._by_topic.get(records.partition.topic, ()):
            line.step(records, now_ms)

    def jump(self, at: Partition, offset: int) -> None:
        """See `Line.jump`."""
        for line in self._by_topic.get(at.topic, ()):
            line.jump(at, offset)

    def ready(self, moment: Moment) -> bool:
        """Whether a tick would close a window."""
        return any(line.ready(_of(line, moment)) for line in self.lines)

    def tick(self, moment: Moment) -> Commit | None:
        """Close what is complete; None when nothing changed since the last tick."""
        return _joined(moment.now_ms, (line.tick(_of(line, moment)) for line in self.lines))


def shape(model: Model, reference: Reference) -> str:
    """Names what the open windows of a model rest on; see `LineState`."""
    segments = ",".join(model.segments)
    return f"{reference.id} {model.window} segments={segments}:{model.max_segments}"


def _joined(now_ms: int, commits: Iterable[ModelCommit | None]) -> Commit | None:
    changed = tuple(commit for commit in commits if commit is not None)
    return Commit(now_ms, changed) if changed else None


def _of(line: Line, moment: Moment) -> Moment:
    """The moment as far as it concerns one model."""
    mine = frozenset(at for at in moment.assigned if at.topic in line.topics)
    return replace(moment, assigned=mine, idle=moment.idle & mine)


def _windows(model: Model, reference: Reference, retention_ms: int) -> Windows:
    segments = Segments.of(reference.bins, model.segments, model.max_segments)
    if isinstance(model.window, Rows):
        return RowWindows(reference.bins, model.window.n_rows, segments)
    span = Span(model.window.width_ms, model.lateness, retention_ms)
    return TimeWindows(reference.bins, span, segments)


def _from(records: Records, offset: int) -> Records:
    """The records from an offset on."""
    first = int(np.searchsorted(records.offsets, offset))
    if first == 0:
        return records
    return replace(
        records,
        offsets=records.offsets[first:],
        timestamps_ms=records.timestamps_ms[first:],
        values=records.values[first:],
    )


def _screened(batch: Batch, records: Records, now_ms: int | None, needs_time: bool) -> Batch:
    """The batch without rows whose event time is absent or cannot be; they become rejects."""
    logged_ms = records.timestamps_ms[np.searchsorted(records.offsets, batch.offsets)]
    latest_ms = np.where(logged_ms == NO_TIME, np.iinfo(np.int64).max - SKEW_MS, logged_ms)
    if now_ms is not None:
        latest_ms = np.minimum(latest_ms, now_ms)
    timeless = (batch.time_ms == NO_TIME) & needs_time
    future = batch.time_ms > latest_ms + SKEW_MS
    if not (timeless | future).any():
        return batch
    words = {
        True: ("no_event_time", "the record has no event time, and the log no timestamp"),
        False: ("future", f"the event time lies more than {SKEW_MS // 60_000} minutes after the record was logged"),
    }
    rejects = []
    for row in np.flatnonzero(timeless | future).tolist():
        offset = int(batch.offsets[row])
        value = records.values[int(np.searchsorted(records.offsets, offset))]
        head = bytes(value[:200]) if value is not None else b""
        rejects.append(Reject(batch.partition, offset, *words[bool(timeless[row])], head))
    return batch.without(timeless | future, tuple(rejects))
