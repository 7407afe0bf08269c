"""Rows as wholes: the features are the kernel's, chance is exact, and what no column shows is found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detectors import Bins, Profile
from detectors.cells import FIRST, MISSING, Cells
from detectors.mmd import Discrepancy, discrepancy, features


def numbers(rng: np.random.Generator, n: int, rho: float = 0.0, moved: float = 0.0) -> np.ndarray:
    """Four normal columns, the first two correlated, the last one moved; shape (4, n)."""
    rows = rng.normal(size=(4, n))
    rows[1] = rho * rows[0] + np.sqrt(1 - rho**2) * rows[1]
    rows[3] += moved
    return rows


def reference_of(rows: np.ndarray, words: np.ndarray) -> Profile:
    bins = Bins.of({f"x{i}": row for i, row in enumerate(rows)}, {"w": {"a": 60, "b": 30, "c": 10}})
    return Profile.of(bins, rows, bins.cells(rows, words))


def cells_of(reference: Profile, rows: np.ndarray, rng: np.random.Generator) -> Cells:
    return reference.bins.cells(rows, words_for(rng, rows.shape[1]))


def words_for(rng: np.random.Generator, n: int) -> Cells:
    return rng.choice([FIRST, FIRST + 1, FIRST + 2, MISSING], (1, n), p=[0.5, 0.3, 0.1, 0.1]).astype(np.uint8)


def compared(rng: np.random.Generator, n: int, m: int, **drift: float) -> Discrepancy:
    rows = numbers(rng, 5 * n, rho=0.8 if "rho" in drift else 0.0)
    reference = reference_of(rows, words_for(rng, 5 * n))
    found = discrepancy(
        reference, cells_of(reference, rows[:, :n], rng), cells_of(reference, numbers(rng, m, **drift), rng)
    )
    assert found is not None
    return found


def test_products_of_features_are_the_kernel():
    rng = np.random.default_rng(1)
    rows = numbers(rng, 2_000)
    reference = reference_of(rows, words_for(rng, 2_000))
    some = cells_of(reference, rows[:, :40], rng)
    f = features(reference, some, n_features=200_000)
    ranks = np.sqrt(12) * ((reference.halfway / reference.running[:, -1:])[np.arange(4)[:, None], some[:4] - 2] - 0.5)
    squared = np.square(ranks[:, :, None] - ranks[:, None, :]).sum(axis=0) + 2.0 * (some[4][:, None] != some[4])
    np.testing.assert_allclose(f @ f.T, np.exp(-squared / (2 * 5)), atol=5 / np.sqrt(200_000))


@pytest.mark.parametrize(("n", "m"), [(40, 40), (200, 50)])
def test_without_drift_every_chance_is_as_likely_as_it_says(n: int, m: int):
    rng = np.random.default_rng(n)
    p_values = np.array([compared(rng, n, m).p_value for _ in range(80)])
    for level in (0.05, 0.2, 0.5):
        low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 80, level)
        assert low <= np.sum(p_values <= level) <= high


def test_a_correlation_that_is_lost_is_found_and_a_shift_and_no_change_is_not():
    rng = np.random.default_rng(2)
    assert compared(rng, 600, 300, rho=0.8).p_value > 0.01
    assert compared(rng, 600, 300, rho=0.0).p_value <= 0.002
    assert compared(rng, 600, 300, moved=0.7).p_value <= 0.002


def test_columns_rows_and_times_of_asking_change_no_distance():
    rng = np.random.default_rng(3)
    rows = numbers(rng, 400)
    reference = reference_of(rows, words_for(rng, 400))
    x, y = cells_of(reference, rows, rng), cells_of(reference, numbers(rng, 100, moved=0.3), rng)
    found = discrepancy(reference, x, y)
    assert found is not None
    assert discrepancy(reference, x, y) == found
    turned = Bins(reference.bins.numeric[::-1], reference.bins.categorical)
    other = Profile(turned, np.concatenate((reference.counts[3::-1], reference.counts[4:])), reference.sums[::-1])
    order = np.array([3, 2, 1, 0, 4])
    again = discrepancy(other, x[order], y[order][:, rng.permutation(100)])
    assert again is not None
    assert again.statistic == pytest.approx(found.statistic, rel=1e-4)


def test_nothing_is_said_of_no_rows_or_of_keys_alone():
    rng = np.random.default_rng(4)
    rows = numbers(rng, 100)
    reference = reference_of(rows, words_for(rng, 100))
    cells = cells_of(reference, rows, rng)
    assert discrepancy(reference, cells, cells[:, :0]) is None
    assert discrepancy(reference, cells[:, :0], cells) is None
    keys = Bins.of({}, {"id": {str(i): 1 for i in range(100)}})
    ids = np.full((1, 100), FIRST, np.uint8)
    assert discrepancy(Profile.of(keys, np.zeros((0, 100)), ids), ids, ids) is None
