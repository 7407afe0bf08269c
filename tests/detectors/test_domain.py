"""Telling a window's rows from the reference's: chance is honest, and the columns that changed are named."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detectors import Profile
from detectors.domain import Told, _ranks, tell
from tests.detectors.weeks import Table, bins_of, cells_of, drawn


def told(rng: np.random.Generator, n: int, m: int, **change: float) -> Told:
    before, after = drawn(rng, 5_000), drawn(rng, m)
    numbers = after.numbers
    if "shift" in change:
        numbers[2] += change["shift"]
    if "together" in change:
        numbers[1] = change["together"] * numbers[0] + np.sqrt(1 - change["together"] ** 2) * numbers[1]
    if "missing" in change:
        numbers[3, rng.random(m) < change["missing"]] = np.nan
    bins = bins_of(before)
    cells = cells_of(bins, before)
    found = tell(Profile.of(bins, before.numbers, cells), cells[:, :n], cells_of(bins, Table(numbers, after.words)))
    assert found is not None
    return found


@pytest.mark.parametrize(("n", "m"), [(300, 100), (60, 60)])
def test_without_drift_every_chance_is_as_likely_as_it_says(n: int, m: int):
    rng = np.random.default_rng(n)
    p_values = np.array([told(rng, n, m).p_value for _ in range(120)])
    for level in (0.02, 0.1, 0.3):
        below = int((p_values <= level).sum())
        assert stats.binom.sf(below - 1, p_values.size, level) > 1e-3, (level, below)
    assert 0.35 < p_values.mean() < 0.65


@pytest.mark.parametrize(
    ("change", "columns"), [({"shift": 0.8}, {2}), ({"together": 0.7}, {0, 1}), ({"missing": 0.3}, {3})]
)
def test_what_changed_is_found_and_its_columns_are_named(change: dict[str, float], columns: set[int]):
    found = told(np.random.default_rng(1), 1_000, 300, **change)
    assert found.p_value < 1e-4
    assert found.auc > 0.55
    assert set(list(found.columns)[: len(columns)]) == columns


def test_the_auc_is_near_that_of_the_best_classifier():
    found = told(np.random.default_rng(2), 1_000, 1_000, shift=1.0)
    assert found.auc == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.04)


def test_mid_ranks_are_those_of_scipy():
    scores = np.random.default_rng(3).integers(0, 20, 200) * 1.0
    assert np.array_equal(_ranks(scores), stats.rankdata(scores))


def test_few_rows_or_keys_alone_tell_nothing():
    rng = np.random.default_rng(4)
    table = drawn(rng, 500)
    bins = bins_of(table)
    cells = cells_of(bins, table)
    profile = Profile.of(bins, table.numbers, cells)
    assert tell(profile, cells, cells[:, :29]) is None
    assert tell(profile, cells[:, :0], cells) is None


def test_equal_rows_give_equal_numbers_and_a_monotone_transform_changes_none():
    rng = np.random.default_rng(5)
    plain, after = drawn(rng, 1_000), drawn(rng, 300, 0.3)
    found = []
    for bend in (np.array, np.exp):
        before = Table(bend(plain.numbers), plain.words)
        bins = bins_of(before)
        cells = cells_of(bins, before)
        profile = Profile.of(bins, before.numbers, cells)
        found.append(tell(profile, cells, cells_of(bins, Table(bend(after.numbers), after.words))))
    assert found[0] == found[1]
