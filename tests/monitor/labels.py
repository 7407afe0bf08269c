"""Predictions and the labels that come later: their logs, and an engine that reads both."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from detectors import Bins, Profile
from detectors.cells import FIRST
from monitor.batch import Moment, Partition, Records
from monitor.check import Judged, Reference
from monitor.config import Config
from monitor.decision import Verdict
from monitor.engine import Engine
from monitor.frozen import freeze
from monitor.line import Line
from monitor.loss import LOSS
from tests.monitor.database import Database

PREDICTIONS = [Partition("t", number) for number in range(2)]
LABELS = [Partition("outcomes", number) for number in range(2)]
ALL = Moment(0, frozenset(PREDICTIONS + LABELS))
BEGIN, MINUTE, LAG = 1_700_000_040_000, 60_000, 150_000
NEVER = 2_000_000_000_000
Row = tuple[int, dict[str, Any]]
"""When a record was logged, and what is in it."""
Log = dict[Partition, list[Row]]


def config(**changes: Any) -> Config:
    model = {
        "name": "m", "topics": ("t",), "reference": "r", "window": "1m", "lateness": "10s", "segments": ("plan",),
        "fields": {"id": "id", "timestamp": "ts", "score": "score", "label": "label"},
        "labels": {"topic": "outcomes", "label": "truth.label", "lag": "150s"}, **changes,
    }  # fmt: skip
    return Config.model_validate({"model": (model,)})


def made() -> Reference:
    """A reference whose score has a loss."""
    rng = np.random.default_rng(0)
    score = rng.random(4000)
    label = rng.random(4000) < score
    bins = Bins.of(
        {"score": score, LOSS: np.abs(label - score)}, {"plan": {"free": 3000, "paid": 1000}}, {LOSS: "score"}
    )
    words = np.where(rng.random((1, 4000)) < 0.75, FIRST, FIRST + 1).astype(np.uint8)
    numbers = np.stack((score, np.abs(label - score)))
    return Reference("ref", bins, Profile.of(bins, numbers, bins.cells(numbers, words)))


def logs(n_rows: int, wrong_from: int) -> Log:
    """Predictions, and the labels of most of them up to three minutes later; some repeated, some of nobody."""
    rng = random.Random(3)
    predictions: list[Row] = []
    labels: list[Row] = []
    for i in range(n_rows):
        at_ms, score = BEGIN + i * 150, rng.random()
        late_ms = rng.randrange(90_000) if rng.random() < 0.03 else 0
        plan = "paid" if rng.random() < 0.25 else "free"
        row = {"id": f"p{i}", "ts": at_ms - late_ms, "score": score, "plan": plan}
        predictions += [(at_ms, row)] * (2 if rng.random() < 0.02 else 1)
        if rng.random() < 0.8:
            truth = (rng.random() < score) != (i >= wrong_from)
            known_ms = at_ms + rng.choice([0, 500, 20_000, rng.randrange(200_000)])
            labels += [(known_ms, {"id": f"p{i}", "truth": {"label": int(truth)}})] * (2 if rng.random() < 0.05 else 1)
        if rng.random() < 0.02:
            labels.append((at_ms, {"id": f"nobody{i}", "truth": {"label": 1}}))
    labels.sort(key=lambda row: row[0])
    # An id's records are in one partition, as its key would have it.
    return {
        at: [row for row in rows if hash_of(row[1]["id"]) % 2 == at.number]
        for rows, both in ((predictions, PREDICTIONS), (labels, LABELS))
        for at in both
    }


def hash_of(identity: str) -> int:
    return sum(identity.encode())


def records(at: Partition, rows: Sequence[Row], first: int) -> Records:
    offsets = np.arange(first, first + len(rows), dtype=np.int64)
    times = np.array([at_ms for at_ms, _ in rows], np.int64)
    return Records(at, offsets, times, [json.dumps(body).encode() for _, body in rows], first + len(rows))


class Memory(Database):
    """Also keeps each window as it first closed, which it does once."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[tuple[str, int], tuple[bytes, Sequence[Verdict]]] = {}

    def keep(self, judged: Judged) -> None:
        super().keep(judged)
        if not judged.window.revision:
            key = (judged.window.segment, judged.window.start_ms)
            assert key not in self.first
            self.first[key] = (freeze(judged.window), judged.verdicts)

    def losses(self) -> dict[tuple[str, int], np.ndarray]:
        """The loss in every window that closed, as counts by cell."""
        found = {}
        for key, (window, _) in self.windows.items():
            profile = window.tally.profile
            counts = profile.counts[profile.bins.names.index(LOSS)].copy()
            counts[0] = 0
            if counts.any():
                found[key] = counts
        return found


def run(settings: Config, reference: Reference, found: Log, seed: int, crashes: bool, order: str = "any") -> Memory:
    """Read all logs to their ends in pieces of random size; `order` says which topic is read first, where one can."""
    rng, memory, everything = random.Random(seed), Memory(), Moment(0, frozenset(found))

    def start() -> tuple[Engine, dict[Partition, int]]:
        engine = Engine([Line(settings, settings.model[0], reference, memory.saved, memory.recall)])
        return engine, {at: engine.positions().get(at, 0) for at in found}

    engine, read = start()
    while left := [at for at, rows in found.items() if read[at] < len(rows)]:
        first = [at for at in left if at.topic == order]
        at = rng.choice(first or left)
        piece = found[at][read[at] : read[at] + rng.randrange(1, 400)]
        engine.step(records(at, piece, read[at]), NEVER)
        read[at] += len(piece)
        if engine.ready(everything) or rng.random() < 0.2:
            commit = engine.tick(everything)
            if not (crashes and rng.random() < 0.3):
                memory.apply(commit)
            else:
                engine, read = start()
        elif crashes and rng.random() < 0.1:
            engine, read = start()
    memory.apply(engine.tick(everything))
    return memory


def mixed(found: Log) -> Log:
    """Predictions and labels in one topic, each partition in the order of its log."""
    pairs = zip(PREDICTIONS, LABELS, strict=True)
    return {one: sorted((*found[one], *found[other]), key=lambda row: row[0]) for one, other in pairs}
