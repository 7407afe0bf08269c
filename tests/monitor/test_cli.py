"""The command line as a user meets it: a process, its exit code, what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.monitor.command import driftd


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"id": range(500), "age": rng.normal(size=500), "plan": rng.choice(["a", "b"], 500)})
    frame.to_parquet(tmp_path / "train.parquet")
    frame.to_csv(tmp_path / "train.csv", index=False)
    file = tmp_path / "driftd.toml"
    file.write_text('[[model]]\nname = "credit"\nreference = "ref"\n[model.fields]\nid = "id"\n')
    return file


@pytest.mark.parametrize("name", ["train.parquet", "train.csv"])
def test_a_reference_is_built_and_shown(config: Path, name: str):
    built = driftd("reference", "build", "--config", config, "--model", "credit", config.parent / name)
    assert built.returncode == 0, built.stderr
    assert "sealed 500 rows, 2 columns" in built.stdout
    shown = driftd("reference", "show", config.parent / "ref", "--json")
    assert json.loads(shown.stdout)["columns"] == {"age": "numeric", "plan": "categorical"}
    checked = driftd("check-config", config)
    assert checked.returncode == 0
    assert json.loads(shown.stdout)["id"][:12] in checked.stdout


def test_a_wrong_configuration_exits_with_78_and_all_its_problems(config: Path):
    config.write_text('[[model]]\nname = "credit"\nreferense = "ref"\n[budget]\nper = "year"\n')
    done = driftd("check-config", config)
    assert done.returncode == 78
    assert "did you mean 'reference'?" in done.stderr
    assert "budget.per" in done.stderr
    assert "Traceback" not in done.stderr


def test_failures_exit_with_1_and_say_what_to_do(config: Path):
    (config.parent / "bad.parquet").write_bytes(b"not parquet")
    for file, words in (("bad.parquet", "cannot be read"), ("none.csv", "cannot be read"), ("x.txt", "wanted one of")):
        done = driftd("reference", "build", "--config", config, "--model", "credit", config.parent / file)
        assert (done.returncode, words in done.stderr) == (1, True), done.stderr
    assert driftd("reference", "show", config.parent).returncode == 1


def test_a_replay_tells_of_rows_that_one_from_the_future_made_late(config: Path):
    assert driftd("reference", "build", "--config", config, "--model", "credit", config.parent / "train.csv").stdout
    config.write_text(config.read_text() + 'timestamp = "ts"\n')
    rows = [{"ts": f"2026-01-01T{hour:02}:00:00Z", "age": 0.1, "plan": "a"} for hour in range(9)]
    log, out = config.parent / "log.jsonl", config.parent / "out"
    for first, told in (([], False), ([rows[0] | {"ts": "9999-12-31T00:00:00Z"}], True)):
        log.write_text("".join(json.dumps(row) + "\n" for row in [*first, *rows]))
        done = driftd("replay", "--config", config, "--model", "credit", "--out", out, log)
        assert done.returncode == 0
        assert ("late: 9 rows" in done.stdout) == told


@pytest.mark.parametrize(("column", "found"), [("age", "one of numbers"), ("plam", "none of that name")])
def test_segments_that_the_reference_cannot_have_are_told_and_harm_no_sealed_one(config: Path, column: str, found: str):
    before = driftd("reference", "build", "--config", config, "--model", "credit", config.parent / "train.csv").stdout
    config.write_text(config.read_text().replace("[model.fields]", f'segments = ["{column}"]\n[model.fields]'))
    done = driftd("reference", "build", "--config", config, "--model", "credit", config.parent / "train.csv")
    assert done.returncode == 1
    assert f"wanted a column of words '{column}' in the reference, found {found}; columns of words: plan" in done.stderr
    assert json.loads(driftd("reference", "show", config.parent / "ref", "--json").stdout)["id"][:12] in before


def test_a_model_that_is_not_there_is_a_usage_error(config: Path):
    done = driftd("reference", "build", "--config", config, "--model", "x", config.parent / "train.csv")
    assert done.returncode == 2
