"""The oracle: every record that was produced, what it said, and where Kafka put it.

The world is deterministic: a seed gives one log. Its columns drift for a while and come back, so that an incident
opens, changes and is resolved; some rows are late, by a little and by much, some are faulty, and some carry a column
that the reference does not have.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from confluent_kafka import Producer

FIRST_MS = 1_704_067_200_000
STEP_MS = 400
WINDOW_MS = 60_000
LATENESS_MS = 10_000
N_PARTITIONS = 3
N_RECORDS = 3_000
DRIFT = (0.35, 0.65)
"""Where in the log x drifts; y joins it in the second half of that stretch."""
PLANS = ("free", "paid")
NOTHING = "nothing"
"""Stands for a key that is not in the record at all."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record. kind: "" for a row; for a record that can be none, the word that driftd has for why not. label: of a
    record in the log of labels."""

    id: int
    partition: int
    time_ms: int
    value: bytes | None
    x: Any = None
    y: Any = None
    plan: Any = None
    label: Any = None
    surprise: bool = False
    kind: str = ""


def reference() -> pd.DataFrame:
    """Rows that are normal."""
    rng = random.Random(0)
    rows = [(rng.gauss(0, 1), rng.randrange(5), rng.choice((*PLANS, "free", "free"))) for _ in range(4_000)]
    return pd.DataFrame(rows, columns=["x", "y", "plan"])


def world(seed: int, n_records: int = N_RECORDS) -> list[Record]:
    """The log of one seed, in the order in which it is produced."""
    rng = random.Random(seed)
    return [_row(i, i / n_records, rng) for i in range(n_records)]


def _row(i: int, place: float, rng: random.Random) -> Record:
    late_ms = 0
    if rng.random() < 0.05:
        late_ms = rng.randrange(3 * WINDOW_MS)
    drifts = DRIFT[0] <= place < DRIFT[1]
    more = sum(DRIFT) / 2 <= place < DRIFT[1]
    x: Any = rng.gauss(1.5 if drifts else 0.0, 1.0)
    y: Any = 4 if more and rng.random() < 0.5 else rng.randrange(5)
    plan: Any = rng.choice((*PLANS, "free", "free"))
    if rng.random() < 0.02:
        x = rng.choice((None, NOTHING, 1e308, -7.5))
    if rng.random() < 0.01:
        plan = rng.choice((None, NOTHING, "trial"))
    return row(i, i % N_PARTITIONS, FIRST_MS + i * STEP_MS - late_ms, x=x, y=y, plan=plan, surprise=i % 97 == 0)


def row(identity: int, partition: int, time_ms: int, **values: Any) -> Record:
    """A record that is a row. values: as in `Record`; columns may hold anything that JSON can say."""
    surprise = bool(values.pop("surprise", False))
    said = {"id": identity, "ts": time_ms, **{name: value for name, value in values.items() if value != NOTHING}}
    if surprise:
        said["surprise"] = 1
    return Record(identity, partition, time_ms, json.dumps(said).encode(), surprise=surprise, **values)


def poison(identity: int, partition: int, value: bytes | None, kind: str) -> Record:
    """A record that is no row."""
    return Record(identity, partition, 0, value, kind=kind)


@dataclass
class Ledger:
    """What Kafka took. placed: record and offset, for every record whose arrival the broker confirmed, in its
    partition's order. n_lost: records that Kafka deleted before driftd had read them; they are not in `placed`. n_anew:
    how often the topic was made anew."""

    topic: str
    placed: list[tuple[Record, int]] = field(default_factory=list)
    n_lost: int = 0
    n_anew: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def produce(self, producer: Producer, records: Iterable[Record]) -> int:
        """Send records and wait until the broker has confirmed each; how many there were."""
        failed: list[Any] = []
        n_sent = 0

        def taken(record: Record) -> Any:
            def done(fault: Any, message: Any) -> None:
                if fault is not None:
                    failed.append(fault)
                    return
                with self._lock:
                    self.placed.append((record, self._offset(record, message.offset())))

            return done

        for record in records:
            producer.produce(self.topic, record.value, partition=record.partition, on_delivery=taken(record))
            n_sent += 1
            producer.poll(0)
        assert producer.flush(240) == 0, "the broker did not confirm everything"
        assert not failed, failed[:3]
        return n_sent

    def _offset(self, record: Record, said: int | None) -> int:
        """A broker that has the record already, from a try that seemed to fail, confirms it without its offset."""
        return self.ends().get(record.partition, 0) if said is None else said

    def ends(self) -> dict[int, int]:
        """By partition, the offset after its last record."""
        return {record.partition: offset + 1 for record, offset in self.placed}

    def in_order(self) -> Sequence[tuple[Record, int]]:
        """By partition, each in the order in which it was produced."""
        return sorted(self.placed, key=lambda entry: entry[0].partition)

    def values(self) -> dict[tuple[str, int, int], bytes]:
        """What was written, by topic, partition and offset."""
        return {(self.topic, record.partition, offset): record.value or b"" for record, offset in self.placed}

    def lose(self, partition: int, offsets: range) -> None:
        """Kafka deleted these records of a partition before driftd had read them."""
        kept = [(r, offset) for r, offset in self.placed if r.partition != partition or offset not in offsets]
        self.n_lost += len(self.placed) - len(kept)
        self.placed = kept
