"""How labels that come later get into driftd: by its configuration, files of a replay, other processes, the service."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from monitor import assembly
from monitor.batch import Partition, Records
from monitor.check import Reference
from monitor.cli import app, read_config
from monitor.config import Config
from monitor.configfile import Known, _cross_checks
from monitor.daemon import Outside
from monitor.errors import ConfigError, SourceError
from monitor.frozen import thaw
from monitor.history import History
from monitor.join import Labelled
from monitor.line import Line, Saved
from monitor.loss import LOSS
from monitor.message import rfc3339
from monitor.reference import kinds_of, seal, with_loss
from monitor.replay import Log as Files
from monitor.replay import replay
from monitor.sources.frames import frozen, thawed
from monitor.store import Store
from monitor.window import WHOLE
from tests.monitor.labels import (
    BEGIN,
    LABELS,
    PREDICTIONS,
    Log,
    config,
    logs,
    made,
    records,
    run,
)
from tests.monitor.stand_in import Silent


@pytest.fixture(scope="module")
def reference() -> Reference:
    return made()


def replayed(folder: Path, settings: Config, reference: Reference, rows: Path, labels: list[Path]) -> dict[str, bytes]:
    replay(settings, settings.model[0], reference, Files([rows], labels), folder / "out")
    return {file.name: file.read_bytes() for file in (folder / "out").iterdir()}


def test_a_replay_joins_labels_from_files_as_the_service_does_from_topics(reference: Reference, tmp_path: Path):
    labels = {"topic": "outcomes", "label": "truth.label", "timestamp": "known", "lag": "150s"}
    settings, found = config(labels=labels, decision="family"), logs(3_000, 1_800)
    one, other = Partition("t", 0), Partition("outcomes", 0)
    log = {
        at: sorted((row for part in parts for row in found[part]), key=lambda row: row[0])
        for at, parts in ((one, PREDICTIONS), (other, LABELS))
    }
    log[other] = [(at_ms, {**body, "known": at_ms}) for at_ms, body in log[other]]
    live = run(settings, reference, log, 0, crashes=False)
    for at, both in log.items():
        lines = [json.dumps(body) for _, body in both]
        (tmp_path / f"{at.topic}.jsonl").write_text("\n".join(lines))
    said = replayed(tmp_path, settings, reference, tmp_path / "t.jsonl", [tmp_path / "outcomes.jsonl"])
    told = [json.loads(line) for line in said["windows.jsonl"].splitlines()]
    first = {(row["segment"], row["start"]): row["profile_id"] for row in told if not row["revision"]}
    same = [
        first[segment, rfc3339(start_ms)] == thaw(frozen_window, reference.bins).tally.profile.id
        for (segment, start_ms), (frozen_window, _) in live.first.items()
    ]
    assert len(same) > 20
    assert all(same)
    frames = {at: pd.json_normalize([body for _, body in log[at]]) for at in log}
    frames[one].to_parquet(tmp_path / "t.parquet")
    half = len(frames[other]) // 2
    frames[other][:half].to_csv(tmp_path / "first.csv", index=False)
    frames[other][half:].to_parquet(tmp_path / "second.parquet")
    again = replayed(
        tmp_path, settings, reference, tmp_path / "t.parquet", [tmp_path / "first.csv", tmp_path / "second.parquet"]
    )
    assert again["windows.jsonl"] == said["windows.jsonl"]
    assert again["verdicts.jsonl"] == said["verdicts.jsonl"]
    assert b'"loss"' in b"".join(line for line in said["incidents.jsonl"].splitlines() if b"firing" in line)
    without = replayed(tmp_path, settings, reference, tmp_path / "t.jsonl", [])
    assert b'"loss"' not in without["incidents.jsonl"]


def test_a_replay_of_one_file_finds_the_labels_among_its_predictions(reference: Reference, tmp_path: Path):
    settings = config(labels={"label": "truth.label", "timestamp": "known", "lag": "150s"}, decision="family")
    rows = [
        {**row, "known": at_ms} if "truth" in row else row
        for at_ms, row in sorted((row for part in logs(3_000, 1_800).values() for row in part), key=lambda row: row[0])
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = replayed(tmp_path, settings, reference, tmp_path / "t.jsonl", [])
    assert b'"loss"' in said["incidents.jsonl"]
    told = [json.loads(line) for line in said["windows.jsonl"].splitlines()]
    n_rows = sum(row["n_rows"] for row in told if row["segment"] == WHOLE and not row["revision"])
    assert n_rows + sum(row["n_late"] for row in told if row["segment"] == WHOLE) >= sum("score" in row for row in rows)


@pytest.mark.parametrize("labels", [None, {"topic": "outcomes"}])
def test_labels_from_files_must_say_when_they_were_known(
    reference: Reference, tmp_path: Path, labels: dict[str, Any] | None
):
    settings = config(labels=labels)
    with pytest.raises(SourceError, match=r"wanted \[model.labels\] with timestamp"):
        replayed(tmp_path, settings, reference, tmp_path / "t.jsonl", [tmp_path / "outcomes.csv"])


def test_a_process_of_its_own_reads_labels_too(reference: Reference):
    settings = config()
    line = Line(settings, settings.model[0], reference, Saved(), lambda *_: None)
    rows = [(BEGIN, {"id": "a", "truth": {"label": 1}}), (BEGIN, {"id": "b", "truth": {"label": None}})]
    found = records(LABELS[1], rows, 5)
    batch = line.decoders["m labels"].decode(found)
    sent = thawed(frozen(found, {"m labels": batch}), line.readings).decoded["m labels"]
    for name in ("keys", "numbers", "cells", "offsets", "time_ms"):
        np.testing.assert_array_equal(getattr(sent, name), getattr(batch, name))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": "100 rows"}, "event time"),
        ({"fields": {"score": "s", "label": "y"}}, "fields.id"),
        ({"fields": {"id": "i", "label": "y"}}, "fields.score"),
        ({"labels": {"topic": "t"}}, "labels come there too"),
        ({"labels": {"topic": "o", "format": "jsno"}}, "did you mean 'json'"),
    ],
)
def test_what_cannot_be_joined_is_told(changes: dict[str, Any], words: str):
    told = [str(problem) for problem in _cross_checks(config(**changes), Known(["json"], [], {}))]
    assert any(words in problem for problem in told), told


def test_coverage_is_a_share_of_the_predictions():
    assert (Labelled().coverage, Labelled(predictions=4, joined=3).coverage) == (None, 0.75)


class Lists(Silent):
    """Both topics from lists, as a service reads them; its end is reached once everything was given out."""

    path = "batch"

    def __init__(self, found: Log) -> None:
        super().__init__(*found)
        self.found, self.at = found, dict.fromkeys(found, 0)

    def __call__(self, topics: Sequence[str], _: Any, **__: Any) -> Lists:
        assert list(topics) == ["outcomes", "t"]
        return self

    def poll(self, timeout_seconds: float) -> Sequence[Records]:
        given = []
        for at, first in self.at.items():
            rows = self.found[at][first : first + 150]
            self.at[at] += len(rows)
            given += [records(at, rows, first)] if rows else []
        return given

    def caught_up(self) -> frozenset[Partition]:
        return frozenset(at for at, first in self.at.items() if first == len(self.found[at]))

    def lag(self) -> dict[Partition, int]:
        return {at: len(self.found[at]) - first for at, first in self.at.items()}

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        self.at |= offsets


SERVICE = """
[kafka]
bootstrap_servers = ["localhost:1"]
[state]
directory = "state"
[[model]]
name = "m"
topics = ["t"]
reference = "r"
window = "1m"
lateness = "10s"
decision = "family"
[model.fields]
id = "id"
timestamp = "ts"
score = "score"
label = "label"
[model.labels]
topic = "outcomes"
label = "truth.label"
lag = "150s"
[http]
listen = ""
"""


def test_the_service_reads_both_topics_and_tells_how_many_labels_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    score = rng.random(3_000)
    rows = pd.DataFrame({"score": score, "label": (rng.random(3_000) < score).astype(int)})
    rows["plan"] = np.where(rng.random(3_000) < 0.25, "paid", "free")
    (tmp_path / "driftd.toml").write_text(SERVICE)
    read = read_config(tmp_path / "driftd.toml")
    model, frame = read.model[0], rows.drop(columns="label")
    seal(frame, kinds_of(frame, {}), tmp_path / "r")
    with pytest.raises(ConfigError, match="no column 'label'"):
        assembly.prepare(tmp_path / "driftd.toml", read)
    seal(*with_loss(frame, kinds_of(frame, {}), rows, model)[:2], tmp_path / "r", None, "score")
    prepared = assembly.prepare(tmp_path / "driftd.toml", read)
    found = {at: [(at_ms, body) for at_ms, body in rows_ if at_ms < BEGIN + 400_000] for at, rows_ in
             logs(3_000, 1_800).items()}  # fmt: skip
    monkeypatch.setattr(assembly, "KafkaSource", Lists(found))
    store, rounds = Store(prepared.directory), iter([True] * 60)
    assembly.assemble(prepared, store, Outside()).run(lambda: next(rounds, False), lambda _: None)
    store.close()
    history = History(prepared.directory)
    (status,) = history.status().models
    incidents = history.incidents(everything=True)
    history.close()
    assert {incident.columns for incident in incidents} == {(LOSS,)}, incidents
    assert status.counts.rows == sum(len(found[at]) for at in PREDICTIONS)
    assert status.labelled.labels > 1_500
    assert status.coverage == status.labelled.joined / status.labelled.predictions > 0.6
    told = CliRunner().invoke(app, ["status", "--config", str(tmp_path / "driftd.toml")])
    assert (
        f"m: {status.coverage:.1%} of {status.labelled.predictions:,} predictions have got their label" in told.output
    )
