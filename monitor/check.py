"""A closed window against its reference: one verdict per column.

A Decision turns the two profiles into verdicts. `Family` is the simplest one that is right for independent rows:
p-values by null law, corrected together over all columns and tests of the window, and a floor under the effect, so that
a change too small to matter never counts however many rows prove it. Other decisions stand behind the same interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import numpy as np

from detectors import REGISTRY, Kind, Pair, Score
from detectors.bins import Floats
from detectors.correction import holm


class Outcome(StrEnum):
    """What is said of one column in one window. Too little data is never "ok"."""

    OK = "ok"
    DRIFT = "drift"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one column of one window, and why.

    measure: the detector whose test speaks; effect: its size (see the detector); p_value: corrected over the window.
    quality: facts about the data itself, each a sentence.
    """

    column: str
    outcome: Outcome
    reason: str
    n_reference: int
    n_current: int
    measure: str
    effect: float | None
    p_value: float | None
    quality: tuple[str, ...] = ()


class Decision(Protocol):
    """Judges a window. Pure: equal profiles give equal verdicts."""

    def judge(self, pair: Pair) -> tuple[Verdict, ...]:
        """One verdict per column, in the order of `bins.names`."""


FLOORS: Final = {"ks": 0.04, "tv": 0.02, "missing": 0.02, "type_error": 0.001, "out_of_range": 0.001, "unseen": 0.001}
"""The smallest effect worth telling: the KS distance of a normal column that moves by 0.1 standard deviations; shares
of rows elsewhere."""
_QUALITY: Final = ("missing", "type_error", "out_of_range", "unseen")


@dataclass(frozen=True, slots=True)
class Family:
    """Family-wise decision: without drift, at most a share `alpha` of windows has any column called drifting.

    alpha: in (0, 1); holds for rows that are independent of each other. min_rows: fewer valid rows are unknown.
    """

    alpha: float = 0.01
    min_rows: int = 30

    def judge(self, pair: Pair) -> tuple[Verdict, ...]:
        """See `Decision.judge`."""
        tests = {name: REGISTRY[name].score(pair) for name in (*FLOORS, "chi2_pooled")}
        numeric = np.array([kind is Kind.NUMERIC for kind in pair.bins.kinds], np.bool_)
        shape = np.where(numeric, tests["ks"].p_value, tests["chi2_pooled"].p_value)
        size = np.where(numeric, tests["ks"].effect, tests["tv"].effect)
        measured = np.where(numeric, FLOORS["ks"], FLOORS["tv"])
        p = holm(np.concatenate([shape, *(tests[name].p_value for name in _QUALITY)])).reshape(len(_QUALITY) + 1, -1)
        effects = np.stack([size, *(tests[name].effect for name in _QUALITY)])
        floors = np.stack([measured, *(np.full(size.shape, FLOORS[name]) for name in _QUALITY)])
        with np.errstate(invalid="ignore"):
            real = (p < self.alpha) & (np.abs(effects) >= floors)
        return tuple(
            self._verdict(pair, column, real[:, column], p[:, column], effects[:, column], tests["missing"])
            for column in range(pair.bins.n_columns)
        )

    def _verdict(
        self, pair: Pair, column: int, real: np.ndarray[tuple[int], np.dtype[np.bool_]], p: Floats, effects: Floats,
        missing: Score,
    ) -> Verdict:  # fmt: skip
        names = ("ks" if pair.bins.kinds[column] is Kind.NUMERIC else "tv", *_QUALITY)
        quality = tuple(
            f"{name}: share of rows changed by {effects[i]:+.2%}" for i, name in enumerate(names) if i and real[i]
        )
        told = int(np.argmax(real))
        n_current = int(pair.m[column])
        if real.any():
            outcome, reason = Outcome.DRIFT, f"{names[told]} effect {effects[told]:+.3f}"
        elif int(missing.n_current[column]) < self.min_rows or n_current < self.min_rows:
            outcome, reason = Outcome.UNKNOWN, f"found {n_current} valid rows, wanted {self.min_rows} or more"
        else:
            outcome, reason = Outcome.OK, ""
        return Verdict(
            pair.bins.names[column], outcome, reason, int(pair.n[column]), n_current, names[told],
            _number(effects[told]), _number(p[told]), quality,
        )  # fmt: skip


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
