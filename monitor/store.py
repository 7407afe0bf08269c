"""All that driftd remembers: one Commit is one transaction.

Offsets, open windows, closed windows, verdicts, incidents, triggers and the outbox land together or not at all. The
offsets in here are the truth; a start reads on from them, so whatever a crash undid is done again in the same way.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from detectors import Bins
from detectors.season import DAY_MS
from monitor import transaction
from monitor.batch import Letter, Partition
from monitor.board import BoardState
from monitor.channels import Attempt
from monitor.check import Reference
from monitor.database import Database, Turn
from monitor.database import backup as copy_of
from monitor.decision import Verdict
from monitor.engine import Commit
from monitor.errors import StoreDamaged
from monitor.frozen import checked, rows_of, thaw, unchecked
from monitor.join import Run, RunKey
from monitor.line import LineState, Saved
from monitor.message import Notice, Purpose, decode, notice
from monitor.order import Answer, Drop, Resend
from monitor.outbox import Dead, Delivered, Fate, Pending
from monitor.retrain import Step
from monitor.rowsample import RowSample
from monitor.schema import BOARD_SUM, DESIGN, NOTICE_SUM, OFFSET_SUM
from monitor.tally import Extents, union
from monitor.window import WHOLE, Window

log = logging.getLogger(__name__)

LONGEST_PAUSE_MS: Final = DAY_MS
"""A notice that would wait longer was put off by a clock that was wrong then, and is due."""


@dataclass(frozen=True, slots=True)
class Due:
    """A notice to be sent now. parent: the receipt of its incident's message in that channel, where there is one.

    doubtful: an earlier attempt may have got through.
    """

    notice: Notice
    parent: str | None
    attempts: int
    queued_ms: int
    doubtful: bool = False

    @property
    def attempt(self) -> Attempt:
        return Attempt(self.parent, self.attempts + 1, self.doubtful, self.queued_ms / 1000)


@dataclass(frozen=True, slots=True)
class OutboxFacts:
    """How the outbox and the database stand."""

    n_pending: int
    n_dead: int
    oldest_seconds: float
    n_bytes: int


class Store:
    """The state of one directory, for the one daemon that works on it."""

    def __init__(self, directory: Path, turn: Turn | None = None) -> None:
        """Open or create. StoreLocked, StoreNewer or StoreError when it cannot be had. turn: see `Database`."""
        self.database = Database(directory, DESIGN, turn)

    def load(self, model: str, shape: str, bins: Bins) -> Saved:
        """What a model's line goes on from. Where open windows have another shape, their rows are read again."""
        state = self._state(model)
        if state is None:
            return Saved()
        try:
            offsets = self._offsets(model)
            if state.shape != shape:
                return self._rewound(model, msgspec.structs.replace(state, shape=shape), offsets)
            statement = "SELECT segment, start_ms, body FROM open_windows WHERE model = ?"
            windows = {
                (segment, start_ms): thaw(body, bins)
                for segment, start_ms, body in self.database.rows(statement, (model,))
            }
            statement = "SELECT start_ms, body FROM open_samples WHERE model = ?"
            for start_ms, body in self.database.rows(statement, (model,)):
                part, window = RowSample.from_bytes(bins, unchecked(body)), windows[WHOLE, start_ms]
                sample = part if window.sample is None else window.sample + part
                windows[WHOLE, start_ms] = replace(window, sample=sample)
            statement = "SELECT segment, body FROM memories WHERE model = ?"
            memories = {segment: unchecked(body) for segment, body in self.database.rows(statement, (model,))}
            statement = "SELECT side, number, body FROM waiting WHERE model = ?"
            waiting = {
                RunKey(side, number): Run.from_bytes(body)
                for side, number, body in self.database.rows(statement, (model,))
            }
        except (ValueError, msgspec.MsgspecError) as error:
            raise StoreDamaged(f"the state of model {model} cannot be read: {error}") from error
        return Saved(state, offsets, windows, memories, waiting)

    def recall(
        self, bins: Mapping[str, Bins], model: str, segment: str, start_ms: int
    ) -> tuple[Window, Sequence[Verdict]] | None:
        """A closed window by its start, and what was said of it; None when there is none, or on other bins."""
        statement = "SELECT number, body, sound(body) FROM windows WHERE model = ? AND segment = ? AND start_ms = ?"
        found = self.database.rows(statement, (model, segment, start_ms))
        if not found:
            return None
        if not found[0][2]:
            raise StoreDamaged(f"window {found[0][0]} of model {model}, {segment}: its check sum does not match")
        try:
            window = thaw(found[0][1], bins[model])
        except ValueError as error:
            lost = {"event": "window.not_amended", "key": model, "model": model, "window": found[0][0]}
            log.warning("model %s: window %d cannot be amended: %s", model, found[0][0], error, extra=lost)
            return None
        statement = "SELECT body FROM verdicts WHERE model = ? AND segment = ? AND number = ? ORDER BY position"
        said = self.database.rows(statement, (model, segment, found[0][0]))
        return window, [msgspec.json.decode(body, type=Verdict) for (body,) in said]

    def apply(self, commit: Commit) -> int:
        """Remember a commit; how many dead letters were forgotten for it. StoreFull when there is no room for it: then
        nothing of it is there."""
        n_forgotten = 0
        with self.database.transaction() as db:
            for part in commit.models:
                transaction.apply_progress(db, part)
                transaction.apply_waiting(db, part)
                for judged in part.judged:
                    transaction.apply_window(db, part.model, judged, commit.now_ms)
                transaction.apply_incidents(db, part, commit.now_ms)
                transaction.queue(db, part.out.notices, commit.now_ms)
                n_forgotten += transaction.apply_dead_letters(db, part, commit.now_ms)
            transaction.queue(db, commit.digests, commit.now_ms)
            if commit.board is not None:
                db.execute("INSERT OR REPLACE INTO board VALUES (1, ?1, crc(?1))", (msgspec.json.encode(commit.board),))
            transaction.apply_orders(db, commit.orders, commit.now_ms)
        return n_forgotten

    def board(self) -> BoardState:
        """What all models share."""
        found = self.database.rows(f"SELECT body, sum = {BOARD_SUM} FROM board")  # noqa: S608  # the schema's own
        if not found:
            return BoardState()
        if not found[0][1]:
            raise StoreDamaged("what all models share: its check sum does not match")
        return msgspec.json.decode(found[0][0], type=BoardState)

    def replaced(self, model: str, reference: str) -> str | None:
        """The sealed reference that took the place of this configured one; None where none did."""
        state = self._state(model)
        desk = None if state is None else state.watch.desk
        return desk.reference if desk is not None and desk.replaced == reference else None

    def due(self, now_ms: int, limit: int = 100) -> list[Due]:
        """Notices to be sent now, oldest first; of every incident and channel only the first that is not done."""
        self.database.check_turn()
        rows = self.database.rows(
            f"""SELECT id, channel, purpose, body, sum = {NOTICE_SUM}, attempts, queued_ms, doubtful,
                (SELECT receipt FROM outbox AS sent WHERE sent.incident = o.incident AND sent.channel = o.channel
                    AND sent.receipt <> '' ORDER BY n DESC LIMIT 1)
            FROM outbox AS o WHERE state = 'pending' AND next_attempt_ms NOT BETWEEN ?1 + 1 AND ?1 + {LONGEST_PAUSE_MS}
                AND NOT EXISTS
                (SELECT 1 FROM outbox AS before WHERE before.incident = o.incident AND before.channel = o.channel
                    AND before.n < o.n AND before.state = 'pending')
            ORDER BY n LIMIT ?2""",  # noqa: S608  # the schema's own sum, and a number of ours
            (now_ms, limit),
        )
        for identity, *_, is_sound, _, _, _, _ in rows:
            if not is_sound:
                raise StoreDamaged(f"notice {identity}: its check sum does not match")
        return [
            Due(notice(identity, channel, Purpose(purpose), decode(body)), parent, attempts, queued_ms, bool(doubtful))
            for identity, channel, purpose, body, _, attempts, queued_ms, doubtful, parent in rows
        ]

    def claim(self, notices: Sequence[str]) -> None:
        """Remember, before they are sent, that these notices may get through; what `settle` says replaces it."""
        if notices:
            with self.database.transaction() as db:
                db.executemany("UPDATE outbox SET doubtful = 1 WHERE id = ?", [(identity,) for identity in notices])

    def settle(self, fates: Iterable[tuple[str, Fate]], now_ms: int) -> None:
        """Remember what became of notices."""
        with self.database.transaction() as db:
            for identity, fate in fates:
                state, receipt, reason, next_ms = _settled(fate, now_ms)
                tried = not isinstance(fate, Pending) or fate.tried
                doubtful = not isinstance(fate, Delivered) and fate.ambiguous
                db.execute(
                    """UPDATE outbox SET state = ?, receipt = ?, reason = ?, next_attempt_ms = ?, doubtful = ?,
                    attempts = attempts + ?, done_ms = CASE WHEN ? = 'pending' THEN NULL ELSE ? END WHERE id = ?""",
                    (state, receipt, reason, next_ms, doubtful, tried, state, now_ms, identity),
                )

    def ended_calls(self) -> list[tuple[str, str]]:
        """Triggers whose call to the job ended in a way that they do not know of: their id, and why it was given up, or
        "" where it came through after all."""
        return self.database.rows(
            """SELECT t.id, CASE o.state WHEN 'sent' THEN '' ELSE o.reason END FROM triggers AS t
            JOIN outbox AS o ON o.id = t.id
            WHERE t.step = ?1 AND o.state IN ('dead', 'dropped') OR t.step = ?2 AND o.state = 'sent'""",
            (Step.CALLED, Step.GIVEN_UP),
        )

    def redirect(self, order: Resend | Drop, now_ms: int) -> Answer:
        """Try a notice again from its beginning, or never more."""
        statement = """SELECT o.state, o.purpose, t.step, (SELECT id FROM triggers AS later
            WHERE later.model = t.model AND later.made_ms > t.made_ms) FROM outbox AS o
            LEFT JOIN triggers AS t ON t.id = o.id WHERE o.id = ?"""
        found = self.database.rows(statement, (order.notice,))
        state, purpose, step, later = found[0] if found else ("", "", None, None)
        again = isinstance(order, Resend)
        if not found:
            return Answer(False, f"there is no notice {order.notice}")
        if state not in (("dead",) if again else ("dead", "pending")):
            return Answer(False, f"{order.notice} is {state}")
        if again and purpose == Purpose.RETRAIN and step not in {Step.CALLED, Step.GIVEN_UP}:
            return Answer(False, f"its trigger is {step or 'gone'}: a job that starts now would come too late")
        if again and later:
            return Answer(False, f"{later} came after its trigger: a job that starts now would come too late")
        with self.database.transaction() as db:
            if again:
                db.execute(
                    """UPDATE outbox SET state = 'pending', attempts = 0, queued_ms = ?1, next_attempt_ms = ?1,
                    done_ms = NULL, reason = '' WHERE id = ?2""",
                    (now_ms, order.notice),
                )
            else:
                values = (f"dropped by {order.by}", now_ms, order.notice)
                db.execute("UPDATE outbox SET state = 'dropped', reason = ?, done_ms = ? WHERE id = ?", values)
            transaction.apply_orders(db, [order], now_ms)
        return Answer(True, f"{order.notice} is tried again" if again else f"{order.notice} will not be sent")

    def facts(self, now_ms: int) -> OutboxFacts:
        """How the outbox and the database stand."""
        ((n_pending, oldest_ms, n_dead),) = self.database.rows(
            """SELECT count(*) FILTER (WHERE state = 'pending'), min(queued_ms) FILTER (WHERE state = 'pending'),
            count(*) FILTER (WHERE state = 'dead') FROM outbox"""
        )
        oldest = 0.0 if oldest_ms is None else max(0.0, (now_ms - oldest_ms) / 1000)
        return OutboxFacts(n_pending, n_dead, oldest, self.database.n_bytes)

    def keep(self, references: Iterable[Reference], now_ms: int) -> None:
        """Remember references for as long as there are windows on their cells, so that those stay readable."""
        known = dict(self.database.rows("SELECT bins, rows <> x'' FROM kept_references"))
        with self.database.transaction() as db:
            for reference in references:
                bins, rows = reference.bins, b"" if reference.rows is None else reference.rows.to_bytes()
                if bins.id not in known:
                    cells, profile = zlib.compress(bins.to_json(), 1), reference.profile.to_bytes()
                    row = (bins.id, reference.id, cells, profile, now_ms, rows)
                    db.execute("INSERT OR REPLACE INTO kept_references VALUES (?, ?, ?, ?, ?, ?)", row)
                elif rows and not known[bins.id]:
                    db.execute("UPDATE kept_references SET rows = ? WHERE bins = ?", (rows, bins.id))
                db.execute("UPDATE kept_references SET kept_ms = ? WHERE bins = ?", (now_ms, bins.id))

    def jobs(self) -> dict[str, int]:
        """When each housekeeping job ran last."""
        return dict(self.database.rows("SELECT name, last_ms FROM jobs"))

    def ran(self, name: str, outcome: str, at_ms: int) -> None:
        """Remember a run of a housekeeping job."""
        with self.database.transaction() as db:
            db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)", (name, at_ms, outcome))

    def paced(self, now_ms: int, step_ms: int) -> int:
        """The time by which things grow old: the clock's, but at most a step on from when this was asked last.

        A clock that jumps ahead, over restarts too, thus makes nothing old at once.
        """
        with self.database.transaction() as db:
            asked = db.execute("SELECT at_ms FROM pace").fetchone()
            at_ms = min(now_ms, asked[0] + step_ms) if asked else now_ms
            db.execute("INSERT OR REPLACE INTO pace VALUES (1, ?)", (at_ms,))
        return at_ms

    def prune(self, before_ms: int, calm_before_ms: int | None = None) -> int:
        """Forget windows that closed, and notices that were done, before then. How many windows were forgotten.

        calm_before_ms: when a window without drift must have closed for its sample to be forgotten.
        """
        calm_ms = before_ms if calm_before_ms is None else max(before_ms, calm_before_ms)
        with self.database.transaction() as db:
            db.execute(
                """DELETE FROM samples WHERE closed_ms < ?1 AND (closed_ms < ?2 OR NOT EXISTS (SELECT 1 FROM windows
                WHERE windows.model = samples.model AND segment = ?3 AND windows.number = samples.number
                AND n_drift > 0))""",
                (calm_ms, before_ms, WHOLE),
            )
            db.execute(
                """DELETE FROM verdicts WHERE (model, segment, number) IN
                (SELECT model, segment, number FROM windows WHERE closed_ms < ?)""",
                (before_ms,),
            )
            n_windows = db.execute("DELETE FROM windows WHERE closed_ms < ?", (before_ms,)).rowcount
            db.execute(
                """DELETE FROM kept_references WHERE kept_ms < ? AND NOT EXISTS
                (SELECT 1 FROM windows WHERE windows.bins = kept_references.bins)""",
                (before_ms,),
            )
            db.execute("DELETE FROM outbox WHERE done_ms < ?", (before_ms,))
            db.execute("DELETE FROM dead_letters WHERE seen_ms < ?", (before_ms,))
        return n_windows

    def letters(self, limit: int) -> list[Letter]:
        """Dead letters that were not produced yet, oldest first."""
        statement = """SELECT n, model, topic, partition, record_offset, kind, reason, head, seen_ms FROM dead_letters
            WHERE produced = 0 ORDER BY n LIMIT ?"""
        return [Letter(*row) for row in self.database.rows(statement, (limit,))]

    def produced(self, letters: Sequence[int]) -> None:
        """Remember that these dead letters were produced."""
        with self.database.transaction() as db:
            db.executemany("UPDATE dead_letters SET produced = 1 WHERE n = ?", [(n,) for n in letters])

    def recover(self, fault: StoreDamaged) -> None:
        """Set a damaged database aside and go on from the last backup. StoreError when there is none that is sound."""
        self.database.recover(fault)

    def close(self) -> None:
        """Let go of the directory."""
        self.database.close()

    def _state(self, model: str) -> LineState | None:
        found = self.database.rows("SELECT state FROM lines WHERE model = ?", (model,))
        try:
            return msgspec.json.decode(unchecked(found[0][0]), type=LineState) if found else None
        except (ValueError, msgspec.MsgspecError) as error:
            raise StoreDamaged(f"the progress of model {model} cannot be read: {error}") from error

    def _offsets(self, model: str) -> dict[Partition, int]:
        columns = f"topic, partition, next_offset, sum = {OFFSET_SUM}"
        rows = self.database.rows(f"SELECT {columns} FROM offsets WHERE model = ?", (model,))  # noqa: S608  # the schema's own
        if not all(is_sound for *_, is_sound in rows):
            raise ValueError("the check sum of an offset does not match")
        return {Partition(topic, number): offset for topic, number, offset, _ in rows}

    def _rewound(self, model: str, state: LineState, offsets: Mapping[Partition, int]) -> Saved:
        """Give up the open windows and go back to where their rows begin; what is in closed windows is fenced off."""
        again: Extents = {}
        n_rows = 0
        for segment, body in self.database.rows("SELECT segment, body FROM open_windows WHERE model = ?", (model,)):
            extents, n_found = rows_of(body)
            again = union(again, extents)
            n_rows += n_found if segment == WHOLE else 0
        # Rows of a log that was made anew since may be beyond what was read of the new one.
        back = {at: min(extent.first, offsets[at]) for at, extent in again.items() if at in offsets}
        newest = tuple(place for place in state.newest if Partition(*place[:2]) not in back)
        fences = {Partition(*place[:2]): place[2] for place in state.fences} | {at: offsets[at] for at in back}
        state = msgspec.structs.replace(
            state,
            newest=newest,
            fences=tuple((at.topic, at.number, fence) for at, fence in sorted(fences.items())),
            counts=msgspec.structs.replace(state.counts, rows=state.counts.rows - n_rows),
        )
        with self.database.transaction() as db:
            db.execute("DELETE FROM open_windows WHERE model = ?", (model,))
            db.execute("DELETE FROM open_samples WHERE model = ?", (model,))
            db.execute("DELETE FROM memories WHERE model = ?", (model,))
            db.execute("DELETE FROM waiting WHERE model = ?", (model,))
            db.execute("INSERT OR REPLACE INTO lines VALUES (?, ?)", (model, checked(msgspec.json.encode(state))))
            transaction.apply_offsets(db, model, back)
        why = "model %s has another reference, window or segments than before: %d rows of open windows are read again"
        log.warning(why, model, n_rows, extra={"event": "windows.rewound", "model": model, "n_rows": n_rows})
        return Saved(state, {**offsets, **back})


def backup(directory: Path, to: Path | None = None) -> Path:
    """Copy the state of a directory while it is in use, and check the copy. StoreError when that cannot be."""
    return copy_of(directory, DESIGN, to)


def _settled(fate: Fate, now_ms: int) -> tuple[str, str, str, int]:
    """State, receipt, reason and time of the next attempt."""
    if isinstance(fate, Delivered):
        return "sent", fate.receipt, "", now_ms
    if isinstance(fate, Pending):
        return "pending", "", fate.reason, int(fate.next_attempt_at * 1000)
    assert isinstance(fate, Dead)  # noqa: S101  # for the type checker: a Fate has three forms
    return "dead", "", f"{fate.reason}: {fate.detail}" if fate.detail else fate.reason, now_ms
