"""Watching whole rows by a classifier, from a configuration to an incident: what no column and no pair shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from detectors.pairs import WHOLE_ROWS
from monitor import allowance
from monitor.batch import Partition
from monitor.check import budgeted
from monitor.cli import read_config
from monitor.config import Config, Rows
from monitor.configfile import Known, load
from monitor.decision import CLASSIFIER
from monitor.errors import ConfigError
from monitor.reference import unseal
from tests.monitor.command import driftd, replayed, sealed_home
from tests.monitor.test_engine import P, run

CONFIG = """
[state]
sample_rows = 250
[[model]]
name = "credit"
topics = ["t"]
reference = "ref"
window = "1m"
lateness = "10s"
segments = ["plan"]
multivariate = ["classifier"]
[model.fields]
timestamp = "ts"
"""
N_ROWS, MINUTE_MS, BEGIN_MS = 400, 60_000, 1_700_000_040_000


def rows(seed: int, n_windows: int, first: int = 0, bound: float = 0.0) -> pd.DataFrame:
    """Minutes of rows, in which "rate" is as far from its middle as "debt" as often as `bound` says; else they are
    apart, and never correlated."""
    rng = np.random.default_rng(seed)
    n = n_windows * N_ROWS
    age, debt, rate, income = rng.normal(size=(4, n))
    mine = rng.random(n) < bound
    rate[mine] = (np.abs(debt) * np.sign(rate))[mine]
    plan = rng.choice(["free", "paid"], n, p=[0.7, 0.3])
    time_ms = BEGIN_MS + first * MINUTE_MS + np.arange(n) * MINUTE_MS // N_ROWS
    columns = {"age": age, "debt": debt, "rate": rate, "income": income, "plan": plan, "ts": time_ms}
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_home(tmp_path_factory.mktemp("whole"), CONFIG, "credit", rows(1, 60))


@pytest.fixture
def config(home: Path) -> Config:
    return read_config(home / "driftd.toml")


def test_what_no_column_and_no_correlation_shows_becomes_an_incident_that_names_its_columns(
    home: Path, config: Config, tmp_path: Path
):
    log = pd.concat([rows(2, 30, 60), rows(3, 12, 90, bound=0.5)])
    drifting, incidents = replayed(home, config, log, tmp_path)
    assert {v["column"] for v in drifting} == {WHOLE_ROWS}
    assert {v["segment"] for v in drifting} == {"all"}
    assert 30 <= drifting[0]["window"] <= 33
    told = re.fullmatch(
        r"rows can be told from the reference's \(AUC (0\.\d\d), usually (0\.\d\d)\), mostly by (.*)",
        drifting[-1]["reason"],
    )
    assert told is not None
    assert float(told[1]) > float(told[2]) + 0.05
    assert {"debt", "rate"} == set(told[3].split(" and "))
    assert incidents[0]["reason"] == f"drift in {WHOLE_ROWS}"


def test_a_log_like_the_reference_has_no_incident(home: Path, config: Config, tmp_path: Path):
    drifting, incidents = replayed(home, config, rows(4, 70, 60), tmp_path)
    assert not drifting
    assert not incidents


def test_crashes_and_cuts_change_nothing_of_what_is_said(home: Path, config: Config):
    log, reference = pd.concat([rows(5, 6, 60), rows(6, 6, 66, bound=0.6)]), unseal(home / "ref")
    lines = [json.dumps(row).encode() for row in log.to_dict("records")]
    logs: dict[Partition, list[bytes]] = {at: lines[i::2] for i, at in enumerate(P)}
    whole = run(config, reference, logs, 0, crashes=False).result()
    said = [verdict for verdicts in whole[2].values() for verdict in verdicts if verdict.measure == CLASSIFIER]
    assert said
    for seed in (1, 2):
        assert run(config, reference, logs, seed, crashes=True).result() == whole


def test_it_has_a_columns_share_of_the_budget_and_costs_nothing_where_it_is_not_asked_for(home: Path, config: Config):
    reference = unseal(home / "ref")
    whole = allowance.of(config, config.model[0], reference.bins).by_segment["all"]
    assert reference.bins.together_names[-1] == WHOLE_ROWS
    assert whole.shares[-1] == pytest.approx(whole.shares[0])
    classifier, blocks = (
        budgeted(reference, config, config.model[0]).wards["all"].classifier,
        reference.pasts["all"].blocks,
    )
    assert classifier is not None
    assert blocks is not None
    assert np.array_equal(classifier.steadiness, blocks.steadiness)  # as it was when it was shown the reference's
    plain = config.model[0].model_copy(update={"multivariate": ()})
    assert allowance.of(config, plain, reference.bins).by_segment["all"].shares[-1] == 0.0
    assert all(ward.classifier is None for ward in budgeted(reference, config, plain).wards.values())


def test_a_reference_that_cannot_be_compared_with_is_told_of(home: Path, config: Config, tmp_path: Path):
    (tmp_path / "driftd.toml").write_text(CONFIG.replace('multivariate = ["classifier"]', ""))
    order = ("reference", "build", "--config", tmp_path / "driftd.toml", "--model", "credit", home / "train.parquet")
    assert driftd(*order).returncode == 0
    bare, reference = unseal(tmp_path / "ref"), unseal(home / "ref")
    off = budgeted(bare, config, config.model[0]).account("all").off[WHOLE_ROWS]
    assert off.startswith("the reference was sealed without it")
    assert "build it anew" in off
    fewer = config.model_copy(update={"state": config.state.model_copy(update={"sample_rows": 100})})
    off = budgeted(reference, fewer, config.model[0]).account("all").off[WHOLE_ROWS]
    assert off.startswith("the reference was sealed for 250 rows of a window, found sample_rows for 100")
    wider = config.model[0].model_copy(update={"window": Rows(n_rows=1_000)})
    assert WHOLE_ROWS in budgeted(reference, config, wider).account("all").off
    assert budgeted(reference, config, config.model[0]).account("all").off == {}


def test_windows_of_few_rows_are_not_watched_as_wholes(tmp_path: Path):
    sealed_home(tmp_path, CONFIG, "credit", rows(7, 20).iloc[::12])
    assert unseal(tmp_path / "ref").bins.pairs.n_shown == 0


def test_calibrate_says_how_small_a_change_shows(home: Path, config: Config):
    book = budgeted(unseal(home / "ref"), config, config.model[0]).account("all")
    assert book.least_auc is not None
    assert 0.01 <= book.least_auc <= 0.2
    shown = driftd("calibrate", "--config", home / "driftd.toml", "--model", "credit", "--json")
    whole = next(each for each in msgspec.json.decode(shown.stdout) if each["segment"] == "all")
    assert whole["columns"][-1]["column"] == WHOLE_ROWS


def test_it_needs_rows_to_be_kept(tmp_path: Path):
    (tmp_path / "driftd.toml").write_text(CONFIG.replace("sample_rows = 250", "sample_rows = 0"))
    with pytest.raises(ConfigError, match=r"model\[0\].multivariate.*wanted state.sample_rows = 30 or more"):
        load(tmp_path / "driftd.toml", Known((), (), {}))
