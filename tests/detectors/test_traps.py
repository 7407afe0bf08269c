"""Traps that other drift libraries fall into, each by name: outliers, gaps, infinities, ties, closure, few rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from detectors import REGISTRY, Pair, Score
from detectors.correction import holm
from detectors.table import Table
from tests.detectors.samples import Rows, compared, frequencies

RANKS = ("ks", "kuiper", "cvm", "ad", "psi", "kl", "js", "hellinger", "tv", "chi2", "g", "cramers_v", "chi2_pooled")
DISTANCES = ("wasserstein", "energy")
TESTS = ("ks", "kuiper", "cvm", "ad", "chi2_pooled", "psi", "js")


def scores(reference: Rows, current: Rows) -> dict[str, Score]:
    pair = compared(reference, current)
    return {name: detector.score(pair) for name, detector in REGISTRY.items()}


def of_numbers(reference: np.ndarray, current: np.ndarray) -> dict[str, Score]:
    return scores({"x": reference}, {"x": current})


# Outliers


@pytest.mark.parametrize("outlier", [1e6, -1e6, 1e300])
@pytest.mark.parametrize("n", [1_000, 20_000])
def test_one_absurd_value_in_the_reference_hides_no_shift(outlier: float, n: int):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.normal(1, size=1_000)
    clean, attacked = of_numbers(x, y), of_numbers(np.append(x, outlier), y)
    for name in (*RANKS, *DISTANCES):
        assert attacked[name].statistic[0] == pytest.approx(clean[name].statistic[0], rel=0.03, abs=0.01), name
    for name in (*TESTS, "mean"):
        assert attacked[name].p_value[0] < 1e-6, name
    assert attacked["mean"].statistic[0] == pytest.approx(1, abs=0.2)
    # The reference's own deviation is the only thing an outlier can move, by at most 128 robust deviations of one row.
    bound = math.sqrt(1 + 128**2 / n) * 1.1
    for name, power in (("wasserstein", 1), ("energy", 0.5), ("mean", 1)):
        assert attacked[name].effect[0] > clean[name].effect[0] / bound**power * 0.8


@pytest.mark.parametrize("outlier", [1e6, -1e6, np.inf])
def test_one_absurd_current_value_neither_hides_a_shift_nor_makes_one(outlier: float):
    rng = np.random.default_rng(4)
    x, same, moved = rng.normal(size=5_000), rng.normal(size=1_000), rng.normal(0.5, size=1_000)
    still, drifting = of_numbers(x, np.append(same, outlier)), of_numbers(x, np.append(moved, outlier))
    for name in (*TESTS, "mean"):
        assert still[name].p_value[0] > 0.01, name
        # One row drawn in to 128 deviations moves the mean of a thousand by an eighth of one.
        assert drifting[name].p_value[0] < (0.01 if name == "mean" else 1e-6), name
    for name in RANKS:
        assert still[name].effect[0] < 0.1, name


# Missing values


def test_missing_values_are_left_out_and_told_never_silence():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=2_000), rng.normal(3, size=2_000)
    gaps = np.concatenate((y, np.full(500, np.nan)))
    holed = np.concatenate((x, np.full(500, np.nan)))
    whole, with_gaps = of_numbers(x, y), of_numbers(holed, gaps)
    for name in (*RANKS, *DISTANCES, "mean"):
        assert with_gaps[name].statistic[0] == whole[name].statistic[0], name
        assert with_gaps[name].p_value[0] < 1e-9 or name in DISTANCES, name
    assert with_gaps["missing"].statistic[0] == 0.2
    assert of_numbers(x, gaps)["missing"].p_value[0] < 1e-9


def test_a_window_of_nothing_but_missing_values_is_unknown_with_a_reason_and_an_alarm_of_missing():
    found = of_numbers(np.arange(1_000.0), np.full(200, np.nan))
    assert found["ks"].reason(0) == "no value of this column in the current rows"
    assert np.isnan(found["psi"].p_value[0])
    assert found["missing"].statistic[0] == 1
    assert found["missing"].p_value[0] < 1e-100


# Infinities


def test_infinities_are_far_values_for_every_detector_alike():
    rng = np.random.default_rng(6)
    x = rng.normal(size=5_000)
    y = np.append(rng.normal(size=900), np.full(100, np.inf))
    found = of_numbers(x, y)
    assert found["out_of_range"].statistic[0] == pytest.approx(0.1, abs=0.005)
    assert found["ks"].statistic[0] == pytest.approx(stats.ks_2samp(x, y).statistic, rel=0.02)
    for name in ("ks", "chi2_pooled", "out_of_range"):
        assert found[name].p_value[0] < 1e-6, name
    for name in (*DISTANCES, "mean", "variance"):
        assert np.isfinite(found[name].statistic[0]), name
    assert abs(found["mean"].effect[0]) < 0.15  # of the finite values


def test_a_reference_with_infinities_still_measures():
    rng = np.random.default_rng(7)
    x = np.append(rng.normal(size=2_000), [np.inf, -np.inf, np.inf])
    still, moved = of_numbers(x, rng.normal(size=1_000)), of_numbers(x, rng.normal(0.5, size=1_000))
    assert still["ks"].p_value[0] > 0.01
    assert moved["ks"].p_value[0] < 1e-9
    assert moved["wasserstein"].effect[0] == pytest.approx(0.5, abs=0.1)


# Ties


@pytest.mark.parametrize("values", [2, 3, 5])
@pytest.mark.parametrize(("n", "m"), [(1_000, 50), (300, 300), (100, 2_000)])
def test_ties_make_no_rank_test_anti_conservative(values: int, n: int, m: int):
    rng = np.random.default_rng(values * n)
    reference = {str(i): rng.integers(0, values, n).astype(float) for i in range(400)}
    pair = Pair.of_numbers(reference, {name: rng.integers(0, values, m).astype(float) for name in reference})
    for name in ("ks", "kuiper", "cvm", "ad", "chi2_pooled"):
        p_values = REGISTRY[name].score(pair).p_value
        assert np.sum(p_values <= 0.05) <= stats.binom.isf(1e-4, 400, 0.055), name


def test_nor_do_ties_hide_a_change_from_the_test_for_them():
    rng = np.random.default_rng(8)
    found = of_numbers((rng.random(5_000) < 0.1).astype(float), (rng.random(1_000) < 0.16).astype(float))
    assert found["chi2_pooled"].p_value[0] < 1e-6
    assert found["ad"].p_value[0] < 1e-6


# Closed on the right


def test_whole_numbers_moved_by_a_half_change_cells_like_any_other_shift():
    rng = np.random.default_rng(9)
    x, y = (rng.poisson(4, n).astype(float) for n in (20_000, 10_000))
    for shift in (-0.5, 0.5):
        found = of_numbers(x, y + shift)
        assert found["ks"].statistic[0] == pytest.approx(stats.ks_2samp(x, y + shift).statistic, abs=0.005)
        assert found["wasserstein"].statistic[0] == pytest.approx(0.5, abs=0.06)


def test_a_value_on_a_border_belongs_to_the_interval_below_it_on_both_sides():
    x = np.arange(1.0, 11.0)
    found = of_numbers(np.repeat(x, 100), np.repeat(x, 7))
    for name in ("psi", "js", "hellinger", "tv", "chi2", "ks", "wasserstein"):
        assert found[name].statistic[0] == pytest.approx(0, abs=2e-2 if name == "psi" else 1e-9), name
    beyond = of_numbers(np.repeat(x, 100), np.nextafter(np.repeat(x, 7), np.inf))
    assert beyond["ks"].statistic[0] == pytest.approx(0.1)


# Tables


def test_one_unseen_row_does_not_make_a_table_drift():
    reference = {"x": {"a": 50_000, "b": 30_000, "c": 20_000}}
    pair = Pair.of_words(reference, {"x": {"a": 500, "b": 300, "c": 199, "new": 1}})
    for name in ("chi2_pooled", "psi", "js", "chi2", "g"):  # SciPy's chi-square says 1e-23
        # 1 of 1000 after none of 100,000 has a chance of 1 %, as `unseen` says; here two-sided, and one of two tests.
        assert REGISTRY[name].score(pair).p_value[0] == pytest.approx(4 / 101, rel=0.01)
    assert REGISTRY["unseen"].score(pair).statistic[0] == 0.001
    assert 0.005 < REGISTRY["unseen"].score(pair).p_value[0] < 0.02  # 1 of 1000 after none of 100,000
    assert REGISTRY["psi"].score(pair).statistic[0] < 0.01


def test_many_new_words_do():
    pair = Pair.of_words({"x": {"a": 50_000, "b": 50_000}}, {"x": {"a": 450, "b": 450, "new": 100}})
    for name in ("chi2_pooled", "psi", "unseen"):
        assert REGISTRY[name].score(pair).p_value[0] < 1e-100, name


def test_a_rare_word_that_becomes_frequent_does():
    pair = Pair.of_words({"x": {"a": 50_000, "b": 49_900, "c": 100}}, {"x": {"a": 450, "b": 450, "c": 100}})
    for name in ("chi2_pooled", "psi"):
        assert REGISTRY[name].score(pair).p_value[0] < 1e-100, name


def test_the_references_own_noise_counts():
    """Against expectations taken for exact, 0.3 of still columns would drift at equally many rows on both sides."""
    rng = np.random.default_rng(10)
    sides = [{str(i): frequencies(rng.integers(0, 5, 1_000).astype(str)) for i in range(400)} for _ in range(2)]
    p_values = REGISTRY["chi2"].score(Pair.of_words(*sides)).p_value
    assert np.mean(p_values <= 0.05) < 0.09


def test_an_empty_column_and_one_word_are_no_error():
    pair = Pair.of_words({"x": {}, "y": {"a": 3}}, {"x": {}, "y": {"a": 9}})
    found = REGISTRY["chi2"].score(pair)
    assert np.isnan(found.statistic[0])
    assert (found.statistic[1], found.p_value[1]) == (0, 1)


def test_the_jensen_shannon_distance_is_in_bits():
    pair = Pair.of_words({"x": {"a": 300, "b": 700}}, {"x": {"a": 600, "b": 400}})
    p, q = np.array([0.3, 0.7]), np.array([0.6, 0.4])
    middle = (p + q) / 2
    nats = (special.rel_entr(p, middle) + special.rel_entr(q, middle)).sum() / 2
    found = REGISTRY["js"].score(pair).statistic[0]
    assert found == pytest.approx(math.sqrt(nats / math.log(2)))
    assert found * math.sqrt(math.log(2)) == pytest.approx(math.sqrt(nats))


# Constants


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e12])
def test_constants_of_any_size_compare_without_a_floor(scale: float):
    constant, other, varied = np.full(500, 3.0) * scale, np.full(200, 4.0) * scale, np.arange(1.0, 201.0) * scale
    same = of_numbers(constant, np.full(200, 3.0) * scale)
    for name in ("ks", "kuiper", "psi", "js", "wasserstein", "energy", "mean", "constant", "out_of_range"):
        assert same[name].statistic[0] == 0, name
        assert not same[name].p_value[0] < 1, name
    moved = of_numbers(constant, other)
    assert moved["ks"].statistic[0] == 1
    assert moved["wasserstein"].statistic[0] == pytest.approx(scale, rel=2e-3)
    assert np.isnan(moved["wasserstein"].effect[0])  # there is no deviation to measure it by
    for name in ("ks", "kuiper", "cvm", "ad", "out_of_range"):
        assert moved[name].p_value[0] < 1e-6, name
    free = of_numbers(constant, varied)
    assert free["ks"].p_value[0] < 1e-6
    assert free["constant"].statistic[0] == 0
    stuck = of_numbers(varied, np.full(100, 7.0) * scale)
    assert (stuck["constant"].statistic[0], stuck["constant"].p_value[0] < 1e-6) == (1, True)
    assert np.isnan(stuck["variance"].effect[0])


def test_a_hardly_moving_value_is_not_called_stuck():
    found = of_numbers(np.random.default_rng(0).normal(size=1_000), np.linspace(0.0, 0.002, 50))
    assert found["constant"].statistic[0] == 0


# Few rows, fixed cut-offs, many columns


@pytest.mark.parametrize(("n", "m"), [(100, 100), (10_000, 200)])
def test_a_fixed_cut_off_on_a_distance_alarms_at_few_rows_and_its_p_value_does_not(n: int, m: int):
    rng = np.random.default_rng(m)
    sides = [{str(i): frequencies(rng.integers(0, 20, k).astype(str)) for i in range(200)} for k in (n, m)]
    pair = Pair.of_words(*sides)
    psi = REGISTRY["psi"].score(pair)
    assert np.mean(psi.statistic) == pytest.approx(19 * (1 / n + 1 / m), rel=0.15)
    assert np.mean(psi.statistic > 0.1) > 0.3
    assert np.sum(psi.p_value <= 0.05) <= stats.binom.isf(1e-4, 200, 0.055)


@pytest.mark.parametrize("m", [50, 200, 1_000])
def test_of_fifty_still_columns_a_corrected_window_hardly_ever_alarms(m: int):
    rng = np.random.default_rng(m)
    alarms = 0
    for _ in range(40):
        reference: Rows = {f"x{i}": rng.normal(size=2_000) for i in range(20)}
        reference = reference | {f"k{i}": rng.poisson(2, 2_000).astype(float) for i in range(10)}
        reference = reference | {f"w{i}": rng.integers(0, 5 + 20 * i, 2_000).astype(str) for i in range(10)}
        current = {name: rng.permutation(values)[:m] for name, values in _again(rng, reference).items()}
        found = scores(reference, current)
        p_values = [
            found[name].p_value for name in ("ks", "chi2_pooled", "missing", "unseen", "out_of_range", "constant")
        ]
        alarms += bool((holm(np.stack(p_values)) <= 0.05).any())
    assert alarms <= stats.binom.isf(1e-3, 40, 0.05)


def _again(rng: np.random.Generator, reference: Rows) -> Rows:
    """A fresh sample of the same laws."""
    fresh: dict[str, np.ndarray] = {}
    for i, (name, values) in enumerate(reference.items()):
        if name[0] == "x":
            fresh[name] = rng.normal(size=values.size)
        elif name[0] == "k":
            fresh[name] = rng.poisson(2, values.size).astype(float)
        else:
            fresh[name] = rng.integers(0, 5 + 20 * (i - 30), values.size).astype(str)
    return fresh


def test_a_yes_no_column_of_rare_events_does_not_fool_the_mean():
    """Welch's test alone calls half of these drifting: most windows hold no event, so they have no variance."""
    rng = np.random.default_rng(12)
    reference = {str(i): (rng.random(1_000) < 0.01).astype(float) for i in range(300)}
    pair = Pair.of_numbers(reference, {name: (rng.random(50) < 0.01).astype(float) for name in reference})
    assert np.sum(REGISTRY["mean"].score(pair).p_value <= 0.05) <= stats.binom.isf(1e-4, 300, 0.055)


# What the reference chose by its own rows


@pytest.mark.parametrize(("n", "m"), [(60, 600), (200, 2_000)])
def test_deciles_cut_from_a_small_reference_do_not_pass_for_exact_tenths(n: int, m: int):
    rng = np.random.default_rng(n)
    reference = {str(i): rng.random(n) for i in range(3_000)}
    pair = Pair.of_numbers(reference, {name: rng.random(m) for name in reference})
    for name in ("chi2", "g", "chi2_pooled"):
        p_values = REGISTRY[name].score(pair).p_value
        for level in (0.01, 0.05):
            assert np.sum(p_values <= level) <= stats.binom.isf(1e-4, 3_000, 1.05 * level), (name, level)


@pytest.mark.parametrize(("n", "m"), [(50, 200), (50, 5_000), (100, 1_000)])
def test_nor_if_the_window_is_many_times_the_reference(n: int, m: int):
    rng = np.random.default_rng(m)
    ends = -(-np.arange(1, 11) * n // 10)
    held = np.diff(ends, prepend=0).astype(float)
    gaps = rng.gamma(held + (ends == n), size=(60_000, 10))  # between the reference's own values, so are true shares
    current = rng.multinomial(m, gaps / gaps.sum(axis=1, keepdims=True)).astype(float)
    p_values = Table(np.tile(held, (60_000, 1)), current, deciles=True).p_pooled
    for level in (0.01, 0.05):
        assert np.sum(p_values <= level) <= stats.binom.isf(1e-4, 60_000, 1.2 * level), level


def test_the_words_that_made_it_into_the_vocabulary_are_not_taken_for_as_frequent_as_they_were():
    """Of a thousand equal words the 252 commonest are so by luck, and fall back in every window."""
    rng = np.random.default_rng(13)
    draws = []
    for _ in range(60):
        sides = (dict(enumerate(rng.multinomial(rows, [1e-3] * 1_000).tolist())) for rows in (100_000, 50_000))
        pair = Pair.of_words(*({"x": {str(word): count for word, count in side.items()}} for side in sides))
        draws.append(REGISTRY["chi2"].score(pair).p_value[0])
    assert np.sum(np.array(draws) <= 0.05) <= stats.binom.isf(1e-4, 60, 0.055)
