"""The judge: what driftd should have said of a log, worked out offline from the ledger, against what it did say.

Which rows belong to which window, which come late and which window is complete is worked out here in pandas, by the
rules of the documentation and not by the engine's code. The content of a window is counted through `Bins.cells` and
`Profile.of`, its verdicts and what follows from them come from the pure decision on that content.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from detectors import Profile
from detectors.cells import INVALID, MISSING, UNSEEN, Cells, Floats
from faults import labels as labelling
from faults.ledger import LATENESS_MS, NOTHING, WINDOW_MS, Ledger, Record
from monitor.batch import Partition
from monitor.board import Board
from monitor.check import Judge, Judged, Reference
from monitor.config import Config
from monitor.database import DATABASE
from monitor.desk import Desk
from monitor.frozen import freeze, thaw, unchecked
from monitor.line import LineState
from monitor.loss import LOSS
from monitor.message import Subject
from monitor.rowsample import RowSample, lots
from monitor.tally import Extent, Tally
from monitor.window import WHOLE, Window

INSPECTED_EVERY = 64
Key = tuple[str, int]
"""Segment and start of a window."""


@dataclass
class Story:
    """All that was said of a log, without the times at which it was said.

    contents: every closed window as bytes; in how many revisions late rows came is a matter of when they were read.
    samples: of every closed window, by its start.
    counts: rows, late, dropped, lost, anew, and rejected by kind. labelled: what became of labels that came later.
    letters: topic, partition, offset and kind of dead letters.
    """

    contents: list[tuple[Key, bytes]]
    samples: list[tuple[int, bytes]]
    n_rows: dict[Key, int]
    verdicts: dict[Key, list[Any]]
    changes: list[Any]
    triggers: list[Any]
    notices: dict[str, Any]
    counts: dict[str, Any]
    labelled: dict[str, int]
    letters: list[tuple[str, int, int, str]]


@dataclass
class Ruling:
    """The difference. repeated: messages that a receiver got once more than it should; wrong: all else, in words."""

    n_windows: int = 0
    n_records: int = 0
    n_notices: int = 0
    lost: int = 0
    invented: int = 0
    duplicated: int = 0
    repeated: int = 0
    wrong: list[str] = field(default_factory=list)


# ---- what should have been said


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The call to the job was given up, for this reason, when so many records had been produced and read."""

    reason: str
    n_records: int


def expected(
    ledger: Ledger, labels: Ledger | None, config: Config, reference: Reference, given_up: GivenUp | None = None
) -> Story:
    """The story of the records in the ledgers of predictions and of labels, once all of them were read."""
    model = config.model[0]
    places = ledger.in_order()
    losses = labelling.losses(places, labels.in_order()) if labels else labelling.Losses.none()
    rows = _frame([(record, offset) for record, offset in places if not record.kind], config.state.retention)
    kept = rows[~rows.dropped]
    watermark = _watermark(record for record, _ in places)
    closed = kept[kept.end_ms <= watermark]
    judge = Judge.of(reference, config, model)
    subject = Subject(model.name, model.version, reference.bins.n_columns, reference.id, config.hash)
    desk = Desk(config, model, subject, Board(config.alert.burst), {})
    next_index: Counter[str] = Counter()
    memories: dict[str, bytes] = {}
    final: dict[Key, Judged] = {}
    samples: list[tuple[int, bytes]] = []
    for end_ms, span in closed.groupby("end_ms"):
        if given_up and end_ms > _watermark(record for record, _ in ledger.placed[: given_up.n_records]):
            assert desk.state.retraining.latest is not None
            desk.call_ended(desk.state.retraining.latest.id, given_up.reason, 0)
            given_up = None
        group = []
        known = losses.rows[losses.rows.end_ms == end_ms]
        for segment, part, told in _segments(span, known, reference):
            key = (segment, int(end_ms) - WINDOW_MS)
            timely, late = part[~part.late], _tally(part[part.late], ledger.topic, reference, segment)
            window = Window.fresh(reference.bins, segment, key[1], int(end_ms))
            verdicts: Sequence[Any] = ()
            if len(timely) or len(told):
                index, next_index[segment] = next_index[segment], next_index[segment] + 1
                tally = _tally(timely, ledger.topic, reference, segment)
                tally += _told(told, labels.topic if labels else "", reference)
                window = window.with_rows(tally).closed(index)
                if segment == WHOLE:
                    samples.append((key[1], _sample(timely, ledger.topic, reference, config.state.sample_rows)))
                final[key], memories[segment] = judge.judge(window, memories.get(segment, b""))
                group.append(final[key])
                verdicts = final[key].verdicts
            else:
                window = window.closed(-key[1])
            if late.n_rows:
                final[key] = judge.rejudge(window.amended(late), verdicts)
        if group:
            desk.close(group, 0)
    out = desk.out
    rejects = [
        (each.topic, record, at) for each in (ledger, labels) if each for record, at in each.placed if record.kind
    ]
    return Story(
        contents=sorted((key, _plain(judged.window)) for key, judged in final.items()),
        samples=sorted(samples),
        n_rows={key: judged.window.n_rows for key, judged in final.items()},
        verdicts={key: [_plainly(verdict) for verdict in judged.verdicts] for key, judged in final.items()},
        changes=sorted([c.episode.id, c.episode.n_changes, _plainly(c)] for c in out.changes),
        triggers=sorted([t.id, t.step, _plainly(t)] for t in {t.id: t for t in out.triggers}.values()),
        notices={n.id: [n.channel, n.purpose, _plainly(n.body)] for n in out.notices},
        counts={
            "rows": len(rows), "late": int(closed.late.sum()), "dropped": int(rows.dropped.sum()),
            "lost": ledger.n_lost, "rejected": dict(Counter(record.kind for _, record, _ in rejects)),
            "anew": ledger.n_anew,
        },
        labelled=losses.counts,
        letters=sorted((topic, record.partition, at, record.kind) for topic, record, at in rejects),
    )  # fmt: skip


def _watermark(records: Iterable[Record]) -> int:
    """Event time up to which windows are complete, once these were read."""
    latest: dict[int, int] = {}
    for record in records:
        if not record.kind:
            latest[record.partition] = max(record.time_ms, latest.get(record.partition, 0))
    return min(latest.values()) - LATENESS_MS


def _frame(places: Sequence[tuple[Record, int]], retention_ms: int) -> pd.DataFrame:
    rows = pd.DataFrame(
        [(r.partition, at, r.time_ms, r.x, r.y, r.plan, r.surprise) for r, at in places],
        columns=["partition", "offset", "time_ms", "x", "y", "plan", "surprise"],
    )
    rows["loss"] = None  # it comes with the label, if at all
    rows["end_ms"] = rows.time_ms // WINDOW_MS * WINDOW_MS + WINDOW_MS
    behind_ms = rows.groupby("partition").time_ms.cummax() - LATENESS_MS - rows.end_ms
    rows["late"], rows["dropped"] = behind_ms >= 0, behind_ms >= retention_ms
    return rows


def _segments(
    span: pd.DataFrame, losses: pd.DataFrame, reference: Reference
) -> Iterable[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """All rows and losses, then those of every word that the reference knows, the most frequent first; only what has
    any."""
    yield WHOLE, span, losses
    (plan,) = reference.bins.categorical
    for word in plan.vocabulary:
        part, told = span[span.plan == word], losses[losses.plan == word]
        if len(part) or len(told):
            yield f"plan={word}", part, told


def _sample(rows: pd.DataFrame, topic: str, reference: Reference, limit: int) -> bytes:
    """The rows of the lowest lots, found by sorting all of them."""
    lot = np.array(
        [
            lots(Partition(topic, int(at)), np.array([offset]))[0]
            for at, offset in zip(rows.partition, rows.offset, strict=True)
        ]
    )
    # Of a topic that was made anew there may be two rows at one offset.
    order = np.lexsort((rows.time_ms, rows.offset, rows.partition, lot))[:limit]
    kept = rows.iloc[order]
    partitions = tuple(Partition(topic, number) for number in sorted(set(kept.partition)))
    place = np.searchsorted([at.number for at in partitions], kept.partition).astype(np.int32)
    numbers, cells = _values(kept, reference)
    sample = RowSample(
        reference.bins, limit, lot[order], partitions, place, kept.offset.to_numpy(np.int64),
        kept.time_ms.to_numpy(np.int64), numbers, cells,
    )  # fmt: skip
    return sample.to_bytes()


def _values(rows: pd.DataFrame, reference: Reference) -> tuple[Floats, Cells]:
    bins = reference.bins
    numbers = np.full((bins.n_numeric, len(rows)), np.nan)
    invalid = np.zeros(numbers.shape, np.bool_)
    for i, column in enumerate(bins.numeric):
        for j, value in enumerate(rows[column.name]):
            if isinstance(value, int | float):
                numbers[i, j] = value
            elif value is not None and value != NOTHING:
                invalid[i, j] = True
    words = np.array([[_code(column.codes(), value) for value in rows[column.name]] for column in bins.categorical])
    return numbers, bins.cells(numbers, words.astype(np.uint8).reshape(len(bins.categorical), len(rows)), invalid)


def _told(losses: pd.DataFrame, topic: str, reference: Reference) -> Tally:
    """Losses counted: in their own column, and nowhere else."""
    bins, profile = reference.bins, Profile.empty(reference.bins)
    if len(losses):
        row, numbers = bins.names.index(LOSS), np.full((bins.n_numeric, len(losses)), np.nan)
        numbers[row] = losses.loss
        words = np.zeros((len(bins.categorical), len(losses)), np.uint8)
        counted = Profile.of(bins, numbers, bins.cells(numbers, words))
        profile.counts[row], profile.sums[row] = counted.counts[row], counted.sums[row]
    return Tally(profile, _extents(losses, topic))


def _extents(rows: pd.DataFrame, topic: str) -> dict[Partition, Extent]:
    return {
        Partition(topic, int(number)): Extent(int(part.offset.min()), int(part.offset.max()))
        for number, part in rows.groupby("partition")
    }


def _tally(rows: pd.DataFrame, topic: str, reference: Reference, segment: str) -> Tally:
    bins = reference.bins
    numbers, cells = _values(rows, reference)
    extents = _extents(rows, topic)
    inspected = rows[rows.offset % INSPECTED_EVERY == 0]
    if segment != WHOLE:
        return Tally(Profile.of(bins, numbers, cells), extents)
    n_surprises = int(inspected.surprise.sum())
    unknown = {"surprise": n_surprises} if n_surprises else {}
    return Tally(Profile.of(bins, numbers, cells), extents, unknown, len(inspected))


def _code(codes: dict[str, int], value: Any) -> int:
    if value is None or value == NOTHING:
        return MISSING
    return codes.get(value, UNSEEN) if isinstance(value, str) else INVALID


# ---- what was said


def found(directory: Path, reference: Reference) -> Story:
    """The story in a state directory."""
    db = sqlite3.connect(f"{(directory / DATABASE).as_uri()}?mode=ro", uri=True)
    try:
        return _found(db, reference)
    finally:
        db.close()


def _found(db: sqlite3.Connection, reference: Reference) -> Story:
    windows = [thaw(body, reference.bins) for (body,) in db.execute("SELECT body FROM windows")]
    numbers = {(window.segment, window.index): (window.segment, window.start_ms) for window in windows}
    verdicts: dict[Key, list[Any]] = {(window.segment, window.start_ms): [] for window in windows}
    for segment, number, body in db.execute("SELECT segment, number, body FROM verdicts ORDER BY position"):
        verdicts[numbers[segment, number]].append(_stripped(json.loads(body)))
    (state,) = (
        msgspec.json.decode(unchecked(body), type=LineState) for (body,) in db.execute("SELECT state FROM lines")
    )
    changes = db.execute("SELECT incident, n, body FROM changes ORDER BY incident, n")
    return Story(
        contents=sorted(((window.segment, window.start_ms), _plain(window)) for window in windows),
        samples=sorted(
            (numbers[WHOLE, number][1], unchecked(body))
            for number, body in db.execute("SELECT number, body FROM samples")
        ),
        n_rows={(window.segment, window.start_ms): window.n_rows for window in windows},
        verdicts=verdicts,
        changes=[[incident, n, _stripped(json.loads(body))] for incident, n, body in changes],
        triggers=[
            [identity, step, _stripped(json.loads(body))]
            for identity, step, body in db.execute("SELECT id, step, body FROM triggers ORDER BY id")
        ],
        notices={
            identity: [channel, purpose, _stripped(json.loads(body))]
            for identity, channel, purpose, body in db.execute("SELECT id, channel, purpose, body FROM outbox")
        },
        counts=msgspec.to_builtins(state.counts),
        labelled=msgspec.to_builtins(state.labelled),
        letters=sorted(db.execute("SELECT topic, partition, record_offset, kind FROM dead_letters").fetchall()),
    )


def _plain(window: Window) -> bytes:
    return freeze(replace(window, revision=0))


def _plainly(value: msgspec.Struct) -> Any:
    return _stripped(json.loads(msgspec.json.encode(value)))


def _stripped(value: Any) -> Any:
    """JSON without the times at which something was done; a trigger's own is one of event time, and stays."""
    if isinstance(value, dict):
        return {key: _stripped(inner) for key, inner in value.items() if key != "at_ms" or value.get("body")}
    return [_stripped(inner) for inner in value] if isinstance(value, list) else value


# ---- the difference


def judge(wanted: Story, said: Story) -> Ruling:
    """Compare window by window, then everything else."""
    ruling = Ruling(n_windows=len(wanted.contents), n_notices=len(wanted.notices))
    ruling.n_records = wanted.counts["rows"] + len(wanted.letters)
    times = Counter(key for key, _ in said.contents)
    ruling.lost = sum(said.n_rows.get(key, -1) < n for key, n in wanted.n_rows.items())
    ruling.invented = sum(key not in wanted.n_rows for key in times)
    ruling.duplicated = sum(n > 1 for n in times.values())
    ruling.duplicated += sum(said.n_rows[key] > n for key, n in wanted.n_rows.items() if key in said.n_rows)
    for name in ("contents", "samples", "verdicts", "changes", "triggers", "notices", "counts", "labelled", "letters"):
        one, other = getattr(wanted, name), getattr(said, name)
        if one != other:
            ruling.wrong.append(f"{name}: {_first_difference(one, other)}")
    return ruling


def _first_difference(one: Any, other: Any) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys((*one, *other)):
            if one.get(key) != other.get(key):
                return f"{key}: {_first_difference(one.get(key), other.get(key))}"
    if isinstance(one, list) and isinstance(other, list):
        for i, (mine, theirs) in enumerate(zip(one, other, strict=False)):
            if mine != theirs:
                return f"[{i}] {_first_difference(mine, theirs)}"
        return f"{len(one)} wanted, {len(other)} found: {(one[len(other) :] or other[len(one) :])[:1]!r}"[:600]
    return f"wanted {one!r}, found {other!r}"[:600]
