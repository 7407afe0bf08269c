"""Corrections for many tests against SciPy, brute force and what they promise."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors.correction import benjamini_hochberg, bonferroni, holm

ALL = (bonferroni, holm, benjamini_hochberg)
laws = settings(max_examples=200, derandomize=True, deadline=None)
p_values = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 1.0]), st.just(np.nan)), min_size=1, max_size=7
).map(np.array)


def done(p: np.ndarray) -> np.ndarray:
    return p[~np.isnan(p)]


@laws
@given(p_values)
def test_benjamini_hochberg_is_scipys(p: np.ndarray):
    if done(p).size:
        assert done(benjamini_hochberg(p)) == pytest.approx(stats.false_discovery_control(done(p), method="bh"))


@laws
@given(p_values)
def test_holm_is_the_closed_test_of_bonferronis(p: np.ndarray):
    """A hypothesis falls when every set of hypotheses that holds it does: the largest of their Bonferroni values."""
    tests = done(p)
    sets = [chosen for size in range(1, tests.size + 1) for chosen in combinations(range(tests.size), size)]
    wanted = [max(min(tests[list(s)].min() * len(s), 1.0) for s in sets if i in s) for i in range(tests.size)]
    assert done(holm(p)) == pytest.approx(wanted)


@laws
@given(p_values)
def test_bonferroni_is_times_the_number_of_tests(p: np.ndarray):
    assert done(bonferroni(p)) == pytest.approx([min(value * done(p).size, 1.0) for value in done(p)])


@laws
@given(p_values, st.randoms(use_true_random=False))
@pytest.mark.parametrize("correct", ALL)
def test_every_correction_keeps_places_order_and_bounds(
    correct: Callable[[np.ndarray], np.ndarray], p: np.ndarray, shuffle
):
    adjusted = correct(p)
    assert adjusted.shape == p.shape
    assert (np.isnan(adjusted) == np.isnan(p)).all()
    assert ((done(adjusted) >= done(p) - 1e-15) & (done(adjusted) <= 1)).all()
    order = np.argsort(done(p), kind="stable")
    assert (np.diff(done(adjusted)[order]) >= 0).all()
    turned = list(range(p.size))
    shuffle.shuffle(turned)
    np.testing.assert_allclose(correct(p[turned]), adjusted[turned])
    columns = np.stack((p, p))
    assert correct(columns).shape == columns.shape
    assert (done(holm(p)) <= done(bonferroni(p)) + 1e-15).all()
    assert (done(benjamini_hochberg(p)) <= done(holm(p)) + 1e-15).all()


@pytest.mark.parametrize("correct", ALL)
def test_no_tests_are_no_trouble(correct: Callable[[np.ndarray], np.ndarray]):
    assert correct(np.zeros(0)).size == 0
    assert np.isnan(correct(np.full(3, np.nan))).all()


@pytest.mark.parametrize("correct", [bonferroni, holm])
def test_without_drift_so_few_windows_have_an_alarm(correct: Callable[[np.ndarray], np.ndarray]):
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(3_000, 1))
    p = stats.norm.sf(0.6 * shared + 0.8 * rng.normal(size=(3_000, 20)))  # columns that move together
    alarms = sum(bool((correct(window) <= 0.05).any()) for window in p)
    assert alarms <= stats.binom.isf(1e-4, 3_000, 0.05)


def test_the_share_of_false_alarms_among_alarms_is_held():
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(1_500):
        p = stats.norm.sf(rng.normal(size=40) + 3.0 * (np.arange(40) < 10))
        alarms = benjamini_hochberg(p) <= 0.1
        shares.append(alarms[10:].sum() / max(alarms.sum(), 1))
    assert np.mean(shares) == pytest.approx(0.1 * 30 / 40, abs=0.01)
