"""The heat map: columns by windows, each cell the verdict and the size of the change.

Where there are more windows than fit, neighbours share a cell that shows the worst of them. A cell is told by its
letter or number as well as by its colour: a drifting one shows its effect in hundredths, an unknown one a question
mark, a calm one a dot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from monitor.account import ClosedWindow
from monitor.decision import Outcome
from monitor.glance import Fact, Glance
from monitor.web.html import Html, scrolling, tag
from monitor.web.layout import column_link
from monitor.window import WHOLE

N_CELLS: Final = 48
ABSENT: Final = 3
_STEPS: Final = (0.05, 0.1, 0.2)
"""Effects from which on a cell is darker."""
_EACH: Final = 6
_OUTCOMES: Final = [outcome.value for outcome in Outcome]
_DRIFT, _UNKNOWN = _OUTCOMES.index(Outcome.DRIFT), _OUTCOMES.index(Outcome.UNKNOWN)


def heat_map(
    model: str, glances: Sequence[tuple[ClosedWindow, Glance]], segment: str = WHOLE, n_columns: int | None = None
) -> Html:
    """n_columns: at most so many, the worst."""
    if not glances:
        return tag("p", "No window has closed yet.", class_="soft")
    kinds = dict.fromkeys(glance.names for _, glance in glances)
    names = list(dict.fromkeys(name for names in kinds for name in names))
    codes, effects = _tables(names, [glance for _, glance in glances])
    codes, effects, starts = _gathered(codes, effects)
    order = _worst_first(codes, effects)
    shown = order[:n_columns] if n_columns else order
    body = [
        tag("tr", tag("th", column_link(model, names[row], segment), scope="row"), _cells(codes[row], effects[row]))
        for row in shown.tolist()
    ]
    windows = [glances[start][0] for start in starts]
    heads = _heads(windows)
    each = (
        f"each cell the worst of up to {-(-len(glances) // len(starts))} windows" if len(starts) < len(glances) else ""
    )
    left_out = f"{len(names) - len(shown)} calmer columns are not shown" if len(shown) < len(names) else ""
    caption = "; ".join(words for words in (f"{len(glances)} windows, oldest first", each, left_out) if words)
    grid = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", tag("tr", tag("th", "column", scope="col"), heads)),
        tag("tbody", body),
        class_="heat",
    )
    return tag("div", scrolling(grid, f"Heat map of {model}", latest=True), _key())


def _tables(names: Sequence[str], glances: Sequence[Glance]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Verdicts and sizes of effects, shape (columns, windows)."""
    place = {name: row for row, name in enumerate(names)}
    codes = np.full((len(names), len(glances)), ABSENT, np.int8)
    effects = np.zeros((len(names), len(glances)), np.float32)
    alike: dict[tuple[str, ...], list[int]] = {}
    for i, glance in enumerate(glances):
        alike.setdefault(glance.names, []).append(i)
    for columns, windows in alike.items():
        cells = np.ix_([place[name] for name in columns], windows)
        outcomes = b"".join(glances[i].outcomes for i in windows)
        codes[cells] = np.frombuffer(outcomes, np.uint8).reshape(len(windows), len(columns)).T
        effects[cells] = np.stack([glances[i].table[:, Fact.EFFECT] for i in windows], axis=1)
    return codes, np.abs(np.nan_to_num(effects))


def _gathered(
    codes: NDArray[np.int8], effects: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.float32], list[int]]:
    """At most N_CELLS cells a row, and the first window of each."""
    n_windows = codes.shape[1]
    each = -(-n_windows // N_CELLS)
    if each <= 1:
        return codes, effects, list(range(n_windows))
    odd = n_windows % each  # the oldest cell is the one that is not full
    starts = ([0] if odd else []) + list(range(odd, n_windows, each))
    # By how bad they are: drift, then unknown, then ok, then absent.
    rank = np.array([1, 3, 2, 0], np.int8)
    worst = np.maximum.reduceat(rank[codes], starts, axis=1)
    sizes = np.maximum.reduceat(np.where(codes == _DRIFT, effects, 0), starts, axis=1)
    calm = np.maximum.reduceat(effects, starts, axis=1)
    found = np.array([ABSENT, 0, _UNKNOWN, _DRIFT], np.int8)[worst]
    return found, np.where(found == _DRIFT, sizes, calm), starts


def _worst_first(codes: NDArray[np.int8], effects: NDArray[np.float32]) -> NDArray[np.intp]:
    """Rows in the order of how much drifts in them, then how much is unknown."""
    drift = (np.where(codes == _DRIFT, 1 + effects, 0)).sum(axis=1)
    unknown = (codes == _UNKNOWN).sum(axis=1)
    return np.lexsort((-effects.max(axis=1), -unknown, -drift))


def _cells(codes: NDArray[np.int8], effects: NDArray[np.float32]) -> Html:
    """One row; built by hand, since there are thousands of cells."""
    steps = np.searchsorted(_STEPS, effects, "right").tolist()
    words = []
    for code, effect, step in zip(codes.tolist(), effects.tolist(), steps, strict=True):
        if code == _DRIFT:
            words.append(f'<td class="d{step}">{min(round(100 * effect), 99)}</td>')
        else:
            words.append(_FIXED[code])
    return Html("".join(words))


_FIXED: Final = {0: '<td class="o">·</td>', _UNKNOWN: '<td class="u">?</td>', ABSENT: '<td class="a"></td>'}


def _heads(windows: Sequence[ClosedWindow]) -> list[Html]:
    """Windows' names: every sixth is written out, with the year where there are several, and with the hour where two of
    them would be the same day.
    """
    names = [(window.start or f"{window.index}")[:16].replace("T", " ") for window in windows]
    several = len({name[:4] for name, window in zip(names, windows, strict=True) if window.start}) > 1
    days = [name[:10] for name in names[::_EACH]]
    shown = slice(5, None) if len(set(days)) < len(days) else slice(0, 7) if several else slice(5, 10)
    heads = []
    for i, (name, window) in enumerate(zip(names, windows, strict=True)):
        words = tag("span", name[shown] if window.start else name, title=name, class_="hidden" if i % _EACH else None)
        heads.append(tag("th", words, scope="col"))
    return heads


def _key() -> Html:
    """What the cells mean."""
    entries = [("d0", "5"), ("d1", "10"), ("d2", "20"), ("d3", "40")]
    shades = [tag("span", words, class_=f"cell {class_}") for class_, words in entries]
    keys = (
        tag("span", shades, " drift, with its effect in hundredths"),
        tag("span", tag("span", "·", class_="cell o"), " ok"),
        tag("span", tag("span", "?", class_="cell u"), " unknown"),
    )
    return tag("p", keys, class_="legend")
