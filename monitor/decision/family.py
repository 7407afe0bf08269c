"""The family-wise decision: p-values by null law, corrected together over all columns and tests of the window.

It is the simplest decision that is right for rows which are independent of each other, however many they are. A floor
under the effect keeps changes too small to matter from counting, however many rows prove them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors import Kind, Pair, Score
from detectors.cells import Floats
from detectors.correction import holm
from monitor import describe
from monitor.decision import MIN_ROWS, Outcome, Scores, Verdict, finite, too_few

FLOORS: Final = {
    "ks": 0.04, "wasserstein": 0.1, "variance": 0.1,
    "tv": 0.02, "missing": 0.02, "type_error": 0.001, "out_of_range": 0.001, "unseen": 0.001,
}  # fmt: skip
"""The smallest effect worth telling: of a normal column that moves by 0.1 standard deviations, or whose deviation
changes by a tenth; shares of rows elsewhere."""
_SHAPES: Final = ("ks", "wasserstein", "variance")
"""Of numbers. The first has its law for any rows; the others see less in the middle and more of the level, the tails
and the spread, where their laws were drawn. Words have one test in place of the three."""
_RATES: Final = ("missing", "type_error", "out_of_range", "unseen")


@dataclass(frozen=True, slots=True)
class Family:
    """Family-wise decision: without drift, at most a share `alpha` of windows has any column called drifting.

    alpha: in (0, 1); holds for rows that are independent of each other. min_rows: fewer valid rows are unknown.
    """

    alpha: float = 0.01
    min_rows: int = MIN_ROWS

    def judge(self, scores: Scores, memory: bytes) -> tuple[tuple[Verdict, ...], bytes]:
        """See `Decision.judge`."""
        p, effects, low, high = self._tests(scores)
        numeric = _numeric(scores.pair)
        first = np.where(numeric, FLOORS[_SHAPES[0]], FLOORS["tv"])
        floors = np.stack([first, *(numeric * 0.0 + FLOORS[name] for name in (*_SHAPES[1:], *_RATES))])
        with np.errstate(invalid="ignore"):
            real = (p < self.alpha) & (np.abs(effects) >= floors)
        real[: len(_SHAPES)] &= scores.pair.m >= self.min_rows  # of a few rows a shape says nothing
        table = np.stack([p, effects, low, high])
        verdicts = (self._verdict(scores, i, real[:, i], table[:, :, i]) for i in range(scores.pair.bins.n_columns))
        return tuple(verdicts), memory

    def again(self, scores: Scores, before: Sequence[Verdict]) -> tuple[Verdict, ...]:  # noqa: ARG002  # contract
        """See `Decision.again`."""
        return self.judge(scores, b"")[0]

    def limits(self, names: Sequence[str]) -> Mapping[str, Mapping[str, float]]:  # noqa: ARG002  # contract
        """See `Decision.limits`; p-values are held against one level together."""
        return {}

    def _tests(self, scores: Scores) -> tuple[Floats, Floats, Floats, Floats]:
        """Corrected p-values, effects and their 95 % intervals: shape (tests, columns), changes of shape first."""
        pair, numeric = scores.pair, _numeric(scores.pair)
        shape = np.where(numeric, scores["ks"].p_value, scores["chi2_pooled"].p_value)
        others = (*_SHAPES[1:], *_RATES)
        p = np.stack([shape, *(scores[name].p_value for name in others)])
        size = np.where(numeric, scores["ks"].effect, scores["tv"].effect)
        effects = np.stack([size, *(scores[name].effect for name in others)])
        errors = np.full(effects.shape, np.nan)
        errors[0, : pair.bins.n_numeric] = _ks_error(pair)
        for i, name in enumerate(_RATES, start=len(_SHAPES)):
            errors[i] = _share_error(scores[name])
        return holm(p), effects, effects - 1.96 * errors, effects + 1.96 * errors

    def _verdict(self, scores: Scores, row: int, real: NDArray[np.bool_], numbers: Floats) -> Verdict:
        pair = scores.pair
        first = len(_SHAPES)
        names = (_SHAPES[0] if row < pair.bins.n_numeric else "tv", *_SHAPES[1:], *_RATES)
        quality = tuple(describe.change(pair, row, names[i]) for i in range(first, len(names)) if real[i])
        told = _telling(real, numbers[1])
        p, effect, low, high = (finite(value) for value in numbers[:, told])
        n_current = int(pair.m[row])
        failure = scores.failures.get(pair.bins.names[row])
        outcome, reason = Outcome.OK, ""
        if real.any():
            outcome, reason = Outcome.DRIFT, describe.change(pair, row, names[told])
        elif failure is not None:
            outcome, reason = Outcome.UNKNOWN, failure
        elif n_current < self.min_rows:
            outcome, reason = Outcome.UNKNOWN, too_few(n_current, self.min_rows)
        elif p is None:
            outcome, reason = Outcome.UNKNOWN, scores[names[0]].reason(row) or "no test could be made"
        return Verdict(
            column=pair.bins.names[row], outcome=outcome, reason=reason, n_reference=int(pair.n[row]),
            n_current=n_current, measure=names[told], effect=effect, effect_low=low, effect_high=high, p_value=p,
            quality=quality, faulty=outcome is Outcome.DRIFT and told >= first,
        )  # fmt: skip


def _telling(real: NDArray[np.bool_], effects: Floats) -> int:
    """Which test speaks for a column: the change of shape, unless new words are the better half of it."""
    unseen = len(_SHAPES) + _RATES.index("unseen")
    if real[0] and real[unseen] and effects[unseen] >= effects[0] / 2:
        return unseen
    return int(np.argmax(real))


def _numeric(pair: Pair) -> NDArray[np.bool_]:
    return np.array([kind is Kind.NUMERIC for kind in pair.bins.kinds], np.bool_)


def _ks_error(pair: Pair) -> Floats:
    """Standard error of the two distribution functions' distance where it is largest, shape (numeric columns,)."""
    if not pair.bins.n_numeric:
        return np.zeros(0)
    at = np.abs(np.nan_to_num(pair.gap)).argmax(axis=1)[:, None]
    f, g = (np.take_along_axis(side, at, axis=1)[:, 0] for side in pair.cdf)
    n, m = (side[: pair.bins.n_numeric].astype(np.float64) for side in (pair.n, pair.m))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(f * (1 - f) / n + g * (1 - g) / m))


def _share_error(score: Score) -> Floats:
    """Standard error of the current share."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(np.maximum(score.statistic * (1 - score.statistic), 0) / score.n_current))
