"""One model's way from records to notices.

A line decodes, keeps windows, closes them and hands them to the watch. What it says of itself between two commits is
one ModelCommit: everything about this model that has to be remembered together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from monitor import allowance
from monitor.batch import NO_TIME, Batch, Moment, Partition, Records, Reject
from monitor.board import Board
from monitor.board import Line as DigestLine
from monitor.check import Judge, Judged, Reference
from monitor.config import Config, Model, Rows, State
from monitor.decision import Clock
from monitor.decode import Decoder, Layout, label_layout, layout
from monitor.decode.reading import Reading, decoded, key_of_labels, nameable
from monitor.desk import Desk, Outcomes
from monitor.hearing import Hearing
from monitor.join import Join, Labelled, RunKey, Runs, Terms
from monitor.message import Subject
from monitor.order import Answer, Order
from monitor.rowsample import RowSample
from monitor.rowwindows import RowWindows
from monitor.watch import Recall, Watch, WatchState
from monitor.window import Extras, Key, Piece, Segments, Span, TimeWindows, Window, Windows, grouped


class Counts(msgspec.Struct, frozen=True):
    """Rows of one model since its first record; of a sample, the rows that it stands for, but in `rejected`.

    dropped: late rows of windows that are not kept any more; lost: records that Kafka deleted before they were read;
    rejected: records that became no row, by kind; anew: how often a topic was found to be made anew.
    """

    rows: int = 0
    late: int = 0
    dropped: int = 0
    lost: int = 0
    rejected: dict[str, int] = {}
    anew: int = 0


class LineState(msgspec.Struct, frozen=True):
    """What is remembered of a model beside its windows.

    shape: the reference, window and segments that open windows and memories rest on; they mean nothing on another.
    newest: topic, partition and newest event time seen there. fences: topic, partition and offset below which rows are
    read for the second time. hearing: of the log itself. logs: topic and id of the log that offsets mean. labelled: of
    labels that come later.
    """

    shape: str
    newest: tuple[tuple[str, int, int], ...] = ()
    closed_until: int = NO_TIME
    watch: WatchState = WatchState()
    counts: Counts = Counts()
    hearing: Hearing = Hearing()
    fences: tuple[tuple[str, int, int], ...] = ()
    logs: tuple[tuple[str, str], ...] = ()
    labelled: Labelled = Labelled()


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """All that a model's line goes on from: offsets to read on at, open windows, the judge's memories, and what waits
    for labels."""

    state: LineState | None = None
    offsets: Mapping[Partition, int] = field(default_factory=dict)
    open: Mapping[Key, Window] = field(default_factory=dict)
    memories: Mapping[str, bytes] = field(default_factory=dict)
    waiting: Runs = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ModelCommit:
    """What changed for one model.

    offsets: of partitions that were read on. open: windows with new rows; gone: windows that are no longer open.
    memories: of segments whose windows closed. judged: windows that closed or were amended; out: what came of it.
    n_rows, n_late: rows that came since the last commit; n_open: windows that are open. samples: rows that are
    new in the samples of open windows, by the windows' start. waiting, no_longer: runs of what waits for a label that
    are new, and that are none any more.
    """

    model: str
    state: LineState
    offsets: Mapping[Partition, int]
    open: Mapping[Key, Window]
    gone: frozenset[Key]
    memories: Mapping[str, bytes]
    judged: tuple[Judged, ...]
    out: Outcomes
    rejects: tuple[Reject, ...]
    n_rows: int = 0
    n_late: int = 0
    n_open: int = 0
    samples: Mapping[int, RowSample] = field(default_factory=dict)
    waiting: Runs = field(default_factory=dict)
    no_longer: frozenset[RunKey] = frozenset()


class Line:
    """One model's way from records to notices."""

    def __init__(
        self,
        config: Config,
        model: Model,
        reference: Reference,
        saved: Saved,
        recall: Recall,
        board: Board | None = None,
    ) -> None:
        self.name = model.name
        self.topics, self.own_topics = frozenset(model.all_topics), frozenset(model.topics)
        self._model = model
        sample = config.kafka.sample if config.kafka else 1.0
        subject = Subject(
            model.name, model.version, reference.bins.n_columns, reference.id, config.hash, sample, reference.until_ms
        )  # fmt: skip
        self._scaled = subject.scaled
        board = board or Board(config.alert.burst)
        self._desk = Desk(config, model, subject, board, allowance.importance(model, reference.bins))
        self._watch = Watch(model.name, Judge.of(reference, config, model), recall, self._desk)
        self._windows = _windows(model, reference, config.state)
        self._join = _join(model, reference, self._windows)
        self.layout = layout(model.fields, reference.bins, ids=self._join is not None)
        self.readings = _readings(model, self.layout, self._windows.needs_time)
        self.decoders: Mapping[str, Decoder] = {reading.key: reading.decoder() for reading in self.readings}
        self._shape = shape(model, reference)
        self._committed = saved
        self._offsets = dict(saved.offsets)
        self._counts, self._hearing, self._labelled = Counts(), Hearing(), Labelled()
        self._logs: dict[str, str] = {}
        if saved.state is not None:
            self._restore(saved, saved.state)
        self._rejects: list[Reject] = []
        self._n_rows = self._n_lost = self._n_anew = 0

    @property
    def offsets(self) -> Mapping[Partition, int]:
        """Where to read on."""
        return self._offsets

    def timed_by(self, clock: Clock) -> None:
        """Say of every window that is judged from now on how long that took."""
        self._watch.judge = replace(self._watch.judge, clock=clock)

    @property
    def labels(self) -> Layout | None:
        """Where labels that come later stand in their records; None where there are none to join."""
        return self.readings[-1].layout if self._join is not None else None

    @property
    def clock(self) -> Mapping[Partition, int]:
        """The newest event time of each partition so far."""
        return self._windows.newest

    @property
    def limits(self) -> Mapping[str, Mapping[str, float]]:
        """See `Judge.limits`."""
        return self._watch.judge.limits()

    def step(self, records: Records, now_ms: int | None = None) -> None:
        """Take records of one partition, in their order; what was taken before is passed over.

        now_ms: the wall clock, None where the log is old and has no clock of its own.
        """
        known = self._offsets.get(records.partition, 0)
        if records.next_offset <= known:
            return
        fresh = records.since(known)
        self._n_lost += records.n_lost
        if records.partition.topic in self.topics - self.own_topics:
            self.label(fresh, now_ms)
            return
        # Files and rehearsals have names of their own: what is no topic of labels holds predictions.
        found = fresh.decoded or self._decoded(fresh, self.readings[0].topics, now_ms)
        batch, labels = found[self.name], found.get(key_of_labels(self.name))
        if now_ms is not None:
            heard = fresh if labels is None or not labels.n_rows else fresh.without(labels.offsets)
            self._hearing = self._hearing.after(heard, batch.rejects, now_ms)
        if self._join is None or labels is None or not labels.n_rows:
            self.add(batch)
            return
        # The predictions among them are the clock, and they are what ends the second reading.
        labels = self._join.windows.beyond_fence(labels, ends=False)
        seen = self._join.clock(batch, labels.offsets)
        self.add(batch)
        self._join.labelled(labels, seen)
        self._rejects += labels.rejects

    def label(self, found: Records | Batch, now_ms: int | None = None) -> None:
        """Take labels and nothing else, of a log that may have any name."""
        if isinstance(found, Records):
            topics = self.readings[-1].topics
            batches = found.decoded or self._decoded(found, topics, now_ms)
            found = batches.get(key_of_labels(self.name)) or batches[self.name]
        if self._join is not None:
            found = nameable(found)
            self._join.labelled(self._join.windows.beyond_fence(found))
        self._read(found)

    def _decoded(self, records: Records, topics: frozenset[str], now_ms: int | None) -> dict[str, Batch]:
        """Records, as what is read of these topics."""
        readers = [(reading, self.decoders[reading.key]) for reading in self.readings if reading.topics == topics]
        return decoded(readers, records, now_ms)

    def add(self, batch: Batch) -> None:
        """Take rows that are decoded already."""
        if self._join is not None:
            self._join.predicted(batch)
        self._windows.add(batch)
        self._n_rows += batch.n_rows
        self._read(batch)

    def _read(self, batch: Batch) -> None:
        self._rejects += batch.rejects
        self._offsets[batch.partition] = batch.next_offset

    def jump(self, at: Partition, offset: int) -> None:
        """Reading goes on at this offset: the log in between is gone, or what was read is not in the log any more."""
        known = self._offsets.get(at, 0)
        self._n_lost += max(0, offset - known)
        if offset < known:  # what comes there now was never read
            self._windows.fences.pop(at, None)
        self._offsets[at] = offset

    def recognise(self, topic: str, log: str) -> bool:
        """Records of this topic come from this log. True where it is another than before; it is read from its start."""
        known = self._logs.get(topic)
        if known == log:
            return False
        self._logs[topic] = log
        read = [at for at in self._offsets if at.topic == topic]
        if known is None or not read:
            return False
        for at in read:
            self.jump(at, 0)
        self._n_anew += 1
        return True

    def act(self, order: Order, now_ms: int) -> Answer | None:
        """Do what was ordered; None when it is about something else."""
        return self._desk.act(order, now_ms)

    def call_ended(self, trigger: str, given_up: str, now_ms: int) -> None:
        """See `Desk.call_ended`."""
        self._desk.call_ended(trigger, given_up, now_ms)

    def summary(self) -> DigestLine | None:
        """The incident at hand in a few words; None when there is none, or it is pending."""
        return self._desk.summary()

    def ahead(self) -> frozenset[Partition]:
        """See `Windows.ahead`."""
        return self._windows.ahead()

    def ready(self, moment: Moment) -> bool:
        """Whether a tick would close a window."""
        return self._windows.ready(moment)

    def tick(self, moment: Moment) -> ModelCommit | None:
        """Close what is complete, and see what time has brought; None when nothing changed since the last tick."""
        late = self._windows.settle()
        self._close(late, self._windows.close(moment), moment.now_ms)
        if self._join is not None:
            self._join.forget()
        self._desk.hear(self._silent_since(moment), self._hearing.broken, moment.now_ms)
        self._desk.review(moment.now_ms)
        return self._commit()

    def finish(self) -> ModelCommit | None:
        """Close everything: the end of a replay."""
        late = self._windows.settle()
        self._close(late, self._windows.finish(), 0)
        return self._commit()

    def _close(self, late: Sequence[Piece], closed: Sequence[Window], now_ms: int) -> None:
        # A window of late rows alone is none until they amend it: when that is depends on how the log was read.
        for group in grouped([window for window in closed if window.n_counted]):
            self._watch.close(group, now_ms)
        waited = [Piece(w.segment, w.start_ms, w.end_ms, w.waiting) for w in closed if w.waiting.n_rows]
        self._watch.amend([*late, *waited])

    def _silent_since(self, moment: Moment) -> int:
        """Since when nothing has come though everything was read, if that is too long; else 0."""
        mine = {at for at in moment.assigned if at.topic not in self.topics - self.own_topics}
        if not mine or not mine <= moment.idle:
            return 0
        limit_ms = self._model.silent_after
        if limit_ms is None and isinstance(self._model.window, Rows):
            return 0
        width_ms = 0 if isinstance(self._model.window, Rows) else self._model.window.width_ms
        return self._hearing.silent_since(moment.now_ms, limit_ms, width_ms)

    def _commit(self) -> ModelCommit | None:
        offsets = {at: offset for at, offset in self._offsets.items() if self._committed.offsets.get(at) != offset}
        out, watch = self._desk.out, self._watch
        known = dict(self._committed.state.logs) if self._committed.state else {}
        if not (offsets or watch.judged or out.changes or out.triggers or self._logs != known):
            return None
        before, memories = self._committed, dict(watch.memories)
        state, waiting = self._state(), self._join.waiting if self._join else {}
        now = Saved(state, dict(self._offsets), dict(self._windows.open), memories, waiting)
        commit = ModelCommit(
            model=self.name,
            state=state,
            offsets=offsets,
            open={key: window for key, window in now.open.items() if before.open.get(key) is not window},
            gone=frozenset(before.open.keys() - now.open.keys()),
            memories={name: kept for name, kept in memories.items() if before.memories.get(name) != kept},
            judged=tuple(watch.judged),
            out=out,
            rejects=tuple(self._rejects),
            n_rows=self._scaled(self._n_rows - self._windows.n_again),
            n_late=self._scaled(watch.n_late),
            n_open=len(now.open),
            samples=_sampled(before.open, now.open),
            waiting={key: run for key, run in waiting.items() if before.waiting.get(key) is not run},
            no_longer=frozenset(before.waiting.keys() - waiting.keys()),
        )
        self._committed, watch.judged, self._desk.out, self._rejects = now, [], Outcomes(), []
        self._n_rows = self._n_lost = self._n_anew = watch.n_late = 0
        self._windows.n_dropped = self._windows.n_again = 0
        return commit

    def _restore(self, saved: Saved, state: LineState) -> None:
        self._watch.restore(state.watch)
        self._counts, self._hearing, self._labelled = state.counts, state.hearing, state.labelled
        if state.shape == self._shape:
            self._windows.open = dict(saved.open)
            self._watch.memories = dict(saved.memories)
        if self._join is not None:
            self._join.restore(saved.waiting if state.shape == self._shape else {}, state.labelled)
        self._logs = dict(state.logs)
        self._windows.newest = {Partition(topic, number): time_ms for topic, number, time_ms in state.newest}
        self._windows.closed_until = state.closed_until
        self._windows.fences = {Partition(topic, number): offset for topic, number, offset in state.fences}

    def _state(self) -> LineState:
        rejected = Counter(self._counts.rejected)
        rejected.update(reject.kind for reject in self._rejects)
        self._counts = Counts(
            self._counts.rows + self._scaled(self._n_rows - self._windows.n_again),
            self._counts.late + self._scaled(self._watch.n_late),
            self._counts.dropped + self._scaled(self._windows.n_dropped),
            self._counts.lost + self._n_lost,
            dict(sorted(rejected.items())),
            self._counts.anew + self._n_anew,
        )
        newest = tuple((at.topic, at.number, time_ms) for at, time_ms in sorted(self._windows.newest.items()))
        fences = tuple((at.topic, at.number, offset) for at, offset in sorted(self._windows.fences.items()))
        return LineState(
            self._shape, newest, self._windows.closed_until, self._watch.state, self._counts, self._hearing, fences,
            tuple(sorted(self._logs.items())), self._join.counts if self._join else self._labelled,
        )  # fmt: skip


def _sampled(before: Mapping[Key, Window], now: Mapping[Key, Window]) -> Mapping[int, RowSample]:
    """Rows that are new in the samples of open windows, by the windows' start."""
    found = {}
    for key, window in now.items():
        earlier = before[key].sample if key in before else None
        if window.sample is not None and window.sample is not earlier:
            found[key[1]] = window.sample.beyond(earlier)
    return found


def shape(model: Model, reference: Reference) -> str:
    """Names what the open windows of a model rest on; see `LineState`."""
    segments = ",".join(model.segments)
    return f"{reference.id} {model.window} segments={segments}:{model.max_segments}"


def _windows(model: Model, reference: Reference, state: State) -> Windows:
    segments = Segments.of(reference.bins, model.segments, model.max_segments)
    extras = Extras(panes=model.decision == "budget", n_sampled=state.sample_rows)
    if isinstance(model.window, Rows):
        return RowWindows(reference.bins, model.window.n_rows, segments, extras)
    span = Span(model.window.width_ms, model.lateness, state.retention, state.max_open_windows)
    return TimeWindows(reference.bins, span, segments, extras)


def _join(model: Model, reference: Reference, windows: Windows) -> Join | None:
    """None where labels come with their records, or nothing can be made of them."""
    if model.labels is None or not isinstance(windows, TimeWindows) or not reference.bins.errors:
        return None
    segments = Segments.of(reference.bins, model.segments, model.max_segments)
    return Join(reference.bins, segments, windows, Terms.of(model.labels, windows.width_ms, model.lateness))


def _readings(model: Model, places: Layout, needs_time: bool) -> Sequence[Reading]:
    """How the records of predictions are read and, where there are such, those of labels."""
    own = Reading(model.name, frozenset(model.topics), model.format, places, needs_time)
    if model.labels is None or not places.bins.errors:
        return [own]
    topics = frozenset({model.labels.topic}) if model.labels.topic else own.topics
    found, written = label_layout(model, model.labels, places.bins), model.labels.format or model.format
    return [own, Reading(model.name, topics, written, found, needs_time=True, labels=True)]
