"""The same engine over files: what the daemon would have said of a log, byte for byte the same each time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from detectors import REGISTRY
from monitor.alert import Change, State, names
from monitor.batch import NO_TIME, Batch, Moment, Partition, Records
from monitor.check import Judged, Reference
from monitor.config import Config, Model
from monitor.decision import Outcome, Scores, Verdict
from monitor.errors import SourceError
from monitor.frozen import freeze, thaw
from monitor.line import Counts, Line, ModelCommit, Saved
from monitor.message import Body, Notice, Purpose, rfc3339
from monitor.scorecard import DetectorScore, scorecard
from monitor.sources import files
from monitor.window import Window

ROWS_PER_TICK: Final = 50_000
Memory = dict[tuple[str, int], tuple[bytes, Sequence[Verdict]]]
"""Closed windows as bytes and what was said of them, by segment and start: late rows may amend any."""


class WindowRow(msgspec.Struct, frozen=True):
    """A line of windows.jsonl; a window that late rows amended has one for every revision."""

    model: str
    segment: str
    index: int
    start: str | None
    end: str | None
    n_rows: int
    n_late: int
    revision: int
    profile_id: str


class VerdictRow(msgspec.Struct, frozen=True):
    """A line of verdicts.jsonl."""

    model: str
    segment: str
    window: int
    column: str
    verdict: Outcome
    reason: str
    n_reference: int
    n_current: int
    evidence: float | None
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    since_window: int | None
    quality: tuple[str, ...]
    detectors: dict[str, DetectorScore]
    revision: int


class IncidentRow(msgspec.Struct, frozen=True):
    """A line of incidents.jsonl: one for every change. columns: the worst first."""

    id: str
    model: str
    segment: str
    window: int
    state: State
    severity: str
    columns: tuple[str, ...]
    reason: str


class NoticeRow(msgspec.Struct, frozen=True):
    """A line of notices.jsonl."""

    id: str
    incident: str
    channel: str
    purpose: Purpose
    window: int
    body: Body


@dataclass(slots=True)
class Summary:
    """What a replay found. drifting: columns that any verdict calls so."""

    counts: Counts
    windows: int = 0
    verdicts: int = 0
    incidents: int = 0
    notices: int = 0
    drifting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Log:
    """Files that are replayed, in this order. labels: of those that hold labels which came later."""

    rows: Sequence[Path]
    labels: Sequence[Path] = ()

    def joined(self, model: Model) -> Model:
        """The model as it reads these files. SourceError where it cannot join their labels."""
        if not self.labels:
            return model.without_labels if model.labels is None or model.labels.topic else model
        if model.labels is None or model.labels.timestamp is None:
            raise SourceError(
                f"{self.labels[0]}: the labels of {model.name} cannot be joined: wanted [model.labels] with timestamp, "
                "which says when each was known; a file has no time of its own"
            )
        return model


def replay(
    config: Config,
    model: Model,
    reference: Reference,
    log: Log,
    out: Path,
    progress: Callable[[int, Summary], None] = lambda _n, _s: None,
) -> Summary:
    """Replay files as one model's log and write what came of it into `out`. progress: told the rows read so far."""
    model = log.joined(model)
    out.mkdir(parents=True, exist_ok=True)
    memory: Memory = {}

    def recall(_: str, segment: str, start_ms: int) -> tuple[Window, Sequence[Verdict]] | None:
        known = memory.get((segment, start_ms))
        return None if known is None else (thaw(known[0], reference.bins), known[1])

    line = Line(config.unsampled, model, reference, Saved(), recall)
    labels = _Labels(line, log.labels)
    summary = Summary(Counts())
    with ExitStack() as stack:
        writer = _Writer(model.name, reference, out, stack)
        n_rows = since_tick = 0
        for at, file in ((Partition(str(file), 0), file) for file in log.rows):
            for found in files.read(file, line.layout):
                n_new = _take(line, found)
                n_rows, since_tick = n_rows + n_new, since_tick + n_new
                labels.read(line.clock.get(at, NO_TIME))
                if since_tick >= ROWS_PER_TICK:
                    since_tick = 0
                    _note(line.tick(Moment(0, labels.left | {at})), writer, summary, memory)
                    progress(n_rows, summary)
            _note(line.tick(Moment(0, labels.left | {at})), writer, summary, memory)
        while labels.left:
            labels.read(min(line.clock.get(at, NO_TIME) for at in labels.left) + 1)
            _note(line.tick(Moment(0, labels.left)), writer, summary, memory)
        _note(line.finish(), writer, summary, memory)
        progress(n_rows, summary)
    return summary


class _Labels:
    """Files of labels, each read as far as the predictions are. left: those that are not at their ends."""

    def __init__(self, line: Line, paths: Sequence[Path]) -> None:
        self._line = line
        where = line.labels
        if paths and where is None:
            raise SourceError(f"{paths[0]}: the reference has no loss, so that nothing can be made of labels")
        self._left = {Partition(str(file), 0): files.read(file, where) for file in paths if where is not None}

    @property
    def left(self) -> frozenset[Partition]:
        return frozenset(self._left)

    def read(self, until_ms: int) -> None:
        """Take labels until none is left that was known before this time."""
        for at, pieces in list(self._left.items()):
            while at in self._left and self._line.clock.get(at, NO_TIME) < until_ms:
                piece = next(pieces, None)
                if piece is None:
                    del self._left[at]
                else:
                    self._line.label(piece)


def _take(line: Line, found: Batch | Records) -> int:
    if isinstance(found, Batch):
        line.add(found)
        return found.n_rows
    line.step(found)
    return int(found.offsets.size)


def _note(commit: ModelCommit | None, writer: _Writer, summary: Summary, memory: Memory) -> None:
    if commit is None:
        return
    out = commit.out
    for judged in commit.judged:
        memory[judged.window.segment, judged.window.start_ms] = (freeze(judged.window), judged.verdicts)
    writer.write(commit)
    drifting = {v.column for judged in commit.judged for v in judged.verdicts if v.outcome is Outcome.DRIFT}
    summary.counts = commit.state.counts
    summary.windows += sum(judged.window.revision == 0 for judged in commit.judged)
    summary.verdicts += sum(len(judged.verdicts) for judged in commit.judged)
    summary.incidents += sum(change.change == "opened" for change in out.changes)
    summary.notices += len(out.notices)
    summary.drifting = tuple(sorted(drifting | set(summary.drifting)))


class _Writer:
    """The four files of a replay."""

    def __init__(self, model: str, reference: Reference, out: Path, stack: ExitStack) -> None:
        self._model = model
        self._reference = reference
        self._windows, self._verdicts, self._incidents, self._notices = (
            stack.enter_context((out / f"{name}.jsonl").open("wb"))
            for name in ("windows", "verdicts", "incidents", "notices")
        )

    def write(self, commit: ModelCommit) -> None:
        """Write everything that a commit found."""
        _lines(self._windows, map(self._window, commit.judged))
        _lines(self._verdicts, (row for judged in commit.judged for row in self._said(judged)))
        _lines(self._incidents, map(self._incident, commit.out.changes))
        _lines(self._notices, map(_notice, commit.out.notices))

    def _window(self, judged: Judged) -> WindowRow:
        window = judged.window
        return WindowRow(
            self._model, window.segment, window.index, rfc3339(window.start_ms), rfc3339(window.end_ms), window.n_rows,
            window.n_late, window.revision, window.tally.profile.id,
        )  # fmt: skip

    def _said(self, judged: Judged) -> Iterable[VerdictRow]:
        window = judged.window
        scores = Scores(self._reference.beside(window.tally.profile, window.segment))
        for row, verdict in enumerate(judged.verdicts):
            known = row < self._reference.bins.n_columns
            yield VerdictRow(
                self._model, window.segment, window.index, verdict.column, verdict.outcome, verdict.reason,
                verdict.n_reference, verdict.n_current, verdict.evidence, verdict.effect, verdict.effect_low,
                verdict.effect_high, verdict.since_window, verdict.quality,
                scorecard(scores, row, REGISTRY) if known else {}, window.revision,
            )  # fmt: skip

    def _incident(self, change: Change) -> IncidentRow:
        episode = change.episode
        return IncidentRow(
            episode.id, self._model, change.segment, change.window, episode.state, episode.severity,
            names(episode.columns), change.reason,
        )  # fmt: skip


def _notice(notice: Notice) -> NoticeRow:
    return NoticeRow(notice.id, notice.incident, notice.channel, notice.purpose, notice.window, notice.body)


def _lines(file: IO[bytes], rows: Iterable[msgspec.Struct]) -> None:
    for row in rows:
        file.write(msgspec.json.encode(row) + b"\n")
