"""Adjusted p-values for many tests at once: compare an adjusted value with the level meant for all of them together.

Each function takes an array of p-values and returns the adjusted ones in its shape. NaN stands for a test that was not
done: it is not counted and stays NaN.
"""

from __future__ import annotations

import numpy as np

from detectors.cells import Floats


def bonferroni(p_values: Floats) -> Floats:
    """Times the number of tests: bounds the chance of any false alarm, whatever the dependence.

    >>> bonferroni(np.array([0.01, 0.5, np.nan])).tolist()
    [0.02, 1.0, nan]
    """
    p_values = np.asarray(p_values, np.float64)
    return np.asarray(np.minimum(p_values * np.isfinite(p_values).sum(), 1.0))


def holm(p_values: Floats) -> Floats:
    """Holm's step-down: the same promise as `bonferroni` and never a larger value.

    >>> holm(np.array([0.04, 0.01, 0.03])).tolist()
    [0.06, 0.03, 0.06]

    Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6.
    """
    flat, order = _ascending(p_values)
    steps = np.arange(order.size, 0, -1)
    flat[order] = np.minimum(np.maximum.accumulate(flat[order] * steps), 1.0)
    return flat.reshape(np.shape(p_values))


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Benjamini and Hochberg's step-up: bounds the expected share of false alarms among all alarms.

    It holds for tests that are independent or positively dependent.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.5])).round(6).tolist()
    [0.04, 0.053333, 0.053333, 0.5]

    Benjamini and Hochberg (1995), Controlling the false discovery rate, J. R. Statist. Soc. B 57.
    """
    flat, order = _ascending(p_values)
    scaled = flat[order] * (order.size / np.arange(1, order.size + 1))
    flat[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return flat.reshape(np.shape(p_values))


def _ascending(p_values: Floats) -> tuple[Floats, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """A flat copy and the places of its numbers, smallest first."""
    flat = np.array(p_values, np.float64).ravel()
    order = np.argsort(flat, kind="stable")
    return flat, order[: np.isfinite(flat).sum()]
