"""Labels that come later: the log that they have of their own, and the losses that follow from both logs.

Which label belongs to which prediction, and whether both came in time, is worked out here from the rules of
docs/retraining.md with dictionaries, record by record, and not by the service's code.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from faults.ledger import FIRST_MS, LATENESS_MS, N_PARTITIONS, STEP_MS, WINDOW_MS, Record
from faults.ledger import reference as unlabelled

LAG_MS = 150_000
RISEN = (0.4, 0.7)
"""Where in the log the labels lie further from x than ever."""
Placed = Sequence[tuple[Record, int]]


def reference() -> pd.DataFrame:
    """Rows that are normal, with the loss that their labels make."""
    rng, frame = random.Random(1), unlabelled()
    return frame.assign(loss=[abs(rng.gauss(0, 0.2)) for _ in range(len(frame))])


@dataclass(frozen=True, slots=True)
class Later:
    """A record of the log of labels. place_ms: the event time of predictions beside which it is produced."""

    place_ms: int
    record: Record


def repeated(records: Sequence[Record], seed: int) -> list[Record]:
    """The log of predictions, some of them sent twice."""
    rng, found = random.Random(seed + 2), list[Record]()
    for i, record in enumerate(records):
        found.append(record)
        if rng.random() < 0.02:
            found.append(records[max(0, i - 3 * rng.randrange(20))])
    return found


def world(records: Sequence[Record], seed: int) -> list[Later]:
    """The log of labels for these predictions, in the order in which it is produced.

    Most come later by up to more than the lag, some before their prediction, some twice, some for nobody, some out of
    order, some much too late; some are none.
    """
    rng, found = random.Random(seed + 3), list[Later]()
    for i, record in enumerate(records):
        place, time_ms = i / len(records), FIRST_MS + i * STEP_MS
        if rng.random() < 0.15:
            continue
        wait_ms = rng.choice(
            (0, 500, 5_000, 20_000, rng.randrange(60_000), rng.randrange(190_000), rng.randrange(500_000))
        )
        if rng.random() < 0.06:
            wait_ms = -rng.randrange(30_000)
        x = record.x if isinstance(record.x, float) and abs(record.x) < 100 else 0.0
        truth = x + rng.gauss(0, 0.2 + 0.8 * (RISEN[0] <= place < RISEN[1]))
        found.append(_label(record.id, time_ms + wait_ms, truth, rng))
        if rng.random() < 0.06:
            found.append(_label(record.id, time_ms + wait_ms + rng.randrange(60_000), truth + 1.0, rng))
        if rng.random() < 0.02:
            found.append(_label(2_000_000 + record.id, time_ms, truth, rng))
        if rng.random() < 0.02:
            found.append(_none(3_000_000 + record.id, time_ms, rng))
    return _settled(sorted(found, key=lambda one: one.place_ms))


def _label(identity: int, known_ms: int, truth: float, rng: random.Random) -> Later:
    delay_ms = rng.choice((rng.randrange(LATENESS_MS), 120_000)) if rng.random() < 0.08 else 0
    body = {"id": identity, "known_at": known_ms, "label": truth}
    record = Record(identity, identity % N_PARTITIONS, known_ms, json.dumps(body).encode(), label=truth)
    return Later(known_ms + delay_ms, record)


def _none(identity: int, known_ms: int, rng: random.Random) -> Later:
    kind, value = rng.choice(
        (
            ("not_json", b"{broken"),
            ("no_id", json.dumps({"known_at": known_ms, "label": 1.0}).encode()),
            ("no_label", json.dumps({"known_at": known_ms, "id": identity}).encode()),
        )
    )
    return Later(known_ms, Record(identity, identity % N_PARTITIONS, known_ms, value, kind=kind))


def _settled(found: Sequence[Later]) -> list[Later]:
    """Without those that the predictions' clock leaves behind and their own partition's does not: whether such a label
    finds its window open is a matter of when it is read."""
    newest, kept = Counter[int](), list[Later]()
    for one in found:
        record = one.record
        newest[record.partition] = max(newest[record.partition], 0 if record.kind else record.time_ms)
        left_behind = one.place_ms - LATENESS_MS >= _end(record.time_ms)
        if record.kind or not left_behind or newest[record.partition] - LATENESS_MS >= _end(record.time_ms):
            kept.append(one)
    return kept


def twice(found: Sequence[Later], apart_ms: int) -> list[Later]:
    """Every label once more, so much later and with another value."""
    again = []
    for one in found:
        record, known_ms = one.record, one.record.time_ms + apart_ms
        if not record.kind:
            body = {"id": record.id, "known_at": known_ms, "label": record.label + 1.0}
            fresh = replace(record, time_ms=known_ms, value=json.dumps(body).encode(), label=record.label + 1.0)
            again.append(Later(one.place_ms + apart_ms, fresh))
    return _settled(sorted((*found, *again), key=lambda one: one.place_ms))


@dataclass(frozen=True)
class Losses:
    """What the two logs come to.

    rows: one for each loss: end_ms, plan of the prediction, partition and offset of the label, loss. counts: as the
    service keeps them, since the first record.
    """

    rows: pd.DataFrame
    counts: dict[str, int]

    @classmethod
    def of(cls, rows: Sequence[tuple[Any, ...]], counts: dict[str, int]) -> Losses:
        return cls(pd.DataFrame(rows, columns=["end_ms", "plan", "partition", "offset", "loss"]), counts)

    @classmethod
    def none(cls) -> Losses:
        """Where no labels come later."""
        return cls.of([], _no_counts())


def _no_counts() -> dict[str, int]:
    return dict.fromkeys(("predictions", "labels", "joined", "repeated", "late", "forgotten"), 0)


def losses(predictions: Placed, labels: Placed) -> Losses:
    """By the rules: once for each id, within the lag, in the window of the label, if both came in time for it."""
    counts = _no_counts()
    waiting = _predictions(predictions, counts)
    rows: list[tuple[Any, ...]] = []
    seen: set[int] = set()
    newest = Counter[int]()
    for record, offset in labels:
        if record.kind:
            continue
        newest[record.partition] = max(newest[record.partition], record.time_ms)
        end_ms = _end(record.time_ms)
        if newest[record.partition] - LATENESS_MS >= end_ms:
            counts["late"] += 1
            continue
        if record.id in seen:
            counts["repeated"] += 1
            continue
        seen.add(record.id)
        counts["labels"] += 1
        if record.id not in waiting:
            continue
        prediction, known_ms = waiting[record.id]
        if not -LAG_MS - WINDOW_MS <= record.time_ms - known_ms <= LAG_MS:
            continue
        if known_ms >= end_ms:
            counts["late"] += 1
            continue
        counts["joined"] += 1
        rows.append((end_ms, prediction.plan, record.partition, offset, abs(record.label - prediction.x)))
    return Losses.of(rows, counts)


def _predictions(placed: Placed, counts: dict[str, int]) -> dict[int, tuple[Record, int]]:
    """Those that can have a label, by id, and since when each counts as known."""
    found: dict[int, tuple[Record, int]] = {}
    newest = Counter[int]()
    for record, _ in placed:
        if record.kind:
            continue
        newest[record.partition] = max(newest[record.partition], record.time_ms)
        if not isinstance(record.x, int | float) or math.isnan(record.x):
            continue
        if record.id in found:
            counts["repeated"] += 1
            continue
        counts["predictions"] += 1
        found[record.id] = (record, max(record.time_ms, newest[record.partition] - LATENESS_MS))
    return found


def _end(time_ms: int) -> int:
    return time_ms // WINDOW_MS * WINDOW_MS + WINDOW_MS
