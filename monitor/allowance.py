"""The stated budget, shared out: what every segment and column of a model may ring, and in how many windows.

Each model that works under the budget has an equal part, of which each of its segments has an equal part, which its
columns and pairs of columns share by importance. All parts together are one, so that the alarms expected of all add up
to the budget whatever depends on what.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from detectors import Bins
from detectors.blocks import Cut
from detectors.calibration import VERSION, Allowance, Calibration
from detectors.cells import Floats
from detectors.joint import JOINT_NAME
from detectors.pairs import WHOLE_ROWS
from detectors.parts import Measure
from detectors.season import HOUR_MS
from monitor.config import PERIODS_MS, Config, Model, Rows
from monitor.rowsample import affordable
from monitor.window import WHOLE, Segments

NO_CALIBRATION: Final = ""
_NAMES: Final = {Measure.JOINT: JOINT_NAME, Measure.CLASSIFIER: WHOLE_ROWS}
_UNSEALED: Final = {
    JOINT_NAME: "the reference was sealed without it, or has no two columns for it: build it anew",
    WHOLE_ROWS: "the reference was sealed without it, or its windows have too few rows for it: build it anew",
}


class Calibrations(msgspec.Struct, frozen=True):
    """What was learnt of a reference's segments, as bytes, and under what: see `Allowances.key`."""

    key: str = NO_CALIBRATION
    by_segment: dict[str, bytes] = {}

    def under(self, key: str) -> Mapping[str, Calibration]:
        """What was learnt under this very budget; nothing if it was another. ValueError when it is damaged."""
        if key != self.key:
            return {}
        return {segment: Calibration.from_bytes(data) for segment, data in self.by_segment.items()}


@dataclass(frozen=True, slots=True)
class Allowances:
    """What a model's segments may ring.

    false_alarms, per: the whole budget, in words. unknown: what is to be watched but cannot be, by its name, and why.
    """

    false_alarms: float
    per: str
    cut: Cut
    by_segment: Mapping[str, Allowance]
    unknown: Mapping[str, str] = field(default_factory=dict)

    def key(self, reference: str) -> str:
        """Names everything that a calibration rests on."""
        digest = hashlib.sha256(f"{VERSION} {reference} {self.cut.width_ms} {self.cut.n_rows}".encode())
        for segment, allowance in self.by_segment.items():
            digest.update(f"{segment} {allowance.alarms!r} {allowance.period!r}".encode())
            digest.update(allowance.shares.astype("<f8").tobytes())
        return digest.hexdigest()


def cut_of(model: Model) -> Cut:
    """How a model's windows are cut."""
    return Cut(0, model.window.n_rows) if isinstance(model.window, Rows) else Cut(model.window.width_ms)


def of(config: Config, model: Model, bins: Bins) -> Allowances:
    """What the configuration allows a model."""
    cut = cut_of(model)
    period_ms = PERIODS_MS[config.budget.per]
    period = period_ms / min(cut.width_ms or HOUR_MS, HOUR_MS)  # windows without time, or longer, count as hours
    n_models = max(sum(other.decision == "budget" for other in config.model), 1)
    segments = Segments.of(bins, model.segments, model.max_segments)
    weighs = importance(model, bins)
    weights = np.array([weighs[name] for name in bins.names], np.float64)
    by_segment = {}
    for segment in segments.order:
        own = weights.copy()
        if segment != WHOLE:
            own[segments.cells[segment][0]] = 0.0  # it has but one value there
        everything = own if segment != WHOLE else np.concatenate((own, _together(bins, own, model)))
        shares = everything / max(everything.sum(), 1e-300) / len(segments.order) / n_models
        by_segment[segment] = Allowance(config.budget.false_alarms, period, shares)
    unknown = _unknown(bins, model, config.state.sample_rows)
    return Allowances(config.budget.false_alarms, config.budget.per, cut, by_segment, unknown)


def _unknown(bins: Bins, model: Model, sample_rows: int) -> dict[str, str]:
    """What the model asks for and the reference cannot give, and why."""
    found = {name: _UNSEALED[name] for name in _asked(model) if name not in bins.together_names}
    n_shown, n_kept = bins.pairs.n_shown, affordable(bins, sample_rows)
    if WHOLE_ROWS in _asked(model) and n_shown > n_kept:
        found[WHOLE_ROWS] = (
            f"the reference was sealed for {n_shown} rows of a window, found sample_rows for {n_kept}: "
            "raise it, or build the reference anew"
        )
    return found


def _asked(model: Model) -> list[str]:
    """What the model has watched beside columns and pairs, by its name."""
    return [name for measure, name in _NAMES.items() if measure in model.multivariate]


def _together(bins: Bins, importance: Floats, model: Model) -> Floats:
    """What weighs what is watched of several columns at once: the pairs; all joint scores, and a classifier, as much as
    a column."""
    pairs = _of_pairs(bins, importance) * (model.correlations > 0)
    others = [1.0 * (name in _asked(model)) for name in bins.together_names[pairs.size :]]
    return np.concatenate((pairs, others))


def importance(model: Model, bins: Bins) -> dict[str, float]:
    """What each column weighs, 1 where nobody says; and each pair of columns, the geometric mean of its two."""
    columns = [model.columns[name].importance if name in model.columns else 1.0 for name in bins.names]
    first, second = bins.pairs.members
    pairs = np.sqrt(np.take(columns, first) * np.take(columns, second)).tolist()
    return dict(zip((*bins.names, *bins.pair_names), (*columns, *pairs), strict=True))


def _of_pairs(bins: Bins, importance: Floats) -> Floats:
    """What pairs of columns weigh, shape (pairs,): all of one column's together half of what the column does."""
    first, second = bins.pairs.members
    return np.asarray(np.sqrt(importance[first] * importance[second]) / max(bins.pairs.n_columns - 1, 1))
