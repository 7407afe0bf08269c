"""Watching columns jointly, from a configuration to an incident: what no column and no pair of them shows."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from detectors.joint import JOINT_NAME
from monitor import allowance
from monitor.check import budgeted
from monitor.cli import read_config
from monitor.config import Config
from monitor.configfile import Known, load
from monitor.errors import ConfigError
from monitor.reference import unseal
from tests.monitor.command import driftd, replayed, sealed_home

CONFIG = """
[[model]]
name = "credit"
reference = "ref"
window = "500 rows"
segments = ["plan"]
multivariate = ["mmd"]
"""
N_ROWS = 500


def rows(seed: int, n_windows: int, bound: float = 0.0) -> pd.DataFrame:
    """Rows in which "rate" has the sign of the product of age and debt as often as `bound` says, else any."""
    rng = np.random.default_rng(seed)
    n = n_windows * N_ROWS
    age, debt, rate, income = rng.normal(size=(4, n))
    mine = rng.random(n) < bound
    rate[mine] = (np.abs(rate) * np.sign(age * debt))[mine]
    plan = rng.choice(["free", "paid"], n, p=[0.7, 0.3])
    return pd.DataFrame({"age": age, "debt": debt, "rate": rate, "income": income, "plan": plan})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_home(tmp_path_factory.mktemp("joint"), CONFIG, "credit", rows(1, 40))


@pytest.fixture
def config(home: Path) -> Config:
    return read_config(home / "driftd.toml")


def test_what_three_columns_show_only_together_becomes_an_incident_that_names_them(
    home: Path, config: Config, tmp_path: Path
):
    log = pd.concat([rows(2, 30), rows(3, 12, bound=0.7)])
    drifting, incidents = replayed(home, config, log, tmp_path)
    assert {v["column"] for v in drifting} == {JOINT_NAME}
    assert {v["segment"] for v in drifting} == {"all"}
    assert 30 <= drifting[0]["window"] <= 33
    assert drifting[-1]["reason"] == "age, debt and rate no longer go together as they did"
    assert abs(drifting[-1]["effect"]) > 0.2
    assert incidents[0]["reason"] == f"drift in {JOINT_NAME}"


def test_a_log_like_the_reference_has_no_incident(home: Path, config: Config, tmp_path: Path):
    drifting, incidents = replayed(home, config, rows(4, 168), tmp_path)
    assert not drifting
    assert not incidents


def test_without_the_option_the_same_change_is_not_seen_and_pages_nobody(home: Path, config: Config, tmp_path: Path):
    plain = config.model_copy(update={"model": (config.model[0].model_copy(update={"multivariate": ()}),)})
    drifting, _ = replayed(home, plain, pd.concat([rows(2, 5), rows(3, 12, bound=0.7)]), tmp_path)
    assert not drifting


def test_the_joint_scores_share_the_budget_as_one_column(home: Path, config: Config):
    bins = unseal(home / "ref").bins
    whole = allowance.of(config, config.model[0], bins).by_segment["all"]
    assert bins.together_names[-1] == JOINT_NAME
    assert whole.shares[-1] == pytest.approx(whole.shares[0])
    total = sum(own.shares.sum() for own in allowance.of(config, config.model[0], bins).by_segment.values())
    assert total == pytest.approx(1.0)
    plain = config.model[0].model_copy(update={"multivariate": ()})
    assert allowance.of(config, plain, bins).by_segment["all"].shares[-1] == 0.0


def test_a_reference_that_was_built_without_them_is_told_of(home: Path, config: Config, tmp_path: Path):
    (tmp_path / "driftd.toml").write_text(CONFIG.replace('multivariate = ["mmd"]', ""))
    order = ("reference", "build", "--config", tmp_path / "driftd.toml", "--model", "credit", home / "train.parquet")
    assert driftd(*order).returncode == 0
    reference = unseal(tmp_path / "ref")
    assert JOINT_NAME not in reference.bins.together_names
    book = budgeted(reference, config, config.model[0]).account("all")
    assert book.off[JOINT_NAME].startswith("the reference was sealed without it")
    assert "build it anew" in book.off[JOINT_NAME]
    assert budgeted(unseal(home / "ref"), config, config.model[0]).account("all").off == {}


def test_calibrate_says_how_small_a_change_shows(home: Path, config: Config):
    book = budgeted(unseal(home / "ref"), config, config.model[0]).account("all")
    assert book.least_joint is not None
    assert 0.1 <= book.least_joint <= 1.0
    shown = driftd("calibrate", "--config", home / "driftd.toml", "--model", "credit", "--json")
    whole = next(each for each in msgspec.json.decode(shown.stdout) if each["segment"] == "all")
    assert whole["columns"][-1]["column"] == JOINT_NAME


def test_other_decisions_cannot_watch_them(tmp_path: Path):
    (tmp_path / "driftd.toml").write_text(CONFIG + 'decision = "family"\n')
    with pytest.raises(ConfigError, match=r'model\[0\].multivariate.*wanted decision = "budget"'):
        load(tmp_path / "driftd.toml", Known((), (), {}))
