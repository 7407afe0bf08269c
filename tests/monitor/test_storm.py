"""A hundred models that all drift at once, from their records to Slack: nothing lost, in order, at Slack's pace."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import numpy as np

from detectors import Bins, Profile
from monitor.batch import Moment, Partition, Records
from monitor.board import SPELL_MS, Board
from monitor.check import Reference
from monitor.config import Config
from monitor.demo.standins import Answer, Received, status
from monitor.demo.standins.slack import SlackStandIn
from monitor.engine import Engine
from monitor.line import Line, shape
from monitor.store import Store
from tests.monitor.delivery import deliver, is_empty, slack_of

TOKEN = "xoxb-canary-storm"
N_MODELS, BURST, PACE, HOUR = 100, 20, 0.02, 3_600_000
BEGIN = 1_700_000_000_000 // HOUR * HOUR
AT = Partition("t", 0)
HOURS = [{}, {"a": 5.0}, {"a": 5.0, "b": 5.0}, {"a": 5.0, "b": 5.0}, {}, {}, {}]
"""By how much each column is moved, hour by hour: it begins, gets worse, and is over."""


class Strict(SlackStandIn):
    """Takes one message within the pace, and no more. posted_at: when each came."""

    def __init__(self) -> None:
        super().__init__(TOKEN)
        self.posted_at: list[float] = []

    def _apply(self, request: Received) -> Answer:
        if request.path == "/api/chat.postMessage":
            self.posted_at.append(time.monotonic())
        return super()._apply(request)


def configured() -> Config:
    models = [
        {"name": f"m{i:03d}", "topics": ("t",), "reference": "r", "window": "1h", "lateness": "1m",
         "decision": "rules", "fields": {"timestamp": "ts"}}
        for i in range(N_MODELS)
    ]  # fmt: skip
    rule = {"detector": "psi", "threshold": 1.0}
    return Config.model_validate(
        {"model": models, "rule": [rule], "channel": [{"name": "ops", "kind": "slack"}], "alert": {"burst": BURST}}
    )


def records(hour: int, first: int) -> Records:
    rng, n_rows = np.random.default_rng(hour), 60
    moved = HOURS[hour]
    values = [
        json.dumps({
            "ts": BEGIN + hour * HOUR + i * HOUR // n_rows,
            **{name: rng.normal() + moved.get(name, 0.0) for name in ("a", "b")},
        }).encode()
        for i in range(n_rows)
    ]  # fmt: skip
    offsets = np.arange(first, first + n_rows, dtype=np.int64)
    return Records(AT, offsets, np.full(n_rows, BEGIN + hour * HOUR), values, first + n_rows)


def drift(config: Config, reference: Reference, store: Store) -> None:
    """All hours, one commit after each; the process begins anew in the middle of the storm."""
    recall = partial(store.recall, {model.name: reference.bins for model in config.model})
    engine = None
    for hour in range(len(HOURS)):
        if engine is None or hour == 3:
            board = Board(BURST, store.board())
            saved = {m.name: store.load(m.name, shape(m, reference), reference.bins) for m in config.model}
            lines = [Line(config, m, reference, saved[m.name], recall, board) for m in config.model]
            engine = Engine(lines, board)
        engine.step(records(hour, 60 * hour), BEGIN + (hour + 1) * HOUR)
        for now_ms in (BEGIN + (hour + 1) * HOUR, BEGIN + (hour + 1) * HOUR + SPELL_MS):
            commit = engine.tick(Moment(now_ms, frozenset({AT})))
            if commit is not None:
                store.apply(commit)


def test_a_hundred_models_that_drift_at_once(tmp_path: Path):
    rng = np.random.default_rng(0)
    bins = Bins.of({"a": rng.normal(size=2_000), "b": rng.normal(size=2_000)}, {})
    numbers = rng.normal(size=(2, 2_000))
    reference = Reference("r", bins, Profile.of(bins, numbers, bins.cells(numbers, np.empty((0, 2_000), np.uint8))))
    config, store = configured(), Store(tmp_path / "state")
    drift(config, reference, store)
    incidents = [identity for (identity,) in store.database.rows("SELECT id FROM incidents ORDER BY id")]
    assert len(incidents) == N_MODELS
    with Strict() as slack:
        slack.order(status(429, 0.1), status(429, 0.05), status(503))
        deliver(store, {"ops": slack_of(slack.api_url, TOKEN, pace=PACE)}, lambda: is_empty(store))
    assert store.database.rows("SELECT state, count(*) FROM outbox GROUP BY state") == [
        ("sent", len(store.database.rows("SELECT 1 FROM outbox")))
    ]
    store.close()

    gaps = np.diff(slack.posted_at)
    assert gaps.min() > PACE * 0.9
    own = {m.metadata["event_payload"]["incident"]: m for m in slack.messages.values()}
    told = set(own) & set(incidents)
    assert len(told) == BURST
    for incident in told:
        said = [reply.text for reply in own[incident].replies]
        assert [("more column" in text, "resolved" in text.lower()) for text in said] == [(True, False), (False, True)]
        assert len(own[incident].edits) == 2
    (overflow,) = [message for incident, message in own.items() if incident not in told]
    assert f"{N_MODELS - BURST} more incidents" in overflow.text
