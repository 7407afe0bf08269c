"""A closed window at a glance: of every column a few numbers, small enough to read hundreds of windows at once.

It is written beside the window, so that a page of a month need not open the profiles of a month.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import cached_property, lru_cache
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import Profile
from detectors.cells import ABOVE, FIRST, INVALID, MISSING, UNSEEN, Floats
from monitor.check import Judged
from monitor.decision import Outcome, Verdict

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of a numeric column. A category has the shares of the reference's most frequent words in their place."""


class Fact(IntEnum):
    """Columns of `Glance.table`; shares are in [0, 1], NaN is unknown.

    MISSING, INVALID: of all rows; ODD: outside the reference's range or vocabulary, of the valid ones. LEVELS: where
    the five quantiles or word shares begin.
    """

    EFFECT = 0
    EFFECT_LOW = 1
    EFFECT_HIGH = 2
    EVIDENCE = 3
    N_CURRENT = 4
    MISSING = 5
    INVALID = 6
    ODD = 7
    LEVELS = 8


N_FACTS: Final = Fact.LEVELS + len(QUANTILES)
_OUTCOMES: Final = tuple(Outcome)


class Glance(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """columns: see `names`; outcomes: of each the place of its verdict in `Outcome`; numbers: see `table`.

    labelled: share of the rows that have a loss, None where there is no such column.
    """

    columns: msgspec.Raw
    outcomes: bytes
    numbers: bytes
    labelled: float | None = None

    @classmethod
    def of(cls, judged: Judged) -> Glance:
        """What is kept of a judged window."""
        verdicts, profile = judged.verdicts, judged.window.tally.profile
        counted = {name: row for row, name in enumerate(profile.bins.names)}
        shares, found = _shares(profile), levels(profile)
        table = np.full((len(verdicts), N_FACTS), np.nan, np.float32)
        for row, verdict in enumerate(verdicts):
            table[row, : Fact.MISSING] = _said(verdict)
            at = counted.get(verdict.column)
            if at is not None:
                table[row, Fact.MISSING : Fact.LEVELS], table[row, Fact.LEVELS :] = shares[at], found[at]
        outcomes = bytes(_OUTCOMES.index(verdict.outcome) for verdict in verdicts)
        return cls.made([verdict.column for verdict in verdicts], outcomes, table, _labelled(profile))

    @classmethod
    def made(
        cls, names: Sequence[str], outcomes: bytes, table: NDArray[np.float32], labelled: float | None = None
    ) -> Glance:
        """See the fields and properties of these names."""
        return cls(msgspec.Raw(msgspec.msgpack.encode(names)), outcomes, table.astype("<f4").tobytes(), labelled)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns. Those of the windows of a page are nearly all the same, and read once."""
        return _names(bytes(self.columns))

    @property
    def table(self) -> NDArray[np.float32]:
        """float32, shape (columns, N_FACTS); see `Fact`."""
        return np.frombuffer(self.numbers, "<f4").reshape(-1, N_FACTS)

    def outcome(self, row: int) -> Outcome:
        """The verdict on the column in this row."""
        return _OUTCOMES[self.outcomes[row]]


def encode(glance: Glance) -> bytes:
    """As bytes, the same for equal glances."""
    return msgspec.msgpack.encode(glance)


_GLANCE: Final = msgspec.msgpack.Decoder(Glance)


def decode(encoded: bytes) -> Glance:
    """The glance that became these bytes."""
    return _GLANCE.decode(encoded)


@lru_cache(maxsize=64)
def _names(encoded: bytes) -> tuple[str, ...]:
    return msgspec.msgpack.decode(encoded, type=tuple[str, ...])


def levels(profile: Profile) -> Floats:
    """Quantiles of numbers, shares of the most frequent words, shape (columns, 5); NaN where there is nothing."""
    bins = profile.bins
    found = np.full((bins.n_columns, len(QUANTILES)), np.nan)
    words = profile.counts[bins.n_numeric :, FIRST : FIRST + len(QUANTILES)]
    with np.errstate(invalid="ignore", divide="ignore"):
        found[bins.n_numeric :] = words / profile.n_valid[bins.n_numeric :, None]
    for row, column in enumerate(bins.categorical, start=bins.n_numeric):
        found[row, column.n_regular :] = np.nan
    if bins.n_numeric:
        found[: bins.n_numeric] = _quantiles(profile)
    return found


def _quantiles(profile: Profile) -> Floats:
    """The middle of the cell that holds each quantile; the ends of the range stand for what lies outside."""
    bins, running = profile.bins, profile.running
    totals = running[:, -1:]
    cells = np.stack([(running >= q * totals).argmax(axis=1) for q in QUANTILES], axis=1)
    known = (totals > 0) & np.array([[column.n_regular > 0] for column in bins.numeric])
    return np.where(known, np.take_along_axis(bins.places, cells, axis=1), np.nan)


def _shares(profile: Profile) -> Floats:
    """Missing, invalid and odd shares, shape (columns, 3)."""
    counts, bins = profile.counts, profile.bins
    odd = counts[:, UNSEEN].copy()
    odd[: bins.n_numeric] += counts[: bins.n_numeric, ABOVE]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(
            (counts[:, MISSING] / profile.n_all, counts[:, INVALID] / profile.n_all, odd / profile.n_valid), axis=1
        )


def _labelled(profile: Profile) -> float | None:
    row = next(iter(profile.bins.errors), None)
    return None if row is None or not profile.n_rows else float(profile.n_valid[row]) / profile.n_rows


def _said(verdict: Verdict) -> tuple[float, ...]:
    numbers = (verdict.effect, verdict.effect_low, verdict.effect_high, verdict.evidence, verdict.n_current)
    return tuple(np.nan if number is None else float(number) for number in numbers)
