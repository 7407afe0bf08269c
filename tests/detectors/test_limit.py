"""Limiting laws against exact forms of them, known quantiles and simulation, far into the tails."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy import integrate, stats

from detectors import limit

LARGE = np.array(1e12)  # rows for which no correction is left
PLACES = [0.3, 0.5, 0.8, 1.0, 1.3581, 1.6276, 2.0, 3.0, 3.8, 5.0, 8.0]


def series(term: Callable[[int, Decimal], Decimal], z: float) -> float:
    """A slowly converging alternating series, in a hundred digits."""
    with localcontext() as context:
        context.prec = 100
        total = sum((term(k, Decimal(z)) for k in range(1, 80)), Decimal(0))
        return float(total)


@pytest.mark.parametrize("z", PLACES)
def test_kolmogorovs_law_is_its_series_and_scipys(z: float):
    found = float(limit.kolmogorov(np.array(z / math.sqrt(5e11)), LARGE, LARGE))
    wanted = series(lambda k, x: (-1) ** (k - 1) * 2 * (-2 * k * k * x * x).exp(), z)
    assert found == pytest.approx(wanted, rel=1e-4)
    assert found == pytest.approx(float(stats.kstwobign.sf(z)), rel=1e-4)


@pytest.mark.parametrize("z", PLACES)
def test_kuipers_law_is_its_series(z: float):
    found = float(limit.kuiper(np.array(z / 1e6), LARGE))
    wanted = series(lambda k, x: 2 * (4 * k * k * x * x - 1) * (-2 * k * k * x * x).exp(), z)
    assert found == pytest.approx(wanted, rel=1e-4)


def smirnov(z: float, weight: Callable[[int], float], determinant: Callable[[float], float]) -> float:
    """Smirnov's formula: the tail of a sum of squared normals with falling weights, exact however far out.

    The Fredholm determinant changes sign at the inverse of each weight.
    """
    total = 0.0
    for k in range(1, 6):
        low, high = 1 / weight(2 * k - 1), 1 / weight(2 * k)

        def integrand(t: float, low: float = low, high: float = high) -> float:
            x = low + (high - low) * math.sin(t) ** 2  # tames both ends
            slope = 2 * (high - low) * math.sin(t) * math.cos(t)
            return math.exp(-x * z / 2) / (x * math.sqrt(abs(determinant(x)))) * slope

        part = integrate.quad(integrand, 0, math.pi / 2, epsrel=1e-10, epsabs=0, limit=200)[0]
        total -= (-1) ** k * part / math.pi
    return total


@pytest.mark.parametrize("z", [0.03, 0.05, 0.1, 0.2, 0.461, 0.743, 1.0, 1.19, 1.21, 2.0, 3.0, 5.0, 8.0])
def test_cramer_von_mises_law_is_smirnovs_formula(z: float):
    wanted = smirnov(z, lambda j: 1 / (math.pi * j) ** 2, lambda x: math.sin(math.sqrt(x)) / math.sqrt(x))
    assert float(limit.cramer_von_mises(np.array(z))) == pytest.approx(wanted, rel=3e-3 if z > 1.2 else 1e-5)


def normalised(z: float) -> np.ndarray:
    return np.array((z - 1) / math.sqrt(2 * (math.pi**2 - 9) / 3))


@pytest.mark.parametrize("z", [0.2, 0.5, 1.0, 1.93, 2.01, 2.492, 3.857, 3.99, 4.01, 5.0, 8.0, 12.0, 20.0, 30.0, 60.0])
def test_anderson_darlings_law_is_smirnovs_formula(z: float):
    wanted = smirnov(
        z, lambda j: 1 / (j * (j + 1)), lambda x: -math.cos(math.pi / 2 * math.sqrt(1 + 4 * x)) / (math.pi * x)
    )
    assert float(limit.anderson_darling(normalised(z))) == pytest.approx(wanted, rel=1.5e-3)


@pytest.mark.parametrize("z", [0.5, 2.0, 3.84, 10.0, 40.0])
def test_anderson_darlings_law_for_two_values_is_chi_square(z: float):
    assert float(limit.anderson_darling(normalised(z), 1.0)) == pytest.approx(stats.chi2.sf(z, 1), rel=1e-9)


@pytest.mark.parametrize(
    "shares", [[1 / 3] * 3, [0.2] * 5, [0.05] * 20, [0.9, 0.05, 0.05], [0.3, *[0.7 / 200] * 200]],
    ids=["3", "5", "20", "90 % one value", "30 % one value"],
)  # fmt: skip
def test_and_between_it_is_near_the_law_of_those_ties_and_hardly_below(shares: list[float]):
    share = np.array(shares)
    height = share.cumsum() - share / 2
    covariance = np.minimum.outer(height, height) - np.outer(height, height) - np.diag(share / 4)
    scale = np.sqrt(share / covariance.diagonal())
    weights = np.linalg.eigvalsh(covariance * np.outer(scale, scale))
    weights = weights[weights > 1e-12]
    assert weights.sum() == pytest.approx(1)
    draws = np.zeros(400_000)
    rng = np.random.default_rng(3)
    for weight in weights[-40:]:
        draws += weight * rng.chisquare(1, draws.size)
    draws += weights[:-40].sum()
    for level in (0.05, 0.01, 0.001):
        place = np.quantile(draws, 1 - level)
        found = float(limit.anderson_darling(normalised(float(place)), float(np.square(weights).sum())))
        assert 0.93 * level < found < 1.25 * level


@pytest.mark.parametrize(("n", "m"), [(10, 10), (50, 50), (20, 300), (300, 20), (1_000, 1_000)])
def test_the_deviation_of_anderson_darling_is_scholz_and_stephens_sum(n: int, m: int):
    pooled = n + m
    inverse, h = 1 / n + 1 / m, sum(1 / i for i in range(1, pooled))
    g = sum(1 / ((pooled - i) * j) for i in range(1, pooled - 1) for j in range(i + 1, pooled))
    a = (4 * g - 6) + (10 - 6 * g) * inverse
    b = (2 * g - 4) * 4 + 8 * h * 2 + (2 * g - 14 * h - 4) * inverse - 8 * h + 4 * g - 6
    c = (6 * h + 2 * g - 2) * 4 + (4 * h - 4 * g + 6) * 2 + (2 * h - 6) * inverse + 4 * h
    d = (2 * h + 6) * 4 - 4 * h * 2
    variance = (a * pooled**3 + b * pooled**2 + c * pooled + d) / ((pooled - 1) * (pooled - 2) * (pooled - 3))
    found = limit.anderson_darling_deviation(np.array(float(n)), np.array(float(m)))
    assert float(found) == pytest.approx(math.sqrt(variance), rel=1e-9)


def gaps_of_shuffled(n: int, m: int, draws: int) -> np.ndarray:
    """F - G after each row of random orders, shape (draws, n + m)."""
    rng = np.random.default_rng(n * m)
    steps = np.concatenate((np.full(n, 1 / n), np.full(m, -1 / m)))
    return rng.permuted(np.tile(steps, (draws, 1)), axis=1).cumsum(axis=1)


@pytest.mark.parametrize(("n", "m"), [(20, 20), (50, 50), (50, 200), (37, 53), (300, 300)])
def test_for_few_rows_no_law_claims_too_much(n: int, m: int):
    gaps = gaps_of_shuffled(n, m, 6_000)
    sizes = np.full(len(gaps), float(n)), np.full(len(gaps), float(m))
    effective = n * m / (n + m)
    found = {
        "ks": limit.kolmogorov(np.abs(gaps).max(axis=1), *sizes),
        "kuiper": limit.kuiper(
            np.maximum(gaps.max(axis=1), 0) - np.minimum(gaps.min(axis=1), 0), 0 * sizes[0] + effective
        ),
        "cvm": limit.cramer_von_mises(effective / (n + m) * np.square(gaps).sum(axis=1)),
    }
    for name, p_values in found.items():
        for level in (0.01, 0.05, 0.2):
            assert np.sum(p_values <= level) <= stats.binom.isf(1e-4, len(gaps), 1.08 * level), (name, level)


@pytest.mark.parametrize(
    "law",
    [
        lambda x: limit.kolmogorov(x, np.full(4, 30.0), np.full(4, 30.0)),
        lambda x: limit.kuiper(x, np.full(4, 30.0)),
        limit.cramer_von_mises,
        limit.anderson_darling,
    ],
    ids=["kolmogorov", "kuiper", "cramer_von_mises", "anderson_darling"],
)
def test_every_law_is_one_at_nothing_falls_and_passes_nan_on(law: Callable[[np.ndarray], np.ndarray]):
    found = law(np.array([np.nan, -2.0 if law is limit.anderson_darling else 0.0, 0.5, 30.0]))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(1, abs=1e-6)
    assert found[1] >= found[2] >= found[3] >= 0
    assert found[3] < 1e-8


@pytest.mark.parametrize("law", [limit.cramer_von_mises, limit.anderson_darling])
def test_no_law_jumps_where_one_form_takes_over_from_another(law: Callable[[np.ndarray], np.ndarray]):
    z = np.linspace(0.01, 6, 60_000)
    found = law(z)
    # It falls everywhere, but for the two thousandths of its value by which the last form starts higher.
    assert (found[1:] <= found[:-1] * 1.003).all()
    assert (np.diff(found) > -1e-3).all()


def test_no_rows_have_no_law():
    zero, some = np.zeros(1), np.full(1, 5.0)
    assert np.isnan(limit.kolmogorov(some / 10, zero, some))
    assert np.isnan(limit.kuiper(some / 10, zero))
    assert np.isnan(limit.anderson_darling_deviation(np.ones(1), np.ones(1)))
