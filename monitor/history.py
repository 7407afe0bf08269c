"""What driftd remembers, for people and scripts to read while the daemon writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from monitor.alert import Change
from monitor.check import ledger
from monitor.database import is_locked, read_only
from monitor.decision import Verdict
from monitor.decision.budget import Ledger
from monitor.errors import DriftdError
from monitor.frozen import unchecked
from monitor.line import Counts, LineState
from monitor.message import rfc3339
from monitor.retrain import Trigger
from monitor.window import WHOLE


class Unknown(DriftdError):
    """No incident of that name."""


class ClosedWindow(msgspec.Struct, frozen=True):
    """A window that has closed. outcomes: how many columns got each verdict in it."""

    index: int
    start: str | None
    end: str | None
    n_rows: int
    outcomes: dict[str, int]


class ModelStatus(msgspec.Struct, frozen=True):
    """How one model stands. n_waiting: rows in windows that are still open; incident: the one that is firing.

    budget: the ledger of each segment, where the model works under the budget and has closed a window.
    """

    model: str
    counts: Counts
    n_windows: int
    n_waiting: int
    last_window: ClosedWindow | None
    incident: str | None
    severity: str | None
    budget: dict[str, Ledger] = {}


class Status(msgspec.Struct, frozen=True):
    """How the service stands. outbox: notices by state; problems: the latest reasons why some were not delivered."""

    running: bool
    directory: str
    models: tuple[ModelStatus, ...]
    outbox: dict[str, int]
    problems: tuple[str, ...]


class Incident(msgspec.Struct, frozen=True):
    """One incident in short. columns: the worst first."""

    id: str
    model: str
    segment: str
    state: str
    severity: str
    opened_window: int
    opened: str | None
    changed: str | None
    columns: tuple[str, ...]
    reason: str


class Delivery(msgspec.Struct, frozen=True):
    """What became of one notice."""

    id: str
    channel: str
    purpose: str
    state: str
    attempts: int
    queued: str | None
    done: str | None
    reason: str


class Explanation(msgspec.Struct, frozen=True):
    """Everything about one incident. verdicts: each column's in the window that changed the incident last."""

    incident: Incident
    changes: tuple[Change, ...]
    triggers: tuple[Trigger, ...]
    deliveries: tuple[Delivery, ...]
    verdicts: tuple[Verdict, ...]


class History:
    """The database of a state directory, read only."""

    def __init__(self, directory: Path) -> None:
        """StoreError when there is none."""
        self._directory = directory
        self._db = read_only(directory)

    def status(self) -> Status:
        """How the service stands, as of the last commit."""
        names = [name for (name,) in self._db.execute("SELECT model FROM lines ORDER BY model")]
        outbox = dict(self._db.execute("SELECT state, count(*) FROM outbox GROUP BY state ORDER BY state").fetchall())
        problems = self._db.execute(
            "SELECT id || ': ' || reason FROM outbox WHERE reason <> '' ORDER BY n DESC LIMIT 5"
        ).fetchall()
        models = tuple(map(self._model, names))
        return Status(is_locked(self._directory), str(self._directory), models, outbox, tuple(p for (p,) in problems))

    def incidents(self, *, everything: bool = False, limit: int = 100) -> tuple[Incident, ...]:
        """Incidents that are not resolved, or all; the latest first."""
        where = "" if everything else "WHERE state <> 'resolved'"
        rows = self._db.execute(
            f"SELECT model, opened_ms, changed_ms, body FROM incidents {where} ORDER BY opened_ms DESC, id LIMIT ?",  # noqa: S608  # two constants
            (limit,),
        )
        return tuple(_incident(*row) for row in rows)

    def explain(self, identity: str) -> Explanation:
        """Everything about an incident, named in full or by a beginning that only it has; else Unknown."""
        row = self._db.execute(
            "SELECT id, model, opened_ms, changed_ms, body FROM incidents WHERE id = ?", (self._full(identity),)
        ).fetchone()
        incident, change = _incident(*row[1:]), msgspec.json.decode(row[4], type=Change)
        changes = self._db.execute("SELECT body FROM changes WHERE incident = ? ORDER BY n", (row[0],))
        triggers = self._db.execute("SELECT body FROM triggers WHERE incident = ? ORDER BY made_ms", (row[0],))
        deliveries = self._db.execute(
            """SELECT id, channel, purpose, state, attempts, queued_ms, done_ms, reason FROM outbox
            WHERE incident = ? ORDER BY n""",
            (row[0],),
        )
        verdicts = self._db.execute(
            "SELECT body FROM verdicts WHERE model = ? AND segment = ? AND number = ? ORDER BY position",
            (incident.model, WHOLE, change.window),
        )
        return Explanation(
            incident,
            tuple(msgspec.json.decode(body, type=Change) for (body,) in changes),
            tuple(msgspec.json.decode(body, type=Trigger) for (body,) in triggers),
            tuple(
                Delivery(
                    name,
                    channel,
                    purpose,
                    state,
                    attempts,
                    rfc3339(queued_ms),
                    rfc3339(done_ms) if done_ms else None,
                    why,
                )
                for name, channel, purpose, state, attempts, queued_ms, done_ms, why in deliveries
            ),
            tuple(msgspec.json.decode(body, type=Verdict) for (body,) in verdicts),
        )

    def windows(self, model: str, segment: str = WHOLE, limit: int = 10_000) -> tuple[ClosedWindow, ...]:
        """A segment's windows, at most so many of the latest, in their order."""
        rows = self._db.execute(
            """SELECT number, start_ms, end_ms, n_rows, (SELECT group_concat(outcome || '=' || n) FROM
                (SELECT outcome, count(*) AS n FROM verdicts AS v WHERE v.model = w.model AND v.segment = w.segment
                 AND v.number = w.number GROUP BY outcome ORDER BY outcome))
            FROM windows AS w WHERE model = ? AND segment = ? ORDER BY number DESC LIMIT ?""",
            (model, segment, limit),
        ).fetchall()
        return tuple(
            ClosedWindow(number, rfc3339(start_ms), rfc3339(end_ms), n_rows, _counted(outcomes))
            for number, start_ms, end_ms, n_rows, outcomes in reversed(rows)
        )

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

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
        return ModelStatus(
            model, state.counts, n_windows, n_waiting, next(iter(self.windows(model, limit=1)), None),
            episode.id if episode else None, episode.severity if episode else None, self._ledgers(model),
        )  # fmt: skip

    def _ledgers(self, model: str) -> dict[str, Ledger]:
        rows = self._db.execute("SELECT segment, body FROM memories WHERE model = ? ORDER BY segment", (model,))
        found = {segment: ledger(unchecked(body)) for segment, body in rows}
        return {segment: known for segment, known in found.items() if known is not None}


def _counted(outcomes: str | None) -> dict[str, int]:
    """Reads "drift=2,ok=7"."""
    pairs = (pair.partition("=") for pair in (outcomes or "").split(",") if pair)
    return {outcome: int(n) for outcome, _, n in pairs}


def _incident(model: str, opened_ms: int, changed_ms: int, body: bytes) -> Incident:
    change = msgspec.json.decode(body, type=Change)
    episode = change.episode
    columns = tuple(dict.fromkeys(column.verdict.column for column in episode.columns))
    return Incident(
        episode.id, model, change.segment, episode.state, episode.severity, episode.opened_window,
        rfc3339(opened_ms), rfc3339(changed_ms), columns, change.reason,
    )  # fmt: skip
