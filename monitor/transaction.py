"""What one Commit writes: each part of it, inside the transaction that the store has begun."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from monitor.batch import Partition
from monitor.check import Judged
from monitor.decision import Outcome
from monitor.frozen import checked, freeze
from monitor.glance import Glance, encode
from monitor.line import ModelCommit
from monitor.message import Notice
from monitor.order import Order
from monitor.window import WHOLE

N_DEAD_LETTERS: Final = 10_000
"""Dead letters kept per model, the newest."""


def apply_progress(db: sqlite3.Connection, part: ModelCommit) -> None:
    """What a model has read, and its windows that are open."""
    model = part.model
    db.execute("INSERT OR REPLACE INTO lines VALUES (?, ?)", (model, checked(msgspec.json.encode(part.state))))
    apply_offsets(db, model, part.offsets)
    db.executemany(
        "DELETE FROM open_windows WHERE model = ? AND segment = ? AND start_ms = ?",
        [(model, *key) for key in part.gone],
    )
    db.executemany(
        "INSERT OR REPLACE INTO open_windows VALUES (?, ?, ?, ?, ?)",
        [(model, *key, window.n_rows, freeze(window)) for key, window in part.open.items()],
    )
    db.executemany(
        "DELETE FROM open_samples WHERE model = ? AND start_ms = ?",
        [(model, start_ms) for segment, start_ms in part.gone if segment == WHOLE],
    )
    db.executemany(
        "INSERT INTO open_samples (model, start_ms, body) VALUES (?, ?, ?)",
        [(model, start_ms, checked(sample.to_bytes())) for start_ms, sample in part.samples.items()],
    )
    db.executemany(
        "INSERT OR REPLACE INTO memories VALUES (?, ?, ?)",
        [(model, segment, checked(body)) for segment, body in part.memories.items()],
    )


def apply_waiting(db: sqlite3.Connection, part: ModelCommit) -> None:
    """Predictions and labels that wait for each other."""
    gone = [(part.model, *key) for key in part.no_longer]
    db.executemany("DELETE FROM waiting WHERE model = ? AND side = ? AND number = ?", gone)
    fresh = [(part.model, *key, run.to_bytes()) for key, run in part.waiting.items()]
    db.executemany("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?)", fresh)


def apply_offsets(db: sqlite3.Connection, model: str, offsets: Mapping[Partition, int]) -> None:
    """Where reading goes on."""
    db.executemany(
        "INSERT OR REPLACE INTO offsets VALUES (?1, ?2, ?3, ?4, crc(?1, ?2, ?3, ?4))",
        [(model, at.topic, at.number, offset) for at, offset in offsets.items()],
    )


def apply_window(db: sqlite3.Connection, model: str, judged: Judged, now_ms: int) -> None:
    """A window that closed or was amended, its sample, and what is said of its columns.

    It grows old from now on, by the clock or by the pace of retention, whichever is later: while a clock is behind,
    windows would be old as soon as it is right again.
    """
    window, outcomes = judged.window, [verdict.outcome for verdict in judged.verdicts]
    (closed_ms,) = db.execute("SELECT max(?, coalesce(max(at_ms), 0)) FROM pace", (now_ms,)).fetchone()
    db.execute(
        "INSERT OR REPLACE INTO windows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            model, window.segment, window.index, window.start_ms, window.end_ms, window.n_rows, window.n_late,
            window.revision, closed_ms, *(outcomes.count(outcome) for outcome in Outcome), window.tally.profile.bins.id,
            encode(Glance.of(judged)), freeze(window),
        ),
    )  # fmt: skip
    if window.sample is not None:
        row = (model, window.index, closed_ms, checked(window.sample.to_bytes()))
        db.execute("INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?)", row)
    key = (model, window.segment, window.index)
    db.execute("DELETE FROM verdicts WHERE model = ? AND segment = ? AND number = ?", key)
    db.executemany(
        "INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (*key, i, verdict.column, verdict.outcome, verdict.effect, verdict.evidence, msgspec.json.encode(verdict))
            for i, verdict in enumerate(judged.verdicts)
        ],
    )


def apply_incidents(db: sqlite3.Connection, part: ModelCommit, now_ms: int) -> None:
    """What became of incidents and retraining."""
    for change in part.out.changes:
        episode, body = change.episode, msgspec.json.encode(change)
        db.execute(
            """INSERT INTO incidents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
            segment = excluded.segment, state = excluded.state, severity = excluded.severity,
            changed_ms = excluded.changed_ms, body = excluded.body""",
            (
                episode.id, part.model, change.segment, episode.state, episode.severity, episode.opened_window, now_ms,
                now_ms, body,
            ),
        )  # fmt: skip
        db.execute("INSERT OR REPLACE INTO changes VALUES (?, ?, ?, ?)", (episode.id, episode.n_changes, now_ms, body))
    db.executemany(
        "INSERT OR REPLACE INTO triggers VALUES (?, ?, ?, ?, ?, ?)",
        [(t.id, t.incident, part.model, t.step, now_ms, msgspec.json.encode(t)) for t in part.out.triggers],
    )


def queue(db: sqlite3.Connection, notices: Iterable[Notice], now_ms: int) -> None:
    """Notices to be sent; one that is there already stays as it is."""
    db.executemany(
        """INSERT OR IGNORE INTO outbox (id, incident, channel, purpose, body, queued_ms, next_attempt_ms, sum)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, crc(?1, ?2, ?3, ?4, ?5))""",
        [(n.id, n.incident, n.channel, n.purpose, msgspec.json.encode(n.body), now_ms, now_ms) for n in notices],
    )


def apply_orders(db: sqlite3.Connection, orders: Sequence[Order], now_ms: int) -> None:
    """What people asked for."""
    rows = [(now_ms, msgspec.json.encode(order)) for order in orders]
    db.executemany("INSERT INTO orders (done_ms, body) VALUES (?, ?)", rows)


def apply_dead_letters(db: sqlite3.Connection, part: ModelCommit, now_ms: int) -> int:
    """Records that became no row. How many older ones were forgotten for them."""
    if not part.rejects:
        return 0
    db.executemany(
        """INSERT INTO dead_letters (model, topic, partition, record_offset, kind, reason, head, seen_ms)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET kind = excluded.kind, reason = excluded.reason,
        head = excluded.head, seen_ms = excluded.seen_ms, produced = 0
        WHERE seen_ms < excluded.seen_ms AND (kind <> excluded.kind OR head <> excluded.head)""",  # of a log made anew
        [
            (part.model, *reject.partition, reject.offset, reject.kind, reject.reason, reject.head, now_ms)
            for reject in part.rejects[-N_DEAD_LETTERS:]
        ],
    )
    pushed_out = db.execute(
        """DELETE FROM dead_letters WHERE model = ?1 AND n <=
        (SELECT n FROM dead_letters WHERE model = ?1 ORDER BY n DESC LIMIT 1 OFFSET ?2)""",
        (part.model, N_DEAD_LETTERS),
    )
    return pushed_out.rowcount + max(0, len(part.rejects) - N_DEAD_LETTERS)
