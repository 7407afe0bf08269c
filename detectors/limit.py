"""Limiting laws of statistics of two empirical distribution functions: their tails, as arrays.

Each function gives the chance of a value at least as large without drift; NaN in, NaN out. A plain series loses all
figures where the tail is small, which is where alarms live, so there the leading eigenvalue's tail takes over.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import special

from detectors.cells import Floats

_KUIPER_TERMS: Final = np.arange(1, 11)
_CVM_TERMS: Final = np.arange(3)
_CVM_STEP: Final = 4 * _CVM_TERMS + 1
_CVM_FACTOR: Final = np.sqrt(_CVM_STEP) * np.exp(special.gammaln(_CVM_TERMS + 0.5) - special.gammaln(_CVM_TERMS + 1))
_CVM_FAR: Final = 1.2
_AD_FAR: Final = 4.0
_AD_MEAN: Final = 1.0
_AD_VARIANCE: Final = 2 * (np.pi**2 - 9) / 3
_AD_REST: Final = 2 * _AD_VARIANCE - 1
"""Squares of all weights but the first, over the square of their sum: (pi^2 / 3 - 3 - 1/4) / (1/2)^2."""


def kolmogorov(statistic: Floats, n: Floats, m: Floats) -> Floats:
    """Of the two-sample Kolmogorov-Smirnov statistic, with Stephens' correction for few rows.

    The statistic moves in steps of 1 / lcm(n, m). Half a step is taken off: without it small chances come out a quarter
    too small at n = m = 50, a third at 20.
    """
    n, m = np.asarray(n, np.float64), np.asarray(m, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        step = np.gcd(n.astype(np.int64), m.astype(np.int64)) / (n * m)
        root = _root(n * (m / (n + m)))
    return np.asarray(special.kolmogorov((root + 0.12 + 0.11 / root) * np.maximum(statistic - step / 2, 0)))


def kuiper(statistic: Floats, rows: Floats) -> Floats:
    """Of Kuiper's statistic; rows: n m / (n + m). With Stephens' correction for few rows."""
    root = _root(rows)
    squared = np.square((root + 0.155 + 0.24 / root) * statistic)
    terms = np.square(_KUIPER_TERMS) * np.maximum(squared, 0.16)[..., None]
    tail = 2 * ((4 * terms - 1) * np.exp(-2 * terms)).sum(axis=-1)
    return np.clip(np.where(squared < 0.16, 1.0, tail), 0.0, 1.0) + 0 * statistic


def cramer_von_mises(statistic: Floats) -> Floats:
    """Of the Cramer-von Mises statistic.

    Csorgo and Faraway (1996), J. R. Statist. Soc. B 58, equation 1.2; beyond 1.2 the tail of its first eigenvalue,
    where the two differ by two parts in a thousand.
    """
    near = np.clip(statistic, 1e-3, _CVM_FAR)[..., None]
    argument = np.square(_CVM_STEP) / (16 * near)
    terms = _CVM_FACTOR * np.exp(-2 * argument) * special.kve(0.25, argument)
    below = terms.sum(axis=-1) / (np.pi**1.5 * np.sqrt(near[..., 0]))
    far = np.maximum(statistic, _CVM_FAR)
    beyond = np.sqrt(2) * special.erfc(np.pi * np.sqrt(far / 2)) * (1 + 3 / (8 * np.pi**2 * far))
    return np.asarray(np.clip(np.where(statistic > _CVM_FAR, beyond, 1 - below), 0.0, 1.0) + 0 * statistic)


def anderson_darling(statistic: Floats, concentration: Floats | float = 0.0) -> Floats:
    """Of the normalised two-sample Anderson-Darling statistic.

    For two samples the limit is that of the one-sample statistic, squared normals of weights 1 / (j (j + 1)). Marsaglia
    and Marsaglia (2004), J. Stat. Software 9(2), give it to 2e-6 up to 4; beyond that the tail of its first weight
    follows, within a thousandth.

    concentration: sum of the squared weights under the ties at hand: pi^2 / 3 - 3 = 0.29 without ties, 1 for two
        values, where the law is chi-square with one degree of freedom. Between the two the logarithm of the tail goes
        with the inverse of the largest weight, which the concentration bounds: at 0.05 and 0.01 within 10 %.
    """
    z = np.maximum(_AD_MEAN + statistic * np.sqrt(_AD_VARIANCE), 1e-2)
    squares = np.clip(concentration, _AD_VARIANCE / 2, 1.0)
    largest = (_AD_REST + np.sqrt(_AD_REST**2 - (1 + _AD_REST) * (_AD_REST - squares))) / (1 + _AD_REST)
    tied = np.clip(2 - 1 / largest, 0.0, 1.0)
    one_normal = special.erfc(np.sqrt(z / 2))
    return np.asarray(_anderson_darling_tail(z) ** (1 - tied) * one_normal**tied + 0 * statistic)


def _anderson_darling_tail(z: Floats) -> Floats:
    small, large = np.minimum(z, 2.0), np.clip(z, 2.0, _AD_FAR)
    below = np.exp(-1.2337141 / small) / np.sqrt(small)
    below *= _polynomial(small, (2.00012, 0.247105, -0.0649821, 0.0347962, -0.0116720, 0.00168691))
    rest = np.exp(_polynomial(large, (1.0776, -2.30695, 0.43424, -0.082433, 0.008056, -0.0003146)))
    far = np.maximum(z, _AD_FAR)
    beyond = np.sqrt(3) * special.erfc(np.sqrt(far)) * (1 + 11 / (36 * far))
    tail = np.where(z > _AD_FAR, beyond, np.where(z < 2, 1 - below, -np.expm1(-rest)))
    return np.clip(tail, 0.0, 1.0)


def anderson_darling_deviation(n: Floats, m: Floats) -> Floats:
    """Standard deviation, without drift, of the two-sample statistic A2 whose mean is 1; NaN below four pooled rows.

    Scholz and Stephens (1987), J. Am. Statist. Assoc. 82, equation 4 at k = 2, its double sum in closed form.
    """
    pooled = np.where(n + m > 3, n + m, np.nan)
    inverse = 1 / n + 1 / m
    h = special.digamma(pooled) + np.euler_gamma
    g = np.pi**2 / 6 - special.zeta(2, pooled) - 2 * h / pooled
    a = (4 * g - 6) + (10 - 6 * g) * inverse
    b = (2 * g - 4) * 4 + 16 * h + (2 * g - 14 * h - 4) * inverse - 8 * h + 4 * g - 6
    c = (6 * h + 2 * g - 2) * 4 + (4 * h - 4 * g + 6) * 2 + (2 * h - 6) * inverse + 4 * h
    d = (2 * h + 6) * 4 - 8 * h
    variance = ((a * pooled + b) * pooled + c) * pooled + d
    return np.asarray(np.sqrt(variance / ((pooled - 1) * (pooled - 2) * (pooled - 3))))


def _polynomial(x: Floats, coefficients: tuple[float, ...]) -> Floats:
    """Coefficients from the lowest power up."""
    value = np.zeros_like(x)
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value


def _root(rows: Floats) -> Floats:
    """Root of the effective rows, NaN for none."""
    return np.sqrt(np.where(rows > 0, rows, np.nan))
