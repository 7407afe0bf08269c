"""What driftd remembers, for people and scripts to read while the daemon writes it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from detectors import Bins, Pair, Profile
from detectors.cells import MISSING
from detectors.columns import NumericColumn
from monitor.account import (
    ClosedWindow,
    ColumnHistory,
    ColumnPoint,
    DeadLetter,
    Delivery,
    Explanation,
    Incident,
    ModelStatus,
    Status,
    TriggerEntry,
)
from monitor.alert import Change, names
from monitor.board import BoardState
from monitor.check import Reference, ledger
from monitor.database import is_locked, read_only
from monitor.decision import Outcome, Verdict
from monitor.decision.budget import Ledger
from monitor.errors import DriftdError
from monitor.frozen import thaw, unchecked
from monitor.glance import QUANTILES, Glance, decode, levels
from monitor.line import LineState
from monitor.message import rfc3339
from monitor.order import Silence
from monitor.retrain import Trigger
from monitor.rowsample import RowSample
from monitor.window import WHOLE

_OUTCOMES: Final = tuple(map(str, Outcome))
_WINDOW: Final = "number, start_ms, end_ms, n_rows, n_ok, n_drift, n_unknown, n_late, revision, bins"


class Unknown(DriftdError):
    """Nothing of that name is remembered."""


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """A closed window beside the reference that it was judged by."""

    window: ClosedWindow
    reference: str
    pair: Pair


class History:
    """The database of a state directory, read only, for one thread."""

    def __init__(self, directory: Path) -> None:
        """StoreError when there is none."""
        self._directory = directory
        self._db = read_only(directory)

    def status(self) -> Status:
        """How the service stands, as of the last commit."""
        outbox = dict(self._db.execute("SELECT state, count(*) FROM outbox GROUP BY state ORDER BY state").fetchall())
        problems = self._db.execute(
            "SELECT id || ': ' || reason FROM outbox WHERE reason <> '' ORDER BY n DESC LIMIT 5"
        ).fetchall()
        models = tuple(map(self._model, self.models()))
        return Status(is_locked(self._directory), str(self._directory), models, outbox, tuple(p for (p,) in problems))

    def models(self) -> tuple[str, ...]:
        """Names of all models."""
        return tuple(name for (name,) in self._db.execute("SELECT model FROM lines ORDER BY model"))

    def segments(self, model: str) -> tuple[str, ...]:
        """Segments of a model that have windows, the whole first."""
        found = self._db.execute("SELECT DISTINCT segment FROM windows WHERE model = ? ORDER BY segment", (model,))
        return tuple(sorted((name for (name,) in found), key=lambda name: (name != WHOLE, name)))

    def incidents(
        self, *, everything: bool = False, limit: int = 100, model: str | None = None
    ) -> tuple[Incident, ...]:
        """Incidents that are not resolved, or all, of one model or all; the latest first."""
        rows = self._db.execute(
            """SELECT model, opened_ms, changed_ms, body FROM incidents
            WHERE (?1 OR state <> 'resolved') AND (?2 IS NULL OR model = ?2) ORDER BY opened_ms DESC, id LIMIT ?3""",
            (everything, model, limit),
        )
        return tuple(_incident(*row) for row in rows)

    def explain(self, identity: str) -> Explanation:
        """Everything about an incident, named in full or by a beginning that only it has; else Unknown."""
        row = self._db.execute(
            "SELECT id, model, opened_ms, changed_ms, body FROM incidents WHERE id = ?", (self._full(identity),)
        ).fetchone()
        incident, change = _incident(*row[1:]), msgspec.json.decode(row[4], type=Change)
        changes = self._db.execute(
            "SELECT made_ms, body FROM changes WHERE incident = ? ORDER BY n", (row[0],)
        ).fetchall()
        triggers = self._db.execute("SELECT body FROM triggers WHERE incident = ? ORDER BY made_ms", (row[0],))
        return Explanation(
            incident,
            tuple(msgspec.json.decode(body, type=Change) for _, body in changes),
            tuple(msgspec.json.decode(body, type=Trigger) for (body,) in triggers),
            tuple(self._deliveries("WHERE incident = ? ORDER BY n", (row[0],))),
            self.verdicts(incident.model, WHOLE, change.window),
            tuple(rfc3339(made_ms) for made_ms, _ in changes),
        )

    def windows(
        self, model: str, segment: str = WHOLE, limit: int = 10_000, before: int | None = None
    ) -> tuple[ClosedWindow, ...]:
        """A segment's windows, at most so many of the latest, or of the latest before that number, in their order."""
        rows = self._db.execute(
            f"""SELECT {_WINDOW} FROM windows WHERE model = ? AND segment = ? AND number < ?
            ORDER BY number DESC LIMIT ?""",  # noqa: S608  # a constant
            (model, segment, 2**62 if before is None else before, limit),
        ).fetchall()
        return tuple(_window(row) for row in reversed(rows))

    def outcomes(self, model: str, limit: int) -> list[tuple[int, int, int]]:
        """How many columns got each verdict, in the order of `Outcome`, in a model's latest windows, in their order."""
        rows: list[tuple[int, int, int]] = self._db.execute(
            """SELECT n_ok, n_drift, n_unknown FROM windows WHERE model = ? AND segment = ? AND number >= 0
            ORDER BY number DESC LIMIT ?""",
            (model, WHOLE, limit),
        ).fetchall()
        return rows[::-1]

    def glances(self, model: str, segment: str, limit: int) -> list[tuple[ClosedWindow, Glance]]:
        """A segment's latest windows at a glance, in their order."""
        rows = self._db.execute(
            f"""SELECT {_WINDOW}, glance FROM windows WHERE model = ? AND segment = ? AND number >= 0
            ORDER BY number DESC LIMIT ?""",  # noqa: S608  # a constant
            (model, segment, limit),
        ).fetchall()
        return [(_window(row[:-1]), decode(row[-1])) for row in reversed(rows)]

    def verdicts(self, model: str, segment: str, number: int) -> tuple[Verdict, ...]:
        """What was said of each column of one window."""
        rows = self._db.execute(
            "SELECT body FROM verdicts WHERE model = ? AND segment = ? AND number = ? ORDER BY position",
            (model, segment, number),
        )
        return tuple(msgspec.json.decode(body, type=Verdict) for (body,) in rows)

    def column(self, model: str, column: str, segment: str = WHOLE, limit: int = 10_000) -> ColumnHistory:
        """One column over a segment's latest windows. Unknown when none of them has it."""
        points = [
            point(window, glance, glance.names.index(column))
            for window, glance in self.glances(model, segment, limit)
            if column in glance.names
        ]
        if not points:
            raise Unknown(f"no window of {model} ({segment}) has a column {column!r}")
        return _told(model, segment, column, points, self._reference(points[-1].bins))

    def compared(self, model: str, segment: str, number: int) -> Compared | None:
        """A closed window beside its reference; None when one of them is not kept any more."""
        row = self._db.execute(
            f"SELECT {_WINDOW}, body FROM windows WHERE model = ? AND segment = ? AND number = ?",  # noqa: S608  # a constant
            (model, segment, number),
        ).fetchone()
        reference = self._reference(row[-2]) if row else None
        if reference is None:
            return None
        pair = Pair(reference.profile, thaw(row[-1], reference.bins).tally.profile)
        return Compared(_window(row[:-1]), reference.id, pair)

    def rows(self, compared: Compared, model: str) -> tuple[RowSample, RowSample] | None:
        """Rows of the reference and of the window, where some of both are kept. Of a window of all rows."""
        reference = self._reference(compared.window.bins)
        statement = "SELECT body FROM samples WHERE model = ? AND number = ?"
        kept = self._db.execute(statement, (model, compared.window.index)).fetchone()
        if kept is None or reference is None or reference.rows is None:
            return None
        return reference.rows, RowSample.from_bytes(reference.bins, unchecked(kept[0]))

    def triggers(
        self, identity: str | None = None, limit: int = 100, incident: str | None = None
    ) -> tuple[TriggerEntry, ...]:
        """Retraining triggers, the one of that name, or those of an incident; the latest first."""
        rows = self._db.execute(
            """SELECT t.model, t.body, nullif(o.receipt, '') FROM triggers AS t LEFT JOIN outbox AS o ON o.id = t.id
            WHERE (?1 IS NULL OR t.id = ?1) AND (?2 IS NULL OR t.incident = ?2)
            ORDER BY t.made_ms DESC, t.id LIMIT ?3""",
            (identity, incident, limit),
        )
        return tuple(_trigger(*row) for row in rows)

    def outbox(self, state: str | None = None, limit: int = 100) -> tuple[Delivery, ...]:
        """Notices, or those in one state; the latest first."""
        return tuple(self._deliveries("WHERE ?1 IS NULL OR state = ?1 ORDER BY n DESC LIMIT ?2", (state, limit)))

    def silences(self, now_ms: int) -> tuple[Silence, ...]:
        """Silences that have not ended."""
        row = self._db.execute("SELECT body FROM board").fetchone()
        board = msgspec.json.decode(row[0], type=BoardState) if row else BoardState()
        return tuple(silence for silence in board.silences if silence.ends_ms > now_ms)

    def dead_letters(
        self, model: str | None = None, limit: int = 100, before: int | None = None
    ) -> tuple[DeadLetter, ...]:
        """Records that became no row, the latest first."""
        rows = self._db.execute(
            """SELECT n, model, topic, partition, record_offset, kind, reason, head, seen_ms FROM dead_letters
            WHERE (?1 IS NULL OR model = ?1) AND n < ?2 ORDER BY n DESC LIMIT ?3""",
            (model, 2**62 if before is None else before, limit),
        )
        return tuple(
            DeadLetter(n, name, topic, partition, offset, kind, reason, _text(head), rfc3339(seen_ms))
            for n, name, topic, partition, offset, kind, reason, head, seen_ms in rows
        )

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    def _deliveries(self, where: str, values: tuple[Any, ...]) -> Iterator[Delivery]:
        rows = self._db.execute(
            f"SELECT id, channel, purpose, state, attempts, queued_ms, done_ms, reason, incident FROM outbox {where}",  # noqa: S608  # constants
            values,
        )
        for name, channel, purpose, state, attempts, queued_ms, done_ms, reason, incident in rows:
            done = rfc3339(done_ms) if done_ms else None
            yield Delivery(name, channel, purpose, state, attempts, rfc3339(queued_ms), done, reason, incident)

    def _reference(self, bins: str) -> Reference | None:
        try:
            return _kept(self._directory, bins)
        except LookupError:
            return None

    def _full(self, identity: str) -> str:
        found: Sequence[tuple[str]] = self._db.execute(
            "SELECT id FROM incidents WHERE id = ? OR substr(id, 1, length(?)) = ? ORDER BY id = ? DESC, id",
            (identity,) * 4,
        ).fetchall()
        names = [name for (name,) in found]
        if not names:
            latest = ", ".join(incident.id for incident in self.incidents(everything=True, limit=5)) or "none"
            raise Unknown(f"there is no incident {identity}; the latest are: {latest}")
        if names[0] != identity and len(names) > 1:
            raise Unknown(f"{identity} begins {len(names)} incidents: {', '.join(names[:5])}")
        return names[0]

    def _model(self, model: str) -> ModelStatus:
        (body,) = self._db.execute("SELECT state FROM lines WHERE model = ?", (model,)).fetchone()
        state = msgspec.json.decode(unchecked(body), type=LineState)
        (n_windows,) = self._db.execute("SELECT count(*) FROM windows WHERE model = ?", (model,)).fetchone()
        (n_waiting,) = self._db.execute(
            "SELECT coalesce(sum(n_rows), 0) FROM open_windows WHERE model = ? AND segment = ?", (model, WHOLE)
        ).fetchone()
        episode = state.watch.desk.episode
        window, glance = next(iter(self.glances(model, WHOLE, 1)), (None, None))
        return ModelStatus(
            model, state.counts, n_windows, n_waiting, window,
            episode.id if episode else None, episode.severity if episode else None, self._ledgers(model),
            state.labelled, state.labelled.coverage, glance.labelled if glance else None,
        )  # fmt: skip

    def _ledgers(self, model: str) -> dict[str, Ledger]:
        rows = self._db.execute("SELECT segment, body FROM memories WHERE model = ? ORDER BY segment", (model,))
        found = {segment: ledger(unchecked(body)) for segment, body in rows}
        return {segment: known for segment, known in found.items() if known is not None}


@lru_cache(maxsize=8)
def _kept(directory: Path, bins: str) -> Reference:
    """The reference of these cells; LookupError when it is not kept."""
    db = read_only(directory)
    try:
        row = db.execute("SELECT id, cells, profile, rows FROM kept_references WHERE bins = ?", (bins,)).fetchone()
    finally:
        db.close()
    if row is None:
        raise LookupError(bins)
    cells = Bins.from_json(zlib.decompress(row[1]))
    rows = RowSample.from_bytes(cells, row[3]) if row[3] else None
    return Reference(row[0], cells, Profile.from_bytes(cells, row[2]), rows=rows)


def _text(head: bytes) -> str:
    return bytes(head).decode(errors="backslashreplace")


def _window(row: Sequence[Any]) -> ClosedWindow:
    number, start_ms, end_ms, n_rows, *counts, n_late, revision, bins = row
    outcomes = {outcome: n for outcome, n in zip(_OUTCOMES, counts, strict=True) if n}
    return ClosedWindow(number, rfc3339(start_ms), rfc3339(end_ms), n_rows, outcomes, n_late, revision, bins)


def point(window: ClosedWindow, glance: Glance, row: int) -> ColumnPoint:
    """The column in this row of a glance."""
    numbers = [None if math.isnan(number) else number for number in glance.table[row].tolist()]
    effect, low, high, evidence, n_current, missing, invalid, odd, *found = numbers
    n_current = None if n_current is None else int(n_current)
    return ColumnPoint(
        window.index, window.start, glance.outcome(row), effect, low, high, evidence, n_current, missing, invalid, odd,
        tuple(found), window.bins,
    )  # fmt: skip


def _told(
    model: str, segment: str, column: str, points: Sequence[ColumnPoint], reference: Reference | None
) -> ColumnHistory:
    kind, labels, usual, missing = "unknown", tuple(f"{q:g}" for q in QUANTILES), None, None
    if reference is not None and column in reference.bins.names:
        row = reference.bins.names.index(column)
        kind = reference.bins.kinds[row]
        known = reference.bins.columns[row]
        labels = labels if isinstance(known, NumericColumn) else known.vocabulary[: len(QUANTILES)]
        usual = tuple(None if math.isnan(level) else level for level in levels(reference.profile)[row].tolist())
        missing = float(reference.profile.counts[row, MISSING]) / max(reference.profile.n_rows, 1)
    return ColumnHistory(
        model, segment, column, kind, labels, points[-1].bins, usual, missing, tuple(points)
    )  # fmt: skip


def _trigger(model: str, body: bytes, run: str | None) -> TriggerEntry:
    trigger = msgspec.json.decode(body, type=Trigger)
    return TriggerEntry(
        trigger.id, trigger.incident, model, trigger.channel, trigger.step, rfc3339(trigger.history[0].at_ms),
        trigger.body.reason,
        trigger.body.columns, trigger.history, trigger.version, trigger.reference, run,
    )  # fmt: skip


def _incident(model: str, opened_ms: int, changed_ms: int, body: bytes) -> Incident:
    change = msgspec.json.decode(body, type=Change)
    episode = change.episode
    return Incident(
        episode.id, model, change.segment, episode.state, episode.severity, episode.opened_window,
        rfc3339(opened_ms), rfc3339(changed_ms), names(episode.columns), change.reason,
    )  # fmt: skip
