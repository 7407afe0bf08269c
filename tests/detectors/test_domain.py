"""Telling a window's rows from the reference's: chance is honest, and the columns that changed are named."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors import Bins, Profile
from detectors.domain import MOST_FUNCTIONS, N_FOLDS, SHARED, Classifier, Told
from tests.detectors.weeks import Table, bins_of, cells_of, drawn

laws = settings(max_examples=20, derandomize=True, deadline=None)


def told(rng: np.random.Generator, n: int, m: int, **change: float) -> Told:
    before, after = drawn(rng, 2_000), drawn(rng, m)
    numbers = after.numbers
    if "shift" in change:
        numbers[2] += change["shift"]
    if "together" in change:
        numbers[1] = change["together"] * numbers[0] + np.sqrt(1 - change["together"] ** 2) * numbers[1]
    if "missing" in change:
        numbers[3, rng.random(m) < change["missing"]] = np.nan
    bins = bins_of(before)
    cells = cells_of(bins, before)
    classifier = Classifier.of(Profile.of(bins, before.numbers, cells), cells[:, :n])
    found = classifier.tell(cells_of(bins, Table(numbers, after.words)))
    assert found is not None
    return found


@cache
def chances(n: int, m: int) -> list[Told]:
    """What is found where nothing changed."""
    rng = np.random.default_rng(n)
    return [told(rng, n, m) for _ in range(150)]


@pytest.mark.parametrize(("n", "m"), [(300, 100), (60, 60)])
def test_without_drift_every_chance_is_as_likely_as_it_says(n: int, m: int):
    p_values = np.array([each.p_value for each in chances(n, m)])
    for level in (0.02, 0.1, 0.3):
        below = int((p_values <= level).sum())
        assert stats.binom.sf(below - 1, p_values.size, level) > 1e-3, (level, below)
    assert 0.4 < p_values.mean() < 0.6


@pytest.mark.parametrize(("n", "m"), [(300, 100), (60, 60)])
def test_fifths_that_teach_each_other_scatter_together_as_stated(n: int, m: int):
    """The variance of the AUC is twice that of five independent fifths."""
    alone = (n / N_FOLDS + m / N_FOLDS + 1) / (12 * n / N_FOLDS * m / N_FOLDS) / N_FOLDS
    assert np.var([each.auc for each in chances(n, m)]) == pytest.approx(SHARED * alone, rel=0.35)


def test_what_only_three_columns_show_together_is_found_and_they_are_named():
    rng = np.random.default_rng(8)
    before, after = drawn(rng, 5_000), drawn(rng, 300)
    after.numbers[2] = np.abs(after.numbers[2]) * np.sign(after.numbers[0] * after.numbers[1])
    bins = bins_of(before)
    cells = cells_of(bins, before)
    found = Classifier.of(Profile.of(bins, before.numbers, cells), cells[:, :1_000]).tell(cells_of(bins, after))
    assert found is not None
    assert found.p_value < 1e-6
    assert set(found.columns) == {0, 1, 2}


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


@laws
@given(st.integers(30, 60), st.integers(30, 60), st.integers(0, 1_000))
def test_the_auc_is_the_share_of_pairs_in_which_the_windows_row_scores_higher(n: int, m: int, seed: int):
    """By brute force over all pairs of one fifth, ties half; scores as the definition has them."""
    rng = np.random.default_rng(seed)
    before, after = drawn(rng, 500), drawn(rng, m, 0.3)
    bins = bins_of(before)
    cells = cells_of(bins, before)
    classifier = Classifier.of(Profile.of(bins, before.numbers, cells), cells[:, :n])
    found = classifier.tell(cells_of(bins, after))
    assert found is not None
    mine, others = classifier.functions(cells_of(bins, after)), classifier.rows
    wins = pairs = 0.0
    for k in range(N_FOLDS):
        held, held_others = np.arange(m) % N_FOLDS == k, np.arange(n) % N_FOLDS == k
        off = mine[~held].mean(axis=0, dtype=float) - others[~held_others].mean(axis=0, dtype=float)
        score, other = mine[held] @ off**3, others[held_others] @ off**3
        scale = 1e-6 * np.linalg.norm(off**3)
        gap = score[:, None] - other
        wins += (gap > scale).sum() + 0.5 * (np.abs(gap) <= scale).sum()
        pairs += gap.size
    assert found.auc == pytest.approx(wins / pairs, abs=2e-3)


def test_many_columns_get_a_bounded_number_of_functions_of_which_every_column_has_one():
    rng = np.random.default_rng(9)
    for n_columns in (6, 16, 60, 300):
        numbers = rng.normal(size=(n_columns, 400))
        bins = Bins.of({f"x{i}": row for i, row in enumerate(numbers)}, {})
        cells = bins.cells(numbers, np.zeros((0, 400), np.uint8))
        owners = Classifier.of(Profile.of(bins, numbers, cells), cells).owners
        assert len(owners) <= MOST_FUNCTIONS
        assert {int(column) for column in owners[:, 0]} == set(range(n_columns))


def test_few_rows_or_keys_alone_tell_nothing():
    rng = np.random.default_rng(4)
    table = drawn(rng, 500)
    bins = bins_of(table)
    cells = cells_of(bins, table)
    profile = Profile.of(bins, table.numbers, cells)
    assert Classifier.of(profile, cells).tell(cells[:, :29]) is None
    assert Classifier.of(profile, cells[:, :29]).tell(cells) is None
    keys = Bins.of({}, {"key": {str(i): 1 for i in range(500)}})
    codes = np.full((1, 500), 3, np.uint8)
    assert Classifier.of(Profile.of(keys, np.zeros((0, 500)), codes), codes).tell(codes) is None


def test_equal_rows_give_equal_numbers_and_a_monotone_transform_changes_none():
    rng = np.random.default_rng(5)
    plain, after = drawn(rng, 1_000), drawn(rng, 300, 0.3)
    found = []
    for bend in (np.array, np.exp):
        before = Table(bend(plain.numbers), plain.words)
        bins = bins_of(before)
        cells = cells_of(bins, before)
        profile = Profile.of(bins, before.numbers, cells)
        found.append(Classifier.of(profile, cells).tell(cells_of(bins, Table(bend(after.numbers), after.words))))
    assert found[0] == found[1]
