"""What every detector says of a column, in the form in which it is written out."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from detectors import REGISTRY
from monitor.decision import Scores, finite


class DetectorScore(msgspec.Struct, frozen=True, omit_defaults=True):
    """One detector on one column; what cannot be computed is null, with a reason."""

    statistic: float | None
    p_value: float | None
    effect: float | None
    n_reference: int
    n_current: int
    reason: str | None = None


def scorecard(scores: Scores, row: int, names: Iterable[str]) -> dict[str, DetectorScore]:
    """The named detectors on the column in this row of `bins.names`, those left out that are not made for its kind."""
    kind = scores.pair.bins.kinds[row]
    return {name: _score(scores, row, name) for name in names if kind in REGISTRY[name].kinds}


def _score(scores: Scores, row: int, name: str) -> DetectorScore:
    score = scores[name]
    statistic = float(score.statistic[row])
    reason = scores.failures.get(scores.pair.bins.names[row]) or score.reason(row)
    return DetectorScore(
        finite(statistic), finite(float(score.p_value[row])), finite(float(score.effect[row])),
        int(score.n_reference[row]), int(score.n_current[row]), reason if math.isnan(statistic) else None,
    )  # fmt: skip
