"""An incident's window beside its reference as a report of Evidently: one HTML file that needs nothing else.

Evidently wants rows. Where samples of them are kept, of the window and of its reference, they are what is shown. Where
not, rows are laid out from the counts of both sides, each column by itself: a column's distribution is right to the
width of a cell, and how columns go together is not in it. The report is made in a process of its own, with Evidently's
telemetry off.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.cells import ABOVE, BELOW, FIRST, N_CELLS, RARE, UNSEEN, Counts, Floats
from detectors.columns import CategoricalColumn, NumericColumn
from monitor import child
from monitor.alert import State
from monitor.child import Limits
from monitor.errors import ChildFault, ReportFault
from monitor.history import Compared, History, Unknown
from monitor.rowsample import RowSample
from monitor.window import WHOLE

if TYPE_CHECKING:
    import pandas as pd

Rows = tuple[RowSample, RowSample]
Objects = NDArray[np.object_]

N_ROWS: Final = 5_000
"""Rows of either side, at most."""
N_KEPT: Final = 20
FOLDER: Final = "reports"
LIMITS: Final = Limits(seconds=120, n_bytes=3 * 2**29)
"""Less than the unit's MemoryMax leaves: a child that is too large must not end the service."""
_OF_ROWS: Final = (
    "This report is made of {n} of the window's {n_all} rows and {m} of the reference's, chosen by a hash. Shares are "
    "as uncertain as so few rows leave them; driftd's own verdicts count all rows."
)
_OF_COUNTS: Final = (
    "Rows in this report are laid out from driftd's counts, each column by itself: a column's distribution is right to "
    "the width of a cell, values outside the reference's range lie on its border, and how columns go together is not "
    "shown."
)
_ONE_AT_A_TIME: Final = threading.Lock()


class Asked(msgspec.Struct, frozen=True):
    """Which report. directory: of the state; incident: named in full."""

    directory: str
    incident: str


def place(directory: Path, incident: str) -> Path:
    """Where the service keeps an incident's report; no name leads anywhere else."""
    return directory / FOLDER / f"{hashlib.sha256(incident.encode()).hexdigest()[:32]}.html"


def make(
    directory: Path, incident: str, to: Path | None = None, limits: Limits = LIMITS, patience_seconds: float = 0.0
) -> Path:
    """Make the report of an incident, named in full. directory: of the state. to: where to, else where the service
    keeps it. patience_seconds: how long to wait for another report that is being made. ReportFault says why there is
    none, Unknown that there is no such incident."""
    with closing(History(directory)) as history:
        _window(history, incident)
    target = to or place(directory, incident)
    if not _ONE_AT_A_TIME.acquire(timeout=patience_seconds):
        raise ReportFault("another report is being made at this moment; try again in a minute")
    try:
        made = child.run(__name__, msgspec.json.encode(Asked(str(directory.resolve()), incident)), limits)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = target.with_name(f".{target.name}.new")
        try:
            aside.write_bytes(made)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
        if to is None:
            _keep_the_latest(target.parent)
    except ChildFault as fault:
        raise ReportFault(f"the report of {incident}: {fault}") from fault
    except OSError as error:
        raise ReportFault(f"{target}: {error.strerror or error}") from error
    finally:
        _ONE_AT_A_TIME.release()
    return target


def _keep_the_latest(folder: Path) -> None:
    made = sorted(folder.glob("*.html"), key=lambda file: file.stat().st_mtime, reverse=True)
    for old in made[N_KEPT:]:
        old.unlink(missing_ok=True)


def _window(history: History, incident: str) -> tuple[str, Compared]:
    """The incident's model, and its last window with drift that is kept, beside its reference."""
    found = history.explain(incident)
    if found.incident.id != incident:
        raise Unknown(f"there is no incident {incident}")
    for change in reversed(found.changes):
        if change.episode.state is State.RESOLVED or not change.episode.columns:
            continue
        compared = history.compared(found.incident.model, WHOLE, change.window)
        if compared is not None:
            return found.incident.model, compared
    raise ReportFault(f"{incident}: no window of it with drifting columns is kept, so there is nothing to compare")


def table(compared: Compared, rows: Rows | None) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Rows of the reference and of the window, and which columns are words. Columns without any value on one of the
    sides are left out.

    rows: kept ones of either side; None where the counts are all there is.
    """
    import pandas as pd

    pair, before, after, words = compared.pair, dict[str, object](), dict[str, object](), list[str]()
    for row, column in enumerate(pair.bins.columns):
        if rows is None:
            sides = [_laid_out(side.counts[row], column) for side in (pair.reference, pair.current)]
        else:
            sides = [_kept(side, row) for side in rows]
        if not all(pd.notna(side).any() for side in sides):
            continue
        name = plain(column.name)
        while name in before:
            name += "'"
        before[name], after[name] = sides
        if isinstance(column, CategoricalColumn):
            words.append(name)
    if not before:
        raise ReportFault("no column has values both in the reference and in the window")
    reference, current = pd.DataFrame(before), pd.DataFrame(after)
    return (reference, current, words) if rows else (_shuffled(reference), _shuffled(current), words)


def plain(name: str) -> str:
    """A name that means nothing to a browser; Evidently puts names into its page as they are.

    >>> plain("</script><b>"), plain("")
    ('‹/script›‹b›', '(no name)')
    """
    words = name.translate({ord("<"): "‹", ord(">"): "›", ord("&"): "+", ord("\u2028"): " ", ord("\u2029"): " "})
    return "".join(letter if letter.isprintable() else " " for letter in words)[:200] or "(no name)"


def _kept(rows: RowSample, row: int) -> Objects | Floats:
    """A column of kept rows."""
    if row < rows.bins.n_numeric:
        return np.asarray(rows.numbers[row])
    return np.asarray(_named(rows.bins.categorical[row - rows.bins.n_numeric])[rows.cells[row]])


def _laid_out(counts: Counts, column: NumericColumn | CategoricalColumn) -> Objects | Floats:
    """A column of rows that have these counts together."""
    if isinstance(column, NumericColumn):
        return _numbers(counts, column)
    return np.repeat(_named(column), _apportioned(counts))


def _named(column: CategoricalColumn) -> Objects:
    """What each cell of a category is called, shape (256,); None where it holds no word."""
    named = np.full(N_CELLS, None, object)
    named[FIRST : FIRST + column.n_regular] = [plain(word) for word in column.vocabulary]
    named[[RARE, UNSEEN]] = "(rare words)", "(new words)"
    return named


def _apportioned(counts: Counts) -> Counts:
    """So many rows of each cell that they are `N_ROWS` together, or all of them; in proportion, largest rests first."""
    total = int(counts.sum())
    if total <= N_ROWS:
        return counts
    exact = counts * (N_ROWS / total)
    whole: Counts = np.floor(exact).astype(np.int64)
    rest = np.argsort(whole - exact, kind="stable")[: N_ROWS - int(whole.sum())]
    whole[rest] += 1
    return whole


def _numbers(counts: Counts, column: NumericColumn) -> Floats:
    """Rows of a number: evenly within each cell."""
    each = _apportioned(counts)
    edges, last = column.edges, FIRST + column.n_regular
    regular = [
        np.linspace(low, high, n + 1)[1:]
        for low, high, n in zip(edges[:-1], edges[1:], each[FIRST:last].tolist(), strict=True)
    ]
    outside = [np.full(int(each[BELOW]), edges[0]), np.full(int(each[ABOVE]), edges[-1])]
    return np.concatenate([np.full(int(each[:BELOW].sum()), np.nan), *regular, *outside])


def _shuffled(frame: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return frame.assign(**{name: frame[name].to_numpy()[rng.permutation(len(frame))] for name in frame.columns})


def _made(compared: Compared, rows: Rows | None) -> str:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    before, after, words = table(compared, rows)
    numbers = [name for name in before.columns if name not in words]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=words)
    current, reference = (Dataset.from_pandas(frame, data_definition=definition) for frame in (after, before))
    page: str = Report([DataDriftPreset()]).run(current, reference).get_html_str(as_iframe=False)
    note = _OF_COUNTS
    if rows is not None:
        note = _OF_ROWS.format(n=rows[1].n_rows, n_all=f"{compared.window.n_rows:,}", m=f"{rows[0].n_rows:,}")
    return page.replace("<body>", f"<body><p>{note}</p>", 1)


def in_child(given: bytes) -> bytes:
    """The report's HTML."""
    asked = msgspec.json.decode(given, type=Asked)
    with closing(History(Path(asked.directory))) as history:
        model, compared = _window(history, asked.incident)
        rows = history.rows(compared, model)
    return _made(compared, rows).encode()
