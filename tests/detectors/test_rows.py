"""The statistics on rows against SciPy: ties, infinities, a single row, unequal sizes, and tails where alarms live."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors import REGISTRY, Pair
from detectors.rows import EXACT_ROWS, KERNELS, RowScore, score_rows
from tests.detectors.samples import bins_of, compared, profile

laws = settings(max_examples=150, derandomize=True, deadline=None)
finite = st.floats(-1e6, 1e6, width=32)
values = st.one_of(st.integers(-3, 3).map(float), finite)
samples = st.lists(values, min_size=1, max_size=60).map(lambda v: np.sort(np.array(v, np.float64)))
with_infinities = st.lists(
    st.one_of(values, st.sampled_from([np.inf, -np.inf])), min_size=1, max_size=40
).map(lambda v: np.sort(np.array(v, np.float64)))  # fmt: skip


def scored(name: str, x: np.ndarray, y: np.ndarray) -> RowScore:
    return score_rows(np.sort(x), np.sort(y), [name])[name]


def brute_gaps(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    at = np.concatenate((x, y))
    return np.array([np.mean(x <= v) - np.mean(y <= v) for v in at])


@laws
@given(with_infinities, with_infinities)
@example(np.array([0.0]), np.array([0.0]))
@example(np.array([0.0]), np.arange(40.0))
@example(np.arange(70.0), np.array([-np.inf]))
def test_kolmogorov_smirnov_and_kuiper_are_the_largest_gaps(x: np.ndarray, y: np.ndarray):
    gaps = brute_gaps(x, y)
    assert scored("ks", x, y).statistic == pytest.approx(np.abs(gaps).max(), abs=1e-12)
    assert scored("kuiper", x, y).statistic == pytest.approx(max(gaps.max(), 0) + max(-gaps.min(), 0), abs=1e-12)


@laws
@given(samples, samples)
def test_kolmogorov_smirnovs_p_value_is_scipys_exact_one(x: np.ndarray, y: np.ndarray):
    found = scored("ks", x, y)
    if found.statistic * math.lcm(x.size, y.size) < 1.5:  # no sample has less than one step; SciPy gives up here
        assert found.p_value == pytest.approx(1)
    else:
        exact = stats.ks_2samp(x, y, method="exact")
        assert found.p_value == pytest.approx(exact.pvalue, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(500, 500), (300, 700), (999, 1), (37, 963), (2, 998)])
@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5, 2.0])
def test_also_for_a_thousand_rows_and_where_it_is_tiny(n: int, m: int, shift: float):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.normal(shift, size=m)
    assert n + m == EXACT_ROWS
    exact = stats.ks_2samp(x, y, method="exact")
    assert scored("ks", x, y).p_value == pytest.approx(exact.pvalue, rel=1e-6)


def test_the_exact_chance_is_that_of_counting_all_orders():
    for n, m in ((1, 1), (2, 3), (4, 4), (3, 6)):
        orders = list(itertools.combinations(range(n + m), n))
        for x in orders[:: max(len(orders) // 12, 1)]:
            y = [place for place in range(n + m) if place not in x]
            d = np.abs(brute_gaps(np.array(x, float), np.array(y, float))).max()
            reach = sum(
                np.abs(brute_gaps(np.array(o, float), np.array([p for p in range(n + m) if p not in o], float))).max()
                >= d - 1e-12
                for o in orders
            )
            assert scored("ks", np.array(x, float), np.array(y, float)).p_value == pytest.approx(reach / len(orders))


@pytest.mark.parametrize(("n", "m"), [(600, 600), (2_000, 700), (3_000, 3_000), (5_000, 4_999)])
def test_beyond_that_the_limiting_law_is_near_the_exact_one(n: int, m: int):
    for at in (0.9, 1.36, 1.63, 2.2):  # p from 0.4 to 1e-4
        height = round(at * math.sqrt((n + m) / (n * m)) * n)
        x = np.arange(float(n))
        # The smallest `height` current rows lie above all: a sample of just the wanted distance.
        y = np.sort(
            np.concatenate((np.linspace(height, n, m - round(height * m / n)), np.full(round(height * m / n), n + 1.0)))
        )
        found = scored("ks", x, y)
        wanted = stats.ks_2samp(x, y, method="exact")
        assert found.statistic == pytest.approx(wanted.statistic)
        assert found.p_value == pytest.approx(wanted.pvalue, rel=0.03)


def test_and_a_chance_of_one_in_a_trillion_is_not_lost():
    rng = np.random.default_rng(2)
    x = rng.normal(size=20_000)
    for shift in (0.095, 0.15, 0.25):
        y = rng.normal(shift, size=10_000)
        found, scipys = scored("ks", x, y).p_value, stats.ks_2samp(x, y, method="asymp").pvalue
        assert 0 < found < 1e-8
        assert math.log(found) == pytest.approx(math.log(scipys), rel=5e-3)


@laws
@given(samples, samples)
def test_distances_in_the_columns_unit_are_scipys(x: np.ndarray, y: np.ndarray):
    scale = max(np.abs(x).max(), np.abs(y).max(), 1)
    assert scored("wasserstein", x, y).statistic == pytest.approx(stats.wasserstein_distance(x, y), abs=1e-9 * scale)
    energy = stats.energy_distance(x, y)
    assert scored("energy", x, y).statistic == pytest.approx(energy, rel=1e-6, abs=1e-6 * math.sqrt(scale))
    quartile = np.quantile(x, [0.25, 0.5, 0.75], method="inverted_cdf")
    if np.abs(x - quartile[1]).max() < 90 * (quartile[2] - quartile[0]):  # no outlier to be drawn in
        effect = scored("wasserstein", x, y).effect
        assert effect == pytest.approx(stats.wasserstein_distance(x, y) / x.std(), rel=1e-6, abs=1e-9)


@laws
@given(with_infinities, with_infinities)
def test_infinities_give_no_warning_and_no_effect_out_of_bounds(x: np.ndarray, y: np.ndarray):
    for name, found in score_rows(x, y, list(KERNELS)).items():
        assert math.isnan(found.p_value) or 0 <= found.p_value <= 1, name
        assert not math.isinf(found.effect)
        assert (found.reason is not None) == math.isnan(found.statistic)
        assert (found.n_reference, found.n_current) == (x.size, y.size)


def test_a_shared_infinity_is_no_distance_and_a_lone_one_is_infinite():
    x = np.array([-np.inf, 0.0, 1.0, np.inf])
    assert scored("wasserstein", x, x).statistic == 0
    assert scored("energy", x, x).statistic == 0
    assert scored("wasserstein", x, np.arange(4.0)).statistic == np.inf
    assert math.isnan(scored("wasserstein", x, np.arange(4.0)).effect)


@laws
@given(samples, samples)
def test_anderson_darling_is_scipys_with_and_without_ties(x: np.ndarray, y: np.ndarray):
    found = scored("ad", x, y)
    if x.size + y.size < 4 or np.unique(np.concatenate((x, y))).size == 1:
        assert math.isnan(found.statistic)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy's p-values come from a short table
        wanted = stats.anderson_ksamp([x, y], variant="midrank").statistic
    assert found.statistic == pytest.approx(wanted, rel=1e-7, abs=1e-7)


@laws
@given(samples, samples)
def test_cramer_von_mises_is_scipys_without_ties(x: np.ndarray, y: np.ndarray):
    pooled = np.concatenate((x, y))
    if np.unique(pooled).size == pooled.size and min(x.size, y.size) > 1:  # SciPy wants two rows
        wanted = stats.cramervonmises_2samp(x, y, method="asymptotic").statistic
        assert scored("cvm", x, y).statistic == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=3), st.lists(st.integers(0, 2), min_size=1, max_size=3))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_cramer_von_mises_on_cells_is_the_mean_over_the_orders_of_ties(x: list[int], y: list[int]):
    n, m = len(x), len(y)
    totals = []
    for order in itertools.permutations(range(n + m)):
        if [(x + y)[i] for i in order] == sorted(x + y):
            gap = itertools.accumulate(Fraction(1, n) if i < n else Fraction(-1, m) for i in order)
            totals.append(sum(g * g for g in gap) * Fraction(n * m, (n + m) ** 2))
    wanted = sum(totals) / len(totals)
    bins = bins_of({"x": np.array([0.0, 1.0, 2.0])})
    sides = (profile(bins, {"x": np.array(values, float)}) for values in (x, y))
    assert REGISTRY["cvm"].score(Pair(*sides)).statistic[0] == pytest.approx(float(wanted))


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.lists(st.integers(0, 5), min_size=2, max_size=40))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_cramer_von_mises_on_rows_has_scipys_midranks(x: list[int], y: list[int]):
    wanted = stats.cramervonmises_2samp(x, y, method="asymptotic").statistic
    assert scored("cvm", np.array(x, float), np.array(y, float)).statistic == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3])
def test_p_values_of_the_rank_statistics_are_near_scipys(shift: float):
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=3_000), rng.normal(shift, size=2_000)
    cvm = stats.cramervonmises_2samp(x, y, method="asymptotic").pvalue
    found = scored("cvm", x, y).p_value
    assert found == pytest.approx(cvm, rel=0.02, abs=2e-10)  # SciPy's series loses its figures below 1e-10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ad = stats.anderson_ksamp([x, y], variant="midrank").pvalue
    assert min(max(scored("ad", x, y).p_value, 0.001), 0.25) == pytest.approx(ad, rel=0.05)  # SciPy's table ends there


@pytest.mark.parametrize("name", KERNELS)
def test_one_row_a_side_is_enough_and_none_is_a_reason(name: str):
    one, none = np.array([1.0]), np.zeros(0)
    assert scored(name, one, np.array([3.0])).n_current == 1
    assert "current rows" in str(scored(name, one, none).reason)
    assert "the reference holds no value" in str(scored(name, none, one).reason)
    assert math.isnan(scored(name, none, none).statistic)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("draw", ["continuous", "ties"])
def test_rows_and_cells_agree_where_every_value_has_a_cell(name: str, draw: str):
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=120), rng.normal(0.4, size=110)
    if draw == "ties":
        x, y = x.round(), y.round()
    both = {"x": np.concatenate((x, y))}
    bins = bins_of(both)
    cells = REGISTRY[name].score(Pair(profile(bins, {"x": x}), profile(bins, {"x": y})))
    rows = scored(name, x, y)
    if (name, draw) != ("cvm", "ties"):  # rows have SciPy's midranks there, cells the mean over all orders
        assert rows.statistic == pytest.approx(cells.statistic[0], rel=1e-6)
    if name != "ks":  # exact on rows; the cells of `ad` know no difference between one row and a short tie
        assert rows.p_value == pytest.approx(cells.p_value[0], rel=0.15 if name == "ad" else 1e-6, nan_ok=True)
    assert rows.effect == pytest.approx(cells.effect[0], rel=1e-2)


def test_an_outlier_of_the_reference_does_not_shrink_the_effect():
    rng = np.random.default_rng(1)
    x, y = np.append(rng.normal(size=100_000), 1e9), rng.normal(1, size=1_000)
    assert scored("wasserstein", x, y).effect > 0.8 * 1e4  # the outlier itself is 1e9 / 1e5 away, and is told
    pair = compared({"x": x}, {"x": y})
    assert REGISTRY["wasserstein"].score(pair).effect[0] == pytest.approx(1, abs=0.15)


def test_an_unknown_statistic_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"named kss; there are ks, kuiper"):
        score_rows(np.zeros(1), np.zeros(1), ["ks", "kss"])


DRAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "continuous": lambda rng, n: rng.normal(size=n),
    "few values": lambda rng, n: rng.poisson(1, n).astype(float),
    "yes or no": lambda rng, n: (rng.random(n) < 0.2).astype(float),
}


@pytest.mark.parametrize("law", DRAWS)
@pytest.mark.parametrize(("n", "m"), [(60, 60), (40, 300)])
def test_without_drift_small_p_values_are_no_oftener_than_they_say(law: str, n: int, m: int):
    rng = np.random.default_rng(n + m)
    draws = [score_rows(np.sort(DRAWS[law](rng, n)), np.sort(DRAWS[law](rng, m)), list(KERNELS)) for _ in range(500)]
    for name in ("ks", "kuiper", "cvm", "ad"):
        p_values = np.array([each[name].p_value for each in draws])
        for level in (0.01, 0.05):
            with np.errstate(invalid="ignore"):
                assert (p_values <= level).sum() <= stats.binom.isf(1e-5, 500, 1.1 * level), name
