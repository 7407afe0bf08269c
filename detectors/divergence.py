"""Distances between two sets of shares on coarse groups: deciles of the reference for numbers, words for words.

All of them see only `Pair.groups`, so an outlier cannot stretch a group and a window of any size scores alike. To
second order in the change they are one quantity, the chi-square distance, and each docstring says what that makes of
its law. But that law wants some twenty rows in each group: at five, Hellinger's rejects 0.15 of still columns instead
of 0.05, and with 60 equal words on 50 rows all of the laws reject 0.36 to 1.0 of them. So every one of these detectors
carries the p-value of `chi2_pooled`, the test of the same difference whose p-value holds.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.cells import Floats
from detectors.contingency import pooled_p
from detectors.detector import Detector, Pair, Score, masked_score
from detectors.table import tables

_TINY: Final = np.finfo(np.float64).tiny
PRIOR: Final = 0.5
"""Pseudo-rows that `psi` and `kl` add to every occupied group on both sides: Jeffreys' prior. A group empty on one side
stays finite, and one odd row cannot move the statistic far."""


class PSI(Detector):
    """Population stability index: the relative entropies of both sides against each other, added.

        PSI = sum_j (q_j - p_j) ln(q_j / p_j)        p_j reference share, q_j current share of group j

    Unit and range: nats, [0, inf); 0 for equal shares; symmetric. effect = statistic.
    Needs: `Pair.groups`; every group with a row on either side gets half a pseudo-row on both.
    With no drift: n m / (n + m) PSI is about chi-square with k - 1 degrees of freedom, n reference and m current rows
        on k occupied groups, so its mean is (k - 1)(1/n + 1/m). The habit of calling 0.1 a change forgets both: at
        k = 20, n = m = 100 the mean without any drift is 0.38. p is that of `chi2_pooled`.
    Empty or degenerate: NaN when a side has no valid row; 0 with p 1 when both sides fill one and the same group.

    A coin that turns from even odds to odds of e : 1 has PSI = tanh(1/2) / 2:

    >>> pair = Pair.of_words({"coin": {"h": 500_000, "t": 500_000}}, {"coin": {"h": 731_059, "t": 268_941}})
    >>> print(f"{PSI().score(pair).statistic[0]:.4f} {np.tanh(0.5) / 2:.4f}")
    0.2311 0.2311

    Jeffreys (1946), An invariant form for the prior probability in estimation problems, Proc. R. Soc. A 186.
    """

    name = "psi"

    def score(self, pair: Pair) -> Score:
        return _scored(pair, [((q - p) * log_ratio).sum(axis=1) for p, q, log_ratio in pair.once(_smoothed)])


class KL(Detector):
    """Kullback-Leibler divergence of the current rows from the reference, KL(current || reference).

        KL = sum_j q_j ln(q_j / p_j)

    Unit and range: nats, [0, inf); 0 for equal shares; NOT symmetric: the extra nats per row that a code built for the
        reference spends on current rows. effect = statistic.
    Needs: `Pair.groups`, smoothed as in `psi`.
    With no drift: 2 n m / (n + m) KL is about chi-square with k - 1 degrees of freedom; p as `psi`.
    Empty or degenerate: as `psi`.

    A fair coin that became certain costs ln 2 per row:

    >>> pair = Pair.of_words({"coin": {"h": 500_000, "t": 500_000}}, {"coin": {"h": 1_000_000}})
    >>> print(f"{KL().score(pair).statistic[0]:.4f} {np.log(2):.4f}")
    0.6931 0.6931

    Kullback and Leibler (1951), On information and sufficiency, Ann. Math. Statist. 22.
    """

    name = "kl"

    def score(self, pair: Pair) -> Score:
        return _scored(pair, [np.maximum(np.vecdot(q, log_ratio), 0.0) for _, q, log_ratio in pair.once(_smoothed)])


class JS(Detector):
    """Jensen-Shannon distance: the square root of the mean divergence, in bits, of both sides from their mixture.

        JS = sqrt((KL2(p || h) + KL2(q || h)) / 2),    h = (p + q) / 2,  KL2 with logarithms to base 2

    Unit and range: a metric, [0, 1]; 1 when no group is shared. Base e would shrink every value by sqrt(ln 2) = 0.83,
        and thresholds do not carry over. effect = statistic.
    Needs: `Pair.groups`, no smoothing: a group empty on one side is no trouble.
    With no drift: 8 ln(2) n m / (n + m) JS^2 is about chi-square with k - 1 degrees of freedom; p as `psi`.
    Empty or degenerate: as `psi`.

    >>> pair = Pair.of_words({"plan": {"free": 7}}, {"plan": {"paid": 5}})
    >>> float(JS().score(pair).statistic[0])
    1.0

    Endres and Schindelin (2003), A new metric for probability distributions, IEEE Trans. Inf. Theory 49.
    """

    name = "js"

    def score(self, pair: Pair) -> Score:
        divergence = []
        for table in pair.once(tables):
            p, q = table.shares
            middle = np.maximum((p + q) / 2, _TINY)
            nats = sum(np.vecdot(side, np.log(np.maximum(side, _TINY) / middle)) for side in (p, q)) / 2
            divergence.append(np.sqrt(np.clip(nats / np.log(2), 0.0, 1.0)))
        return _scored(pair, divergence)


class Hellinger(Detector):
    """Hellinger distance.

        H = sqrt(1 - sum_j sqrt(p_j q_j)) = sqrt(sum_j (sqrt(p_j) - sqrt(q_j))^2 / 2)

    Unit and range: a metric, [0, 1]; 1 when no group is shared. effect = statistic.
    Needs: `Pair.groups`, no smoothing.
    With no drift: 8 n m / (n + m) H^2 is about chi-square with k - 1 degrees of freedom; p as `psi`.
    Empty or degenerate: as `psi`.

    From certainty to even odds: sqrt(1 - sqrt(1/2)).

    >>> pair = Pair.of_words({"coin": {"h": 8}}, {"coin": {"h": 4, "t": 4}})
    >>> print(f"{Hellinger().score(pair).statistic[0]:.4f} {(1 - 0.5**0.5) ** 0.5:.4f}")
    0.5412 0.5412

    Hellinger (1909), J. reine angew. Math. 136.
    """

    name = "hellinger"

    def score(self, pair: Pair) -> Score:
        roots = [np.sqrt(p) - np.sqrt(q) for p, q in _shares(pair)]
        return _scored(pair, [np.sqrt(np.minimum(np.vecdot(each, each) / 2, 1.0)) for each in roots])


class TotalVariation(Detector):
    """Total variation distance: the share of rows that would have to change groups.

        TV = sum_j |p_j - q_j| / 2

    Unit and range: a share of rows, a metric, [0, 1]. effect = statistic.
    Needs: `Pair.groups`, no smoothing.
    With no drift: the mean is about sqrt((1/n + 1/m) / (2 pi)) sum_j sqrt(p_j (1 - p_j)); p as `psi`.
    Empty or degenerate: as `psi`.

    >>> pair = Pair.of_words({"coin": {"h": 2, "t": 2}}, {"coin": {"h": 3, "t": 1}})
    >>> float(TotalVariation().score(pair).statistic[0])
    0.25
    """

    name = "tv"

    def score(self, pair: Pair) -> Score:
        return _scored(pair, [np.abs(p - q).sum(axis=1) / 2 for p, q in _shares(pair)])


def _scored(pair: Pair, of_each_kind: list[Floats]) -> Score:
    statistic = np.concatenate(of_each_kind)
    return masked_score(pair, statistic, pooled_p(pair), statistic)


def _shares(pair: Pair) -> list[tuple[Floats, Floats]]:
    return [table.shares for table in pair.once(tables)]


def _smoothed(pair: Pair) -> list[tuple[Floats, Floats, Floats]]:
    """Of each kind: smoothed shares of both sides and ln(current / reference), zero in groups that nobody occupies."""
    smoothed = []
    for table in pair.once(tables):
        prior = PRIOR * table.occupied
        more = np.maximum(PRIOR * table.n_groups[:, None], PRIOR)
        p = (table.reference + prior) / (table.n + more)
        q = (table.current + prior) / (table.m + more)
        smoothed.append((p, q, np.log(np.maximum(q, _TINY) / np.maximum(p, _TINY))))
    return smoothed
