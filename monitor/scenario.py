"""Unit tests of a configuration: rows that drift, orders, and the messages that must come of them.

The engine is the daemon's, on a clock of its own. Rows are drawn from the reference's cells, changed as the test says,
and fed minute by minute; nothing waits, so a test of a week takes seconds, and a message that comes a minute too late
is a failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import Field, ValidationError

from detectors.cells import FIRST, INVALID, MISSING, N_CELLS, UNSEEN, Cells, Floats
from monitor.batch import Batch, Moment, Partition
from monitor.board import Board
from monitor.check import Reference
from monitor.config import Config, DurationMs, Table
from monitor.configfile import document
from monitor.errors import ConfigError, Problem
from monitor.line import Line, ModelCommit, Saved
from monitor.message import AlertBody, Notice
from monitor.mistakes import mistakes
from monitor.order import Acknowledge, Order, Resolve, Silence, Snooze

MINUTE_MS: Final = 60_000
BEGIN_MS: Final = 1_767_225_600_000
"""The first minute of 2026, UTC: when every test begins."""


class Feed(Table):
    """`[[test.feed]]`: rows drawn from the reference, each column by itself.

    at, until: from when to when. rows_per_hour: how many. shift: by column, in standard deviations of the reference.
    missing, unseen: by column, the share of rows that lose their value, or get a word that the reference never had.
    """

    at: DurationMs = 0
    until: DurationMs
    rows_per_hour: int = Field(default=1000, gt=0)
    shift: Mapping[str, float] = Field(default_factory=dict)
    missing: Mapping[str, float] = Field(default_factory=dict)
    unseen: Mapping[str, float] = Field(default_factory=dict)


class Ask(Table):
    """`[[test.order]]`: what a person does with the incident at hand; snooze, silence: for how long."""

    at: DurationMs
    by: str = "test"
    acknowledge: bool = False
    resolve: bool = False
    snooze: DurationMs | None = None
    silence: DurationMs | None = None
    column: str = "*"


class Expect(Table):
    """`[[test.expect]]`: a message between two times, both included; or none, with `absent`.

    channel, change, columns: what it must be, where said. columns: names that must all be in it.
    """

    between: tuple[DurationMs, DurationMs]
    channel: str = "*"
    change: str = "*"
    columns: tuple[str, ...] = ()
    absent: bool = False


class Case(Table):
    """`[[test]]`: one story."""

    name: str
    model: str
    feed: tuple[Feed, ...] = Field(min_length=1)
    order: tuple[Ask, ...] = ()
    expect: tuple[Expect, ...] = Field(min_length=1)


class Script(Table):
    """A whole file. config: the configuration that is tested, relative to the file."""

    config: Path
    test: tuple[Case, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Heard:
    """A message, and when it came, in milliseconds from the beginning."""

    at_ms: int
    notice: Notice

    @property
    def change(self) -> str:
        """See `Expect`."""
        return self.notice.body.change if isinstance(self.notice.body, AlertBody) else "retrain"

    @property
    def columns(self) -> list[str]:
        return [column.column for column in self.notice.body.columns]

    @property
    def words(self) -> str:
        """In a few words."""
        return f"{span(self.at_ms)} {self.notice.channel}: {self.change} ({', '.join(self.columns)})"


def read(file: Path) -> Script:
    """A file of tests. ConfigError names every mistake in it."""
    try:
        return Script.model_validate(document(file))
    except ValidationError as error:
        raise ConfigError(str(file), mistakes(error, Script)) from error


def play(case: Case, config: Config, reference: Reference) -> list[Heard]:
    """Play one story to its end, and an hour beyond, and give back every message in order."""
    model = next(model for model in config.model if model.name == case.model)
    board = Board(config.alert.burst)
    line = Line(config.unsampled, model.without_labels, reference, Saved(), lambda *_: None, board)
    return list(_Stage(board, line, reference, case).play())


def verdict(case: Case, heard: Sequence[Heard]) -> list[str]:
    """What was expected and did not come, or came and was not expected; empty when the test passes."""
    faults = []
    for expected in case.expect:
        low, high = expected.between
        found = [message for message in heard if low <= message.at_ms <= high and _fits(expected, message)]
        if bool(found) == expected.absent:
            wanted = "no message" if expected.absent else "a message"
            what = f"{expected.change} to {expected.channel}, columns {', '.join(expected.columns) or 'any'}"
            near = "; ".join(message.words for message in heard) or "nothing"
            faults.append(f"wanted {wanted} between {span(low)} and {span(high)} ({what}); there was: {near}")
    return faults


def span(milliseconds: int) -> str:
    """A time from the beginning.

    >>> span(5_400_000), span(93_600_000)
    ('1h30m', '1d2h')
    """
    minutes = milliseconds // MINUTE_MS
    parts = ((minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "m"))
    return "".join(f"{n}{unit}" for n, unit in parts if n) or "0m"


class _Stage:
    def __init__(self, board: Board, line: Line, reference: Reference, case: Case) -> None:
        self._board = board
        self._line = line
        self._reference = reference
        self._case = case
        self._random = np.random.default_rng(0)
        self._offset = 0
        self._at = Partition(case.name, 0)
        self._incident = ""

    def play(self) -> Iterator[Heard]:
        """Minute by minute."""
        end_ms = max(feed.until for feed in self._case.feed)
        late_ms = max([*(order.at for order in self._case.order), *(e.between[1] for e in self._case.expect)])
        for now_ms in range(0, max(end_ms, late_ms) + MINUTE_MS, MINUTE_MS):
            for feed in self._case.feed:
                if feed.at <= now_ms < feed.until:
                    self._feed(feed, now_ms)
            for ask in self._case.order:
                if ask.at == now_ms - now_ms % MINUTE_MS and (order := self._order(ask, now_ms)) is not None:
                    self._board.act(order, BEGIN_MS + now_ms) or self._line.act(order, BEGIN_MS + now_ms)
            moment = Moment(BEGIN_MS + now_ms, frozenset({self._at}))
            yield from self._heard(self._line.tick(moment), now_ms)

    def _heard(self, commit: ModelCommit | None, now_ms: int) -> Iterator[Heard]:
        if commit is not None:
            for change in commit.out.changes:
                self._incident = change.episode.id
            yield from (Heard(now_ms, notice) for notice in commit.out.notices)

    def _feed(self, feed: Feed, now_ms: int) -> None:
        n_rows = (feed.rows_per_hour * (now_ms // MINUTE_MS + 1)) // 60 - (
            feed.rows_per_hour * (now_ms // MINUTE_MS)
        ) // 60
        if not n_rows:
            return
        numbers, cells = drawn(self._reference, n_rows, feed, self._random)
        offsets = np.arange(self._offset, self._offset + n_rows, dtype=np.int64)
        self._offset += n_rows
        times = BEGIN_MS + now_ms + np.arange(n_rows, dtype=np.int64) * MINUTE_MS // n_rows
        self._line.add(Batch(self._at, offsets, times, numbers, cells, self._offset))

    def _order(self, ask: Ask, now_ms: int) -> Order | None:
        if ask.silence is not None:
            ends_ms = BEGIN_MS + now_ms + ask.silence
            return Silence(by=ask.by, comment="of the test", ends_ms=ends_ms, column=ask.column)
        if ask.acknowledge:
            return Acknowledge(incident=self._incident, by=ask.by)
        if ask.resolve:
            return Resolve(incident=self._incident, by=ask.by)
        if ask.snooze is not None:
            return Snooze(incident=self._incident, by=ask.by, until_ms=BEGIN_MS + now_ms + ask.snooze)
        return None


def drawn(reference: Reference, n_rows: int, feed: Feed, random: np.random.Generator) -> tuple[Floats, Cells]:
    """Rows with the reference's distribution in every column, each column by itself, changed as the feed says."""
    bins, counts = reference.bins, reference.profile.counts
    found = np.stack([random.choice(N_CELLS, n_rows, p=row / row.sum()) for row in counts]).astype(np.uint8)
    numbers = np.full((bins.n_numeric, n_rows), np.nan)
    for row, column in enumerate(bins.numeric):
        regular = (found[row] >= FIRST) & (found[row] < FIRST + column.n_regular)
        cell = found[row, regular].astype(np.intp) - FIRST
        low, high = column.edges[cell], column.edges[cell + 1]
        inside = high - (high - low) * random.random(cell.size)
        numbers[row, regular] = np.where(inside > low, inside, high)  # a cell of one value has no other inside
        numbers[row] += feed.shift.get(column.name, 0.0) * column.unit * 1024
        numbers[row, random.random(n_rows) < feed.missing.get(column.name, 0.0)] = np.nan
    words = found[bins.n_numeric :]
    for row, column_ in enumerate(bins.categorical):
        words[row, random.random(n_rows) < feed.unseen.get(column_.name, 0.0)] = UNSEEN
        words[row, random.random(n_rows) < feed.missing.get(column_.name, 0.0)] = MISSING
    return numbers, bins.cells(numbers, words, found[: bins.n_numeric] == INVALID)


def _fits(expected: Expect, message: Heard) -> bool:
    return (
        expected.channel in {"*", message.notice.channel}
        and expected.change in {"*", message.change}
        and set(expected.columns).issubset(message.columns)
    )


def faults_of(case: Case, config: Config, references: Mapping[str, Reference]) -> list[Problem]:
    """Names in a test that do not exist."""
    models = {model.name for model in config.model}
    if case.model not in models:
        return [Problem(case.name, f"no model {case.model!r}; the configuration has: {', '.join(sorted(models))}")]
    names = set(references[case.model].bins.names)
    numeric = {column.name for column in references[case.model].bins.numeric}
    found = []
    for feed in case.feed:
        found += [
            Problem(case.name, f"the reference has no column {column!r}; it has: {', '.join(sorted(names))}")
            for column in sorted({*feed.shift, *feed.missing, *feed.unseen} - names)
        ]
        found += [
            Problem(case.name, f"shift of {column!r}, which is not numeric")
            for column in sorted(feed.shift.keys() & names - numeric)
        ]
    return found
