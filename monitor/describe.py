"""What changed in a column, in a few words for people, read from the two profiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from detectors import Pair
from detectors.cells import ABOVE, BELOW, FIRST, INVALID, MISSING, RARE, UNSEEN, Counts, Floats
from detectors.columns import CategoricalColumn, NumericColumn
from detectors.parts import Measure

N_WORDS: Final = 2
_UNITS: Final[dict[str, tuple[int, str]]] = {
    Measure.LEVEL: (1, " sd"),
    Measure.SHARE: (100, " points"),
    Measure.REST: (100, " points"),
}
"""How many of what a measure's 1 is. Points are percentage points."""
JOINT: Final = (
    "Products of functions of two or three columns, whose means change when columns go together in another way; "
    "each column by itself may be as it was."
)
"""What the joint distribution of columns is watched by."""
TOLD_APART: Final = (
    "A classifier tells the window's rows from the reference's better than it usually does; it is taught by functions "
    "of single columns and by what two or three of them show together."
)
"""What whole rows are watched by."""


def change(pair: Pair, row: int, measure: str) -> str:
    """One phrase on how the column in this row of `bins.names` changed, from the point of view of a detector.

    >>> pair = Pair.of_numbers({"age": np.arange(100.0)}, {"age": np.arange(100.0) + 30})
    >>> change(pair, 0, "ks")
    'median 49 → 79'
    >>> pair = Pair.of_words({"plan": {"free": 6, "paid": 4}}, {"plan": {"free": 2, "paid": 8}})
    >>> change(pair, 0, "tv")
    "'free' 60 % → 20 %, 'paid' 40 % → 80 %"
    """
    if measure in _SPECIAL:
        return _SPECIAL[measure](pair, row)
    column = pair.bins.columns[row]
    if isinstance(column, NumericColumn):
        return _median(pair, row, column)
    return _words(pair, row, column)


def correlations(pair: Pair, row: int) -> str:
    """One sentence on the pair of columns in this row of `bins.pair_names`."""
    known = pair.bins.pairs
    (before, n), (after, m) = (
        (known.correlations(side.pairs, np.array(side.n_rows))[row], side.n_rows)
        for side in (pair.reference, pair.current)
    )
    return f"Correlation of ranks: {before:.2f} in the reference's {n:,} rows, {after:.2f} in the window's {m:,}."


def size(measure: str, effect: float | None, low: float | None = None, high: float | None = None) -> tuple[str, ...]:
    """The size of a change, in its unit where it has one, then its 95 % interval where one is known.

    >>> size("level", 0.906, 0.801, 1.01), size("share", -0.0961, -0.127, -0.0647)
    (('level +0.906 sd', '(95 % 0.801 to 1.01)'), ('share -9.61 points', '(95 % -12.7 to -6.47)'))
    >>> size("psi", 0.43), size("psi", None)
    (('psi 0.43',), ())
    """
    if effect is None:
        return ()
    factor, unit = _UNITS.get(measure, (1, ""))
    shown = f"{measure} {effect * factor:{'+' if unit else ''}.3g}{unit}"
    return (shown,) if low is None or high is None else (shown, f"(95 % {low * factor:.3g} to {high * factor:.3g})")


def told_apart(usual: float, auc: float, leaning: Sequence[str]) -> str:
    """One phrase on rows that a classifier tells from the reference's better than it usually does.

    >>> told_apart(0.53, 0.631, ["age", "income"])
    "rows can be told from the reference's (AUC 0.63, usually 0.53), mostly by age and income"
    >>> told_apart(0.5, 0.7, ["age"])
    "rows can be told from the reference's (AUC 0.70, usually 0.50), mostly by age"
    """
    *others, last = leaning or [""]
    by = f", mostly by {', '.join(others)} and {last}" if others else f", mostly by {last}" if last else ""
    return f"rows can be told from the reference's (AUC {auc:.2f}, usually {usual:.2f}){by}"


def number(value: float) -> str:
    """Four significant figures, with thousands apart.

    >>> number(48125.0), number(0.123456), number(1e-9)
    ('48,125', '0.1235', '1e-09')
    """
    if abs(value) >= 1000 and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def several(n: int, noun: str) -> str:
    """So many things, with the noun in its number.

    >>> several(1, "incident"), several(2000, "row")
    ('1 incident', '2,000 rows')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def percent(share: float) -> str:
    """A share as a percentage, with as many figures as it needs.

    >>> percent(0.6), percent(0.0123), percent(0.00041), percent(0.0)
    ('60 %', '1.2 %', '0.041 %', '0 %')
    """
    value = 100 * share
    if value == 0 or value >= 10:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 1 else f"{value:.2g} %"


def _median(pair: Pair, row: int, column: NumericColumn) -> str:
    sides = [_quantiles(side.counts[row], pair.bins.places[row]) for side in (pair.reference, pair.current)]
    before, after = (middle if column.n_regular else float("nan") for _, middle, _ in sides)
    if before == after:
        low, high = (f"{number(low)}–{number(high)}" for low, _, high in sides)
        return f"median {number(before)} as before, middle 90 % {low} → {high}"
    return f"median {number(before)} → {number(after)}"


def _quantiles(counts: Counts, places: Floats) -> tuple[float, float, float]:
    """Of 5, 50 and 95 %: the middle of the cell that holds each; the ends of the range stand for what lies outside."""
    running = counts[BELOW:].cumsum()
    low, middle, high = places[np.searchsorted(running, np.array([0.05, 0.5, 0.95]) * running[-1])].tolist()
    return low, middle, high


def _words(pair: Pair, row: int, column: CategoricalColumn) -> str:
    before, after = pair.reference.counts[row], pair.current.counts[row]
    n, m = max(int(pair.n[row]), 1), max(int(pair.m[row]), 1)
    moved = np.abs(after / m - before / n).round(9)
    moved[[MISSING, INVALID]] = 0
    largest = [int(cell) for cell in np.argsort(-moved, kind="stable")[:N_WORDS] if moved[cell] > 0]
    names = {UNSEEN: "new words", RARE: "rare words"}
    names |= {FIRST + i: f"'{word[:40]}'" for i, word in enumerate(column.vocabulary)}
    return ", ".join(f"{names[cell]} {percent(before[cell] / n)} → {percent(after[cell] / m)}" for cell in largest)


def _rate(what: str, cells: list[int], of_all_rows: bool) -> Callable[[Pair, int], str]:
    def phrase(pair: Pair, row: int) -> str:
        shares = []
        for side, valid in ((pair.reference, pair.n), (pair.current, pair.m)):
            total = side.counts[row].sum() if of_all_rows else valid[row]
            shares.append(float(side.counts[row, cells].sum() / max(int(total), 1)))
        return f"{what} {percent(shares[0])} → {percent(shares[1])}"

    return phrase


_SPECIAL: Final[dict[str, Callable[[Pair, int], str]]] = {
    "missing": _rate("missing", [MISSING], True),
    "type_error": _rate("of the wrong type", [INVALID], True),
    "out_of_range": _rate("outside the reference's range", [BELOW, ABOVE], False),
    "unseen": _rate("words the reference never had", [UNSEEN], False),
    "constant": lambda _pair, _row: "one single value in every row",
    "row_count": lambda pair, row: f"rows {number(float(pair.current.counts[row].sum()))}",
}
