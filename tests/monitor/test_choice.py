"""What a reference is made of: the columns that the model's decoder finds in a record, whatever the files' shape."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from monitor.choice import choose
from monitor.config import Config, Fields, Model
from monitor.decode import REGISTRY, layout
from monitor.errors import ReferenceFault
from monitor.reference import build, kinds_of, seal
from monitor.replay import Log, replay
from monitor.sources.tables import read
from monitor.table import opened
from tests.monitor.command import driftd

NESTED = Fields(id="request.id", timestamp="when", score="out.minutes", features="request.payload")


def records(n: int) -> list[dict]:
    rng = np.random.default_rng(0)
    return [
        {
            "when": f"2026-11-{1 + i // 1440:02d} {i // 60 % 24:02d}:{i % 60:02d}:00",
            "out": {"minutes": float(rng.normal()), "by": "m-3"},
            "request": {
                "id": f"r{i}",
                "payload": {"km": float(rng.lognormal()), "by": str(rng.choice(["car", "van"]))},
            },
        }
        for i in range(n)
    ]


def lines(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def model(fields: Fields, **others: object) -> Model:
    return Model(name="eta", reference="ref", window="1h", fields=fields, **others)


@pytest.mark.parametrize("name", ["log.jsonl", "log.parquet"])
def test_a_log_of_nested_records_is_its_own_reference(tmp_path: Path, name: str):
    rows = records(3_000)
    log = lines(tmp_path / "log.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    chosen = model(NESTED)
    choice = choose(read([tmp_path / name]), chosen)
    assert sorted(choice.watched.columns) == ["by", "km", "out.minutes"]
    assert choice.left_out.keys() == {"when", "request.id", "out.by"}
    assert not choice.absent
    kinds = kinds_of(choice.watched, {})
    sealed = seal(choice.watched, kinds, tmp_path / "ref")
    for file in (log, tmp_path / "log.parquet"):
        config = Config(model=(chosen,))
        replay(config, chosen, sealed, Log([file]), tmp_path / "out")
        verdicts = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
        assert {verdict["column"] for verdict in verdicts} == set(sealed.bins.names)
        assert not [verdict for verdict in verdicts if verdict["verdict"] == "drift"]


def test_the_columns_are_those_that_the_decoder_finds(tmp_path: Path):
    choice = choose(read([lines(tmp_path / "log.jsonl", records(200))]), model(NESTED))
    bins, profile = build(choice.watched, kinds_of(choice.watched, {}))
    decoder = REGISTRY["json"](layout(NESTED, bins))
    for name, path in zip(bins.names, layout(NESTED, bins).paths, strict=True):
        values: object = records(1)[0]
        for key in path:
            values = values[key]
        assert values == choice.watched[name].iloc[0]
    assert decoder is not None
    assert profile.n_rows == 200


def test_flat_files_are_watched_but_for_what_the_fields_set_apart():
    frame = pd.DataFrame({"id": [1], "when": [2], "score": [0.5], "age": [3], "y": [1], "note": ["x"]})
    fields = Fields(id="id", timestamp="when", score="score", label="y", features="features")
    choice = choose(frame, model(fields, columns={"note": {"kind": "text"}}))
    assert list(choice.watched.columns) == ["score", "age"]
    assert choice.left_out == {
        "id": "the id", "when": "the timestamp", "y": "the label", "note": "not watched, by its kind"
    }  # fmt: skip


def test_what_the_fields_name_and_the_files_lack_is_told_with_what_follows():
    choice = choose(pd.DataFrame({"age": [3]}), model(Fields(timestamp="ts", score="p.score", label="y")))
    assert choice.absent.keys() == {"ts", "p.score", "y"}
    assert "not watched" in choice.absent["p.score"]
    assert "order of the rows" in choice.absent["ts"]


def test_members_of_objects_that_no_field_names_are_not_watched():
    """The decoder reads members of the record itself: what lies deeper is an object, and malformed."""
    frame = pd.DataFrame({"age": [3], "a.b": [4], "more": [{"x": 1}]})
    choice = choose(frame, model(Fields()))
    assert list(choice.watched.columns) == ["age", "a.b"]
    assert "features" in choice.left_out["more.x"]


def test_listed_features_may_lie_in_objects():
    frame = pd.DataFrame({"age": [3], "more": [{"x": 1, "y": 2}]})
    choice = choose(frame, model(Fields(features=("age", "more.x"))))
    assert list(choice.watched.columns) == ["age", "more.x"]
    assert list(choice.left_out) == ["more.y"]
    with pytest.raises(ReferenceFault, match=r"no column more\.z; the files have: age, more\.x, more\.y"):
        choose(frame, model(Fields(features=("more.z",))))


def test_objects_open_only_where_nothing_else_stands():
    frame = pd.DataFrame(
        {
            "mixed": [{"a": 1}, 3],
            "empty": [{}, {}],
            "wide": [{str(i): i for i in range(2_000)}, None],
            "big": [{"n": 10**400}, {"n": 0.5}],
        }
    )
    found = opened(frame)
    assert list(found.columns) == ["mixed", "empty", "wide", "big.n"]
    assert found["big.n"].tolist() == [10**400, 0.5]
    flat = pd.DataFrame({"x": [1.0], "a.b": ["c"]})
    assert opened(flat) is flat
    with pytest.raises(ReferenceFault, match=r"two columns for x\.a"):
        opened(pd.DataFrame({"x.a": [1], "x": [{"a": 2}]}))


def test_the_command_says_what_it_left_out(tmp_path: Path):
    (tmp_path / "driftd.toml").write_text(
        '[[model]]\nname = "eta"\nreference = "ref"\n[model.fields]\n'
        'id = "request.id"\ntimestamp = "time"\nscore = "out.minutes"\nfeatures = "request.payload"\n'
    )
    log = lines(tmp_path / "log.jsonl", records(300))
    done = driftd("reference", "build", "--config", tmp_path / "driftd.toml", "--model", "eta", log)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == [
        "left out: when, out.by (not under request.payload)",
        "left out: request.id (the id)",
        "not in the files: time (the timestamp: windows are cut by the order of the rows)",
    ]
    assert "sealed 300 rows, 3 columns as" in done.stdout
