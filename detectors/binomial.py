"""Chances of counts: of so many events on both sides, how many are the current one's.

Without drift each event is current with chance m / (n + m), so their number is binomial. That is conservative, because
the exact law, without replacement, varies less. It needs no normal approximation, so it is as right for one event as
for a million.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from detectors.bins import Counts, Floats


def upper_p(a: Counts | Floats, b: Counts | Floats, n: Counts | Floats, m: Counts | Floats) -> Floats:
    """Chance of b or more current events, after a of n reference rows and b of m current ones."""
    return np.where(b > 0, special.betainc(np.where(b > 0, b, 1.0), a + 1.0, _share(n, m)), 1.0)


def two_sided_p(a: Counts | Floats, b: Counts | Floats, n: Counts | Floats, m: Counts | Floats) -> Floats:
    """Twice the smaller of the chances of at least and at most b current events."""
    at_most = np.where(a > 0, special.betaincc(b + 1.0, np.where(a > 0, a, 1.0), _share(n, m)), 1.0)
    return np.asarray(np.minimum(2 * np.minimum(upper_p(a, b, n, m), at_most), 1.0))


def _share(n: Counts | Floats, m: Counts | Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(n + m > 0, m / np.maximum(n + m, 1), np.nan))
