"""A model that has become too old, from a sealed reference to the call: the same whoever reads the log, and once."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from monitor.batch import Batch, Moment, Partition
from monitor.check import Reference
from monitor.config import Config
from monitor.line import Line, LineState, Saved
from monitor.message import RetrainBody
from monitor.reference import kinds_of, seal, slicing
from monitor.replay import Log, replay

HOUR_MS = 3_600_000
BEGIN_MS = 1_700_002_800_000
"""A full hour, and the end of the reference's rows."""
N_HOURS, N_ROWS, MAX_AGE = 30, 200, 20

CONFIG = {
    "model": [
        {
            "name": "m", "reference": "r", "window": "1h", "lateness": "0m", "decision": "rules",
            "fields": {"timestamp": "ts"}, "columns": {"id": {"kind": "ignore"}},
        }
    ],
    "rule": [{"detector": "psi", "threshold": 9.0}],
    "channel": [{"name": "people", "kind": "log"}, {"name": "job", "kind": "log"}],
    "route": [{"channels": ["people"]}],
    "retrain": [{"model": "m", "channel": "job", "mode": "auto", "max_age": f"{MAX_AGE}h", "cooldown": "1h"}],
}  # fmt: skip


def rows(hours: range, seed: int) -> pd.DataFrame:
    rng, n_rows = np.random.default_rng(seed), len(hours) * N_ROWS
    ts = BEGIN_MS + hours.start * HOUR_MS + np.arange(n_rows) * HOUR_MS // N_ROWS
    return pd.DataFrame({"ts": ts, "x": rng.normal(size=n_rows), "plan": rng.choice(["a", "b"], n_rows)})


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    frame, model = rows(range(-24, 0), 1), Config.model_validate(CONFIG).model[0]
    kinds = kinds_of(frame.drop(columns="ts"), {})
    return seal(frame, kinds, tmp_path_factory.mktemp("age") / "r", slicing(frame, model, 0))


def test_a_replay_calls_the_job_in_the_window_in_which_the_reference_became_too_old(
    reference: Reference, tmp_path: Path
):
    assert reference.until_ms == BEGIN_MS
    config, log = Config.model_validate(CONFIG), rows(range(N_HOURS), 2)
    log.to_parquet(tmp_path / "log.parquet")
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(row) for row in log.to_dict("records")))
    told = []
    for name in ("log.parquet", "log.jsonl"):
        replay(config, config.model[0], reference, Log([tmp_path / name]), tmp_path / name[4:])
        told.append([json.loads(line) for line in (tmp_path / name[4:] / "notices.jsonl").read_text().splitlines()])
    calls, others = [[row for row in told[0] if (row["purpose"] == "retrain") == which] for which in (True, False)]
    assert [(row["window"], row["body"]["columns"]) for row in calls] == [(MAX_AGE, [])]
    assert calls[0]["body"]["reason"] == "max age: what the model has learnt is 0.9 days old, wanted at most 0.8 days"
    assert [(row["window"], row["body"]["change"], row["body"]["severity"]) for row in others] == [
        (MAX_AGE, "opened", "info")
    ]
    without_rows = [[{**row, "body": {**row["body"], "rows": []}} for row in one] for one in told]
    assert without_rows[0] == without_rows[1]


def test_a_restart_after_every_window_calls_the_job_no_second_time(reference: Reference):
    config, bins, at = Config.model_validate(CONFIG), reference.bins, Partition("t", 0)
    state, calls = Saved(), []
    frame = rows(range(N_HOURS), 2)
    for hour in range(N_HOURS):
        line = Line(config, config.model[0], reference, state, lambda *_: None)
        part = frame[hour * N_ROWS : (hour + 1) * N_ROWS]
        numbers = part[["x"]].to_numpy(float).T
        words = bins.cells(numbers, np.full((1, N_ROWS), 4, np.uint8))
        offsets, times = part.index.to_numpy(np.int64), part["ts"].to_numpy(np.int64)
        line.add(Batch(at, offsets, times, numbers, words, int(offsets[-1]) + 1))
        commit = line.tick(Moment(BEGIN_MS + hour * HOUR_MS, frozenset({at})))
        assert commit is not None
        calls += [notice for notice in commit.out.notices if isinstance(notice.body, RetrainBody)]
        kept = msgspec.json.decode(msgspec.json.encode(commit.state), type=LineState)
        committed = line._committed
        state = Saved(kept, committed.offsets, committed.open, committed.memories)
    assert len({notice.id for notice in calls}) == len(calls) == 1
