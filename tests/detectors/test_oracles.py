"""Every statistic against SciPy, brute force, closed forms or a peer: never against ourselves."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats
from scipy.spatial import distance

from detectors import REGISTRY, Pair, Profile
from detectors.cells import RARE, UNSEEN
from tests.detectors.samples import bins_of, compared, normal_grid, profile

laws = settings(max_examples=40, derandomize=True, deadline=None)
few_valued = st.lists(st.integers(0, 9).map(float), min_size=12, max_size=80).map(np.array)
counted = st.lists(st.integers(0, 60), min_size=2, max_size=12)


def found(name: str, pair: Pair) -> tuple[float, float, float]:
    score = REGISTRY[name].score(pair)
    return float(score.statistic[0]), float(score.p_value[0]), float(score.effect[0])


def statistic(name: str, reference: np.ndarray, current: np.ndarray) -> float:
    return found(name, compared({"x": reference}, {"x": current}))[0]


def of_counts(reference: list[int], current: list[int]) -> Pair:
    sides = ({f"w{i}": count for i, count in enumerate(side) if count} for side in (reference, current))
    return Pair.of_words(*({"x": side} for side in sides))


def kuiper(x: np.ndarray, y: np.ndarray) -> float:
    at = np.concatenate((x, y))
    gap = [np.searchsorted(np.sort(side), at, "right") / side.size for side in (x, y)]
    return max((gap[0] - gap[1]).max(), 0) + max((gap[1] - gap[0]).max(), 0)


def anderson_darling(x: np.ndarray, y: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy's p-values come from a short table
        return float(stats.anderson_ksamp([x, y], variant="midrank").statistic)


ON_ROWS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "ks": lambda x, y: stats.ks_2samp(x, y).statistic,
    "kuiper": kuiper,
    "ad": anderson_darling,
    "wasserstein": stats.wasserstein_distance,
    "energy": stats.energy_distance,
    "mean": lambda x, y: y.mean() - x.mean(),
    "variance": lambda x, y: y.var(ddof=1) / x.var(ddof=1),
}


# Numbers


@laws
@given(few_valued, few_valued)
@pytest.mark.parametrize("name", ON_ROWS)
def test_on_few_valued_columns_nothing_is_lost_in_the_cells(name: str, reference: np.ndarray, current: np.ndarray):
    reference = np.concatenate((reference, np.arange(10.0)))  # so that every value has a cell
    wanted = ON_ROWS[name](reference, current)
    # The two that work in fixed point are as exact as 1/1024 of the reference's deviation.
    tolerance = 1e-3 * max(reference.std(), 1) if name in ("mean", "variance") else 1e-12
    assert statistic(name, reference, current) == pytest.approx(wanted, rel=1e-9, abs=tolerance)


CONTINUOUS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "uniform": lambda rng, n: rng.random(n),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "two peaks": lambda rng, n: rng.normal(size=n) + 6 * (rng.random(n) < 0.3),
}
SMALL, LARGE = [(0.0, 1.0), (0.1, 1.0), (0.5, 1.0)], [(0.0, 1.3), (3.0, 0.5), (-8.0, 1.0)]


def continuous(law: str, shift: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    return CONTINUOUS[law](rng, 20_000), shift + scale * CONTINUOUS[law](rng, 10_000)


@pytest.mark.parametrize("law", CONTINUOUS)
@pytest.mark.parametrize(("shift", "scale"), SMALL + LARGE)
def test_on_continuous_columns_the_cells_cost_little(law: str, shift: float, scale: float):
    x, y = continuous(law, shift, scale)
    critical = stats.kstwobign.isf(0.05) / math.sqrt(20_000 * 10_000 / 30_000)
    for name, exact in (("ks", stats.ks_2samp(x, y).statistic), ("kuiper", kuiper(x, y))):
        assert 0 <= exact - statistic(name, x, y) + 1e-12 <= (0.05 if name == "ks" else 0.1) * max(critical, exact)
    wasserstein, energy = stats.wasserstein_distance(x, y), stats.energy_distance(x, y)
    least = 0.005 * x.std() if (shift, scale) in SMALL else 0.08 * wasserstein  # crowded into the ends of the range
    assert abs(statistic("wasserstein", x, y) - wasserstein) <= least
    assert -0.03 * energy - 1e-3 < statistic("energy", x, y) - energy < 0.06 * energy + 1e-3
    t = stats.cramervonmises_2samp(x, y).statistic
    assert statistic("cvm", x, y) == pytest.approx(t, rel=0.01, abs=0.005)


@pytest.mark.parametrize("law", ["normal", "exponential", "two peaks"])
@pytest.mark.parametrize(("shift", "scale"), SMALL)
def test_nor_much_of_the_weight_of_the_tails(law: str, shift: float, scale: float):
    x, y = continuous(law, shift, scale)
    assert statistic("ad", x, y) == pytest.approx(anderson_darling(x, y), rel=0.02, abs=0.1)


TIED: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "yes and no": lambda rng, n: (rng.random(n) < 0.3).astype(float),
    "counts": lambda rng, n: rng.poisson(3, n).astype(float),
    "tenths": lambda rng, n: rng.normal(size=n).round(1),
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.8, 0.0, rng.exponential(size=n)),
    "large and whole": lambda rng, n: 1e9 + rng.normal(size=n).round(),
}
OFF_THEIR_VALUES: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "moved a little": lambda rng, y: y + 0.02,
    "moved far": lambda rng, y: y - 0.4,
    "stretched": lambda rng, y: y.mean() + 1.1 * (y - y.mean()),
    "no longer rounded": lambda rng, y: y + rng.uniform(-0.05, 0.05, y.size),
    "half of them": lambda rng, y: y + 0.3 * (rng.random(y.size) < 0.5),
    "to both sides": lambda rng, y: y + rng.choice([-0.1, 0.1], y.size),
}


@pytest.mark.parametrize("law", TIED)
@pytest.mark.parametrize("change", OFF_THEIR_VALUES)
def test_wasserstein_knows_where_tied_values_went(law: str, change: str):
    rng = np.random.default_rng(17)
    x, y = TIED[law](rng, 20_000), OFF_THEIR_VALUES[change](rng, TIED[law](rng, 10_000))
    exact = stats.wasserstein_distance(x, y)
    assert statistic("wasserstein", x, y) == pytest.approx(exact, abs=0.005 * x.std())


def test_what_lies_beyond_the_range_is_measured_to_the_row():
    x = np.random.default_rng(4).normal(size=5_000)
    for shift in (20.0, -50.0):
        assert statistic("wasserstein", x, x + shift) == pytest.approx(abs(shift), rel=2e-3)
        spread = np.abs(x[:2_000, None] - x[2_000:4_000]).mean()  # at most so much too high: all lie at their mean
        excess = statistic("energy", x, x + shift) ** 2 - stats.energy_distance(x, x + shift) ** 2
        assert -0.02 < excess < 1.05 * spread


@given(st.lists(st.integers(0, 3), min_size=2, max_size=4), st.lists(st.integers(0, 3), min_size=2, max_size=4))
@laws
def test_cramer_von_mises_on_ties_is_the_mean_over_all_their_orders(reference: list[int], current: list[int]):
    n, m = len(reference), len(current)
    orders = []
    for order in itertools.permutations(range(n + m)):  # every row apart, in every order that its value allows
        values = [(reference + current)[i] for i in order]
        if values == sorted(values):
            place = {row: rank for rank, row in enumerate(order)}
            x, y = ([float(place[i]) for i in rows] for rows in (range(n), range(n, n + m)))
            orders.append(_anderson_1962(sorted(x), sorted(y)))
    everywhere = np.arange(4.0)
    bins = bins_of({"x": everywhere})
    pair = Pair(*(profile(bins, {"x": np.array(side, float)}) for side in (reference, current)))
    value = float(REGISTRY["cvm"].score(pair).statistic[0])
    assert value == pytest.approx(float(np.mean(orders)), rel=1e-9, abs=1e-12)


def _anderson_1962(x: list[float], y: list[float]) -> float:
    n, m = len(x), len(y)
    pooled = sorted(x + y)
    u = n * sum((pooled.index(v) - i) ** 2 for i, v in enumerate(x))
    u += m * sum((pooled.index(v) - i) ** 2 for i, v in enumerate(y))
    return u / (n * m * (n + m)) - (4 * n * m - 1) / (6 * (n + m))


def test_cramer_von_mises_without_ties_is_scipys():
    x, y = np.arange(40.0) * 2, np.arange(25.0) * 3.1 + 0.05
    bins = bins_of({"x": np.sort(np.concatenate((x, y)))})
    pair = Pair(profile(bins, {"x": x}), profile(bins, {"x": y}))
    assert found("cvm", pair)[0] == pytest.approx(stats.cramervonmises_2samp(x, y).statistic, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (300, 40), (40, 300), (1_000, 5_000)])
def test_the_mean_has_the_larger_of_scipys_two_p_values(n: int, m: int):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.normal(0.15, 1.4, m)
    difference, p_value, effect = found("mean", compared({"x": x}, {"x": y}))
    wanted = max(stats.ttest_ind(x, y, equal_var=equal).pvalue for equal in (True, False))
    assert p_value == pytest.approx(wanted, rel=0.01)
    assert difference == pytest.approx(y.mean() - x.mean(), abs=1e-3)
    assert effect == pytest.approx((y.mean() - x.mean()) / x.std(), abs=1e-3)


def test_the_effect_of_a_change_of_spread_is_the_log_of_the_ratio_of_deviations():
    x = normal_grid(2_000)
    ratio, p_value, effect = found("variance", compared({"x": x}, {"x": 3 * x}))
    assert (ratio, effect) == (pytest.approx(9, rel=1e-3), pytest.approx(math.log(3), rel=1e-3))
    assert math.isnan(p_value)


# Tables


@laws
@given(counted, counted)
def test_tests_of_a_table_are_scipys(reference: list[int], current: list[int]):
    reference[0] += 1
    current[0] += 1
    pair = of_counts(reference, current)
    table = np.array([list(side) + [0] * (12 - len(side)) for side in (reference, current)])
    unseen = table[1, table[0] == 0].sum()  # all in one group
    table = np.column_stack((table[:, table[0] > 0], [0, unseen]))
    table = table[:, table.sum(axis=0) > 0]
    pearson = stats.chi2_contingency(table, correction=False)
    ratio = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
    chi2, p_chi2, effect = found("chi2", pair)
    g, p_g, _ = found("g", pair)
    assert chi2 == pytest.approx(pearson.statistic, rel=1e-9, abs=1e-9)
    assert g == pytest.approx(ratio.statistic, rel=1e-9, abs=1e-9)
    cramers_v = math.sqrt(chi2 / table.sum())
    assert effect == pytest.approx(cramers_v)
    assert found("cramers_v", pair)[0] == pytest.approx(cramers_v)
    if table.shape[1] == 1:
        assert (p_chi2, p_g) == (1.0, 1.0)
    elif pearson.expected_freq.min() >= 5:
        assert p_chi2 == pytest.approx(pearson.pvalue, rel=1e-9)
        assert p_g == pytest.approx(stats.chi2.sf(g / _williams(table), table.shape[1] - 1), rel=1e-9)
    else:
        assert p_chi2 == p_g == found("chi2_pooled", pair)[1]


def _williams(table: np.ndarray) -> float:
    total = table.sum()
    rows, columns = (total * (1 / table.sum(axis=axis)).sum() - 1 for axis in (1, 0))
    return 1 + rows * columns / (6 * total * (table.shape[1] - 1))


def test_pooled_chi_square_is_scipys_of_the_table_with_small_words_in_one_group():
    pair = of_counts([500, 300, 150, 4, 3, 2, 1], [200, 160, 30, 9, 8, 7, 0])
    gathered = np.array([[500, 300, 150, 10], [200, 160, 30, 24]])
    wanted = stats.chi2_contingency(gathered, correction=False)
    chi2, p_value, _ = found("chi2_pooled", pair)
    assert (chi2, p_value) == (pytest.approx(wanted.statistic), pytest.approx(wanted.pvalue))


@pytest.mark.parametrize("odd", [0, 1, 3, 9])
def test_pooled_chi_square_has_the_exact_chance_of_a_pool_that_is_too_small(odd: int):
    pair = of_counts([5_000, 3_000, 1_500, 2], [21, 19, 12, odd])
    n, m = 9_502, 52 + odd
    wanted = stats.chi2_contingency([[5_000, 3_000, 1_500, 2], [21, 19, 12, odd]], correction=False)
    among = stats.chi2_contingency([[5_000, 3_000, 1_500], [21, 19, 12]], correction=False)
    law = stats.binom(2 + odd, m / (n + m))
    exact = min(2 * min(law.sf(odd - 1), law.cdf(odd)), 1.0)
    chi2, p_value, _ = found("chi2_pooled", pair)
    assert chi2 == pytest.approx(wanted.statistic)
    assert p_value == pytest.approx(min(2 * min(among.pvalue, exact), 1.0))


def test_pooled_chi_square_keeps_a_frequent_new_word_apart():
    pair = Pair.of_words({"x": {"a": 500, "b": 500}}, {"x": {"a": 400, "b": 400, "new": 200}})
    wanted = stats.chi2_contingency([[500, 500, 0], [400, 400, 200]], correction=False)
    assert found("chi2_pooled", pair)[:2] == (pytest.approx(wanted.statistic), pytest.approx(wanted.pvalue))


def test_pooled_chi_square_of_few_numbers_merges_neighbouring_deciles():
    x, y = np.arange(1_000.0), np.arange(30.0) * 40  # 30 rows: groups of at least 5 of them, so of 167 of the reference
    borders = [199, 399, 599, 799]
    table = [np.diff(np.searchsorted(side, borders, "right"), prepend=0, append=side.size) for side in (x, y)]
    assert found("chi2_pooled", compared({"x": x}, {"x": y}))[0] == pytest.approx(
        stats.chi2_contingency(table, correction=False).statistic
    )


def deciles(reference: np.ndarray, current: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both sides between the reference's deciles, intervals closed on the right."""
    cuts = np.unique(np.quantile(reference, np.arange(1, 10) / 10, method="inverted_cdf"))
    cuts = cuts[cuts < reference.max()]
    sides = (np.bincount(np.searchsorted(cuts, side), minlength=cuts.size + 1) for side in (reference, current))
    return tuple(sides)  # type: ignore[return-value]


def on_shares(p: np.ndarray, q: np.ndarray) -> dict[str, float]:
    prior = 0.5 * (p + q > 0)
    smooth_p, smooth_q = ((side + prior) / (side + prior).sum() for side in (p, q))
    p, q = p / p.sum(), q / q.sum()
    return {
        "psi": float((special.rel_entr(smooth_q, smooth_p) + special.rel_entr(smooth_p, smooth_q)).sum()),
        "kl": float(special.rel_entr(smooth_q, smooth_p).sum()),
        "js": float(distance.jensenshannon(p, q, 2)),
        "hellinger": float(np.linalg.norm(np.sqrt(p) - np.sqrt(q)) / math.sqrt(2)),
        "tv": float(distance.cityblock(p, q) / 2),
    }


@pytest.mark.parametrize("law", [*CONTINUOUS, "counts", "rounded", "yes or no"])
@pytest.mark.parametrize("name", ["psi", "kl", "js", "hellinger", "tv"])
def test_divergences_of_numbers_are_exact_on_the_references_deciles(name: str, law: str):
    rng = np.random.default_rng(3)
    draw = CONTINUOUS | {
        "counts": lambda rng, n: rng.poisson(2, n).astype(float),
        "rounded": lambda rng, n: rng.normal(size=n).round(1),
        "yes or no": lambda rng, n: (rng.random(n) < 0.3).astype(float),
    }
    x, y = draw[law](rng, 3_333), 1.2 * draw[law](rng, 777)
    assert statistic(name, x, y) == pytest.approx(on_shares(*deciles(x, y))[name], rel=1e-9, abs=1e-9)


@laws
@given(counted, counted)
def test_divergences_of_words_are_those_of_the_table(reference: list[int], current: list[int]):
    reference = [count + 1 for count in reference]
    size = len(reference)
    known, new = (current + [0] * size)[:size], sum(current[size:])
    known[0] += 1
    pair = of_counts(reference, [*known, new])
    p, q = np.array([*reference, 0]), np.array([*known, new])
    for name, wanted in on_shares(p, q).items():
        assert found(name, pair)[0] == pytest.approx(wanted, rel=1e-9, abs=1e-7)


# Closed forms


@pytest.mark.parametrize("shift", [0.1, 0.5, 1.0])
def test_divergences_of_normal_laws_on_deciles_have_their_closed_form(shift: float):
    n = 200_000
    pair = compared({"x": normal_grid(n)}, {"x": normal_grid(n, shift)})
    cuts = stats.norm.ppf(np.arange(1, 10) / 10)
    p, q = np.full(10, 0.1), np.diff(stats.norm.cdf(cuts - shift), prepend=0.0, append=1.0)
    for name, wanted in on_shares(p * 1e9, q * 1e9).items():
        assert found(name, pair)[0] == pytest.approx(wanted, rel=2e-3)
    psi = found("psi", pair)[0]
    assert 0.85 * shift**2 < psi < shift**2  # (mu / sigma)^2, less what ten groups do not see


def test_distances_of_normal_laws_have_their_closed_forms():
    n, shift = 200_000, 0.3
    pair = compared({"x": normal_grid(n)}, {"x": normal_grid(n, shift)})
    gap = lambda x: stats.norm.cdf(x) - stats.norm.cdf(x - shift)  # noqa: E731
    assert found("ks", pair)[0] == pytest.approx(2 * stats.norm.cdf(shift / 2) - 1, abs=2e-3)
    assert found("wasserstein", pair)[0] == pytest.approx(shift, abs=5e-3)
    energy = math.sqrt(2 * integrate.quad(lambda x: gap(x) ** 2, -9, 9)[0])
    assert found("energy", pair)[0] == pytest.approx(energy, rel=5e-3)
    halves = lambda x: (stats.norm.pdf(x) + stats.norm.pdf(x - shift)) / 2  # noqa: E731
    cvm = math.sqrt(3 * integrate.quad(lambda x: gap(x) ** 2 * halves(x), -9, 9)[0])
    assert found("cvm", pair)[2] == pytest.approx(cvm, rel=5e-3)


def test_two_sides_of_one_size_without_a_common_cell_have_the_largest_effects():
    pair = compared({"x": normal_grid(500)}, {"x": normal_grid(500, 100.0)})
    assert found("ks", pair)[2] == found("kuiper", pair)[2] == 1
    assert found("tv", pair)[2] == pytest.approx(0.9)  # the last decile has no upper end
    assert found("cvm", pair)[2] == pytest.approx(1, abs=5e-3)
    x, y = np.arange(120.0), np.arange(200.0, 320.0)
    bins = bins_of({"x": np.concatenate((x, y))})
    apart = Pair(profile(bins, {"x": x}), profile(bins, {"x": y}))
    # A2 (1/n + 1/m) is the integral of min(u, 1 - u)^2 / (u (1 - u)), times 4.
    assert found("ad", apart)[2] == pytest.approx(2 * math.sqrt(2 * math.log(2) - 1), abs=0.03)
    assert found("ad", compared({"x": np.zeros(50)}, {"x": np.ones(50)}))[2] == pytest.approx(2, abs=0.02)


# Quality


@given(st.integers(0, 40), st.integers(0, 40), st.integers(41, 400), st.integers(41, 400))
@laws
def test_rates_have_the_exact_binomial_chance(a: int, b: int, n: int, m: int):
    rows = {"x": np.append(np.full(a, np.nan), np.arange(n - a, dtype=float))}
    now = {"x": np.append(np.full(b, np.nan), np.zeros(m - b))}
    law = stats.binom(a + b, m / (n + m)) if 2 * (a + b) <= n + m else stats.binom(n + m - a - b, m / (n + m))
    events = b if 2 * (a + b) <= n + m else m - b
    wanted = min(2 * min(law.sf(events - 1), law.cdf(events)), 1.0)
    share, p_value, effect = found("missing", compared(rows, now))
    assert (share, effect) == (pytest.approx(b / m), pytest.approx(b / m - a / n))
    assert p_value == pytest.approx(wanted, rel=1e-9)


@given(st.integers(0, 30), st.integers(50, 400), st.integers(31, 400))
@laws
def test_rows_out_of_range_are_tested_as_if_the_reference_had_two_more(b: int, n: int, m: int):
    x = np.arange(n, dtype=float)
    y = np.append(np.full(b, n + 5.0), np.zeros(m - b))
    share, p_value, effect = found("out_of_range", compared({"x": x}, {"x": y}))
    assert (share, effect) == (pytest.approx(b / m), pytest.approx(b / m - 2 / (n + 1)))
    # At least b of b + 2 events fall among the m of n + m, or: the third failure comes after them.
    assert p_value == pytest.approx(stats.nbinom.sf(b - 1, 3, n / (n + m)) if b else 1.0, rel=1e-9)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(21, 200))
@laws
def test_unseen_words_are_tested_against_the_words_that_occur_once(singles: int, b: int, m: int):
    reference = {"known": 100} | {f"single {i}": 1 for i in range(singles)}
    n = 100 + singles
    share, p_value, effect = found("unseen", Pair.of_words({"x": reference}, {"x": {"known": m - b, "new": b}}))
    assert (share, effect) == (pytest.approx(b / m), pytest.approx(b / m - singles / n))
    wanted = stats.nbinom.sf(b - 1, singles + 1, n / (n + m)) if b else 1.0
    assert p_value == pytest.approx(wanted, rel=1e-9)


def test_the_chance_of_a_new_word_is_right_where_not_all_words_are_remembered():
    rng = np.random.default_rng(5)
    shares, new = [], []
    for _ in range(3):
        reference, current = (rng.integers(0, 15_000, n).astype(str) for n in (30_000, 5_000))
        bins = bins_of({"x": reference})
        assert bins.categorical[0].n_regular + len(bins.categorical[0].rare) < len(set(reference))
        shares.append(bins.categorical[0].singleton_share)
        new.append(profile(bins, {"x": current}).counts[0, UNSEEN] / 5_000)
    assert np.mean(shares) == pytest.approx(np.mean(new), abs=0.02)


def test_a_stuck_column_has_the_chance_of_all_rows_in_one_cell():
    reference = {"x": {"a": 60, "b": 30, "c": 10}}
    one, p_value, effect = found("constant", Pair.of_words(reference, {"x": {"b": 20}}))
    assert (one, effect) == (1.0, 1.0)
    assert p_value == pytest.approx(sum((count / 120) ** 20 for count in (60, 50, 10)))
    exact = sum(math.comb(count, 20) for count in (60, 50, 10)) / math.comb(120, 20)
    assert p_value >= exact  # drawn without replacement
    assert found("constant", Pair.of_words(reference, {"x": {"b": 20, "a": 1}}))[:2] == (0.0, 1.0)
    assert found("constant", Pair.of_words({"x": {"a": 60}}, {"x": {"a": 20}}))[:2] == (0.0, 1.0)


def test_rare_words_count_together_and_do_not_pass_for_one_word():
    words = np.concatenate((np.repeat(np.arange(252).astype(str), 4), np.array([f"rare {i}" for i in range(50)])))
    pair = compared({"x": words}, {"x": np.array([f"rare {i}" for i in range(20)])})
    assert pair.current.counts[0, RARE] == 20
    assert found("constant", pair)[0] == 0.0
    assert found("chi2", pair)[1] == found("chi2_pooled", pair)[1]


def test_rows_are_counted_per_window():
    bins = bins_of({"x": np.arange(10.0)})
    rows = profile(bins, {"x": np.arange(10.0)})
    reference = Profile(bins, rows.counts * 6, rows.sums * 6, n_windows=3)
    count, p_value, effect = found("row_count", Pair(reference, rows))
    assert (count, effect) == (10, pytest.approx(math.log(10 / 20)))
    assert math.isnan(p_value)


# A peer


def test_where_evidentlys_formula_is_right_it_finds_the_same():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        from evidently.legacy.calculations.stattests.registry import get_stattest
        from evidently.legacy.core import ColumnType

        def evidently(name: str, x: np.ndarray, y: np.ndarray, kind: ColumnType) -> float:
            sides = [pd.Series(side) for side in (x, y)]
            return float(get_stattest(*sides, kind, name).func(*sides, kind, 0.1)[0])

        rng = np.random.default_rng(8)
        x, y = (
            rng.choice(list("abcdef"), n, p=p)
            for n, p in ((40_000, [0.3, 0.2, 0.2, 0.1, 0.1, 0.1]), (20_000, [1 / 6] * 6))
        )
        words = compared({"x": x}, {"x": y})
        kind = ColumnType.Categorical
        assert found("js", words)[0] == pytest.approx(evidently("jensenshannon", x, y, kind) / math.sqrt(math.log(2)))
        assert found("hellinger", words)[0] == pytest.approx(evidently("hellinger", x, y, kind))
        assert found("psi", words)[0] == pytest.approx(evidently("psi", x, y, kind), rel=1e-3)
        assert found("kl", words)[0] == pytest.approx(evidently("kl_div", y, x, kind), rel=1e-3)  # its sides swapped
        a, b = rng.poisson(3, 4_000).astype(float), rng.poisson(3.4, 3_000).astype(float)
        numbers = compared({"x": a}, {"x": b})
        kind = ColumnType.Numerical
        assert found("wasserstein", numbers)[2] == pytest.approx(evidently("wasserstein", a, b, kind), rel=5e-3)
        assert found("energy", numbers)[0] == pytest.approx(evidently("ed", a, b, kind), rel=5e-3)
