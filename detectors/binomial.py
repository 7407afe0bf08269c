"""Chances of counts: of so many events on both sides, how many are the current one's.

Without drift each event is current with chance m / (n + m), so their number is binomial. That is conservative, because
the exact law, without replacement, varies less. It needs no normal approximation, so it is as right for one event as
for a million.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from detectors.cells import Counts, Floats


def upper_p(a: Counts | Floats, b: Counts | Floats, n: Counts | Floats, m: Counts | Floats) -> Floats:
    """Chance of b or more current events, after a of n reference rows and b of m current ones; shape (columns,)."""
    p_value, some = np.ones(b.shape), b > 0
    if some.any():
        a, b, n, m = (side[some] for side in (a, b, n, m))
        p_value[some] = special.betainc(b, a + 1.0, m / (n + m))
    return p_value


def two_sided_p(a: Counts | Floats, b: Counts | Floats, n: Counts | Floats, m: Counts | Floats) -> Floats:
    """Twice the smaller of the chances of at least and at most b current events."""
    return np.asarray(np.minimum(2 * np.minimum(upper_p(a, b, n, m), upper_p(b, a, m, n)), 1.0))
