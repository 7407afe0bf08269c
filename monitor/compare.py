"""Two tables, column against column: the statistics of numbers exact on the rows, all others from counts.

The reference fixes each column's kind and cells, and the verdict is the one that a window would get. Points in time are
compared as numbers. Whole numbers and points in time that only go up or down from row to row, and words that hardly
ever repeat, are keys: ids and clocks, whose values move without any drift. Unless it is asked for by name, a key's
verdict is "unknown", or "drift" if values went missing or changed type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec
import numpy as np
from rich.table import Table
from rich.text import Text

from detectors import REGISTRY, Bins, Kind, Pair, Profile, law
from detectors.cells import INVALID, MISSING, Counts, Floats
from detectors.columns import CategoricalColumn, NumericColumn
from detectors.profile import N_SUMS, count_sorted, count_words
from detectors.rows import KERNELS, RowScore, score_rows
from monitor import describe
from monitor.decision import MIN_ROWS, Outcome, Scores, Verdict, finite
from monitor.decision.family import FLOORS, Family
from monitor.reference import kinds_of
from monitor.scorecard import DetectorScore
from monitor.table import is_time, numbers, word_counts

if TYPE_CHECKING:
    import pandas as pd

C = TypeVar("C", NumericColumn, CategoricalColumn)
_KEY_SHARE: Final = 0.5
"""Share of rows whose word occurs once, beyond which a column of words is a key."""


class Column(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column as `--json` writes it; `reason` is of its verdict."""

    column: str
    kind: Kind
    verdict: Outcome
    detectors: dict[str, DetectorScore]
    reason: str = ""


class Rows(msgspec.Struct, frozen=True):
    """The size of one table."""

    rows: int


class Document(msgspec.Struct, frozen=True):
    """What `--json` writes."""

    reference: Rows
    current: Rows
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """One column. missing: share of missing current rows minus the reference's; None where a table lacks the column."""

    kind: Kind
    verdict: Verdict
    missing: float | None
    detectors: dict[str, DetectorScore]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two tables compared; columns in the order of the reference, then those that it lacks."""

    n_reference: int
    n_current: int
    columns: tuple[Compared, ...]

    def count(self, outcome: Outcome) -> int:
        return sum(column.verdict.outcome is outcome for column in self.columns)

    def document(self) -> Document:
        columns = tuple(
            Column(
                column=each.verdict.column,
                kind=each.kind,
                verdict=each.verdict.outcome,
                detectors=each.detectors,
                reason=each.verdict.reason,
            )
            for each in self.columns
        )
        return Document(Rows(self.n_reference), Rows(self.n_current), columns)


def column_names(reference: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    """Every column of either table, the reference's first."""
    return list(dict.fromkeys([*reference.columns, *current.columns]))


def compare(
    reference: pd.DataFrame, current: pd.DataFrame, detectors: Iterable[str], columns: Iterable[str] | None = None
) -> Comparison:
    """Compare the named columns of two tables, by default all, with the named detectors. Column names are text."""
    names = column_names(reference, current) if columns is None else list(columns)
    detectors = tuple(detectors)
    kinds = _kinds(reference, names) | _kinds(current, set(names) - set(reference.columns))
    both = {name: kinds[name] for name in names if name in reference and name in current}
    found = {each.verdict.column: each for each in _in_both(reference, current, both, detectors, keys=columns is None)}
    for name in names:
        if name not in found:
            found[name] = _in_one(name, kinds[name], reference, current, detectors)
    return Comparison(len(reference), len(current), tuple(found[name] for name in names))


def _kinds(frame: pd.DataFrame, names: Iterable[str]) -> dict[str, Kind]:
    wanted = dict.fromkeys(frame.columns, "ignore")
    for name in wanted.keys() & set(names):
        wanted[name] = "numeric" if is_time(frame[name]) else ""
    return kinds_of(frame, wanted)


def _in_one(
    name: str, kind: Kind, reference: pd.DataFrame, current: pd.DataFrame, detectors: Sequence[str]
) -> Compared:
    """A column that one of the tables lacks."""
    n, m = (int(frame[name].notna().sum()) if name in frame else 0 for frame in (reference, current))
    reason = f"only in the {'reference' if name in reference else 'current'} file"
    nothing = DetectorScore(statistic=None, p_value=None, effect=None, n_reference=n, n_current=m, reason=reason)
    verdict = Verdict(column=name, outcome=Outcome.UNKNOWN, reason=reason, n_reference=n, n_current=m, measure="")
    return Compared(kind, verdict, None, dict.fromkeys(detectors, nothing))


@dataclass(frozen=True, slots=True, eq=False)
class _Counted(Generic[C]):
    """One column of both tables on the reference's cells.

    counts: shape (2, 256), reference first. sums: shape (2, 5), and statistics on the rows, of a numeric column.
    key: why the column is a key; empty if it is none.
    """

    column: C
    counts: Counts
    key: str
    sums: Counts
    rows: Mapping[str, RowScore]


def _in_both(
    reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, Kind], detectors: Sequence[str], *, keys: bool
) -> Iterator[Compared]:
    """Columns that both tables have. keys: whether to look for keys."""
    kernels = [name for name in detectors if name in KERNELS]
    numeric = [_numeric(n, reference[n], current[n], kernels) for n, kind in kinds.items() if kind is Kind.NUMERIC]
    words = [_categorical(n, reference[n], current[n]) for n, kind in kinds.items() if kind is Kind.CATEGORICAL]
    bins = Bins(tuple(each.column for each in numeric), tuple(each.column for each in words))
    if not bins.n_columns:
        return
    columns: list[_Counted[Any]] = [*numeric, *words]
    counts = np.stack([each.counts for each in columns], axis=1)
    sums = np.array([each.sums for each in numeric], np.int64).reshape(-1, 2, N_SUMS)
    before, now = (Profile(bins, counts[side], sums[:, side], n_windows=1) for side in (0, 1))
    pair = Pair(before, now, law.between(before, now, detectors))
    scores = Scores(pair)
    verdicts, _ = Family().judge(scores, b"")
    for i, (each, verdict) in enumerate(zip(columns, verdicts, strict=True)):
        found = {
            name: _on_rows(each.rows[name], scores, name, i) if name in each.rows else _on_cells(scores, name, i)
            for name in detectors
        }
        settled = _settled(pair, i, verdict, each.key if keys else "")
        yield Compared(bins.kinds[i], settled, finite(scores["missing"].effect[i]), found)


def _numeric(name: str, reference: pd.Series, current: pd.Series, kernels: Sequence[str]) -> _Counted[NumericColumn]:
    (x, x_is_key, *x_others), (y, y_is_key, *y_others) = (_ascending(values) for values in (reference, current))
    column = NumericColumn.of_sorted(name, x[np.searchsorted(x, -np.inf, "right") : np.searchsorted(x, np.inf)])
    (x_counts, x_sums), (y_counts, y_sums) = count_sorted(column, x), count_sorted(column, y)
    counts = np.stack((x_counts, y_counts))
    counts[:, [MISSING, INVALID]] = x_others, y_others
    key = "a key: every row is beyond the one before" if x_is_key and y_is_key else ""
    return _Counted(column, counts, key, np.stack((x_sums, y_sums)), score_rows(x, y, kernels))


def _ascending(values: pd.Series) -> tuple[Floats, bool, int, int]:
    """The numbers of a column, ascending; whether it may be a key; rows missing, of another type."""
    found, invalid = numbers(values)
    n_invalid = 0 if invalid is None else int(invalid.sum())
    ascending = np.sort(found)  # NaN comes last
    n_numbers = int(np.searchsorted(ascending, np.nan))
    in_time = is_time(values)
    is_key = _goes_on(found[:100], in_time) and _goes_on(found, in_time)  # few columns get past the first rows
    return ascending[:n_numbers], is_key, found.size - n_numbers - n_invalid, n_invalid


def _goes_on(values: Floats, in_time: bool) -> bool:
    """Whether every value is beyond the one before; points in time may also stay."""
    before, after = values[:-1], values[1:]
    if in_time:
        return bool((before != after).any() and ((before <= after).all() or (before >= after).all()))
    rises_or_falls = before.size and ((before < after).all() or (before > after).all())
    return bool(rises_or_falls and (values == np.rint(values)).all())


def _categorical(name: str, reference: pd.Series, current: pd.Series) -> _Counted[CategoricalColumn]:
    (x_words, *x_others), (y_words, *y_others) = (word_counts(values) for values in (reference, current))
    column = CategoricalColumn.of(name, x_words)
    counts = np.stack((count_words(column, x_words), count_words(column, y_words)))
    counts[:, [MISSING, INVALID]] = x_others, y_others
    share = column.singleton_share
    key = f"a key: {share:.0%} of the reference's rows have a word of their own" if share > _KEY_SHARE else ""
    return _Counted(column, counts, key, np.zeros((2, 0), np.int64), {})


def _settled(pair: Pair, row: int, verdict: Verdict, key: str) -> Verdict:
    """The verdict, unless the reference is too small to call anything ok, or the column is a key.

    Of a key only what is missing or malformed tells anything.
    """
    outcome, reason = verdict.outcome, verdict.reason
    if key and outcome is not Outcome.UNKNOWN:
        faults = [describe.change(pair, row, name) for name in ("missing", "type_error")]
        told = [fact for fact in faults if fact in verdict.quality]
        outcome, reason = (Outcome.DRIFT, told[0]) if told else (Outcome.UNKNOWN, key)
    elif outcome is Outcome.OK and verdict.n_reference < MIN_ROWS:
        outcome = Outcome.UNKNOWN
        reason = f"found {verdict.n_reference} valid rows in the reference, wanted {MIN_ROWS} or more"
    return msgspec.structs.replace(verdict, outcome=outcome, reason=reason)


def _on_rows(score: RowScore, scores: Scores, name: str, row: int) -> DetectorScore:
    """The statistic of the rows, with the p-value of their counts where its law has to be drawn."""
    p_value = float(scores[name].p_value[row]) if np.isnan(score.p_value) else score.p_value
    return _found((score.statistic, p_value, score.effect), score.n_reference, score.n_current, score.reason)


def _on_cells(scores: Scores, name: str, row: int) -> DetectorScore:
    score, bins = scores[name], scores.pair.bins
    reason = score.reason(row)
    if bins.kinds[row] not in REGISTRY[name].kinds:
        reason = f"not defined for {bins.kinds[row]} columns"
    elif reason is not None:
        reason = scores.failures.get(bins.names[row], reason)
    values = (score.statistic[row], score.p_value[row], score.effect[row])
    return _found(values, int(score.n_reference[row]), int(score.n_current[row]), reason)


def _found(values: tuple[float, float, float], n: int, m: int, reason: str | None) -> DetectorScore:
    statistic, p_value, effect = (finite(value) for value in values)
    if statistic is None:
        reason, p_value, effect = reason or "infinite", None, None
    elif p_value is None or effect is None:
        absent = [what for what, value in (("p-value", p_value), ("effect", effect)) if value is None]
        reason = f"no {' and no '.join(absent)} is defined for it on these rows"
    return DetectorScore(statistic=statistic, p_value=p_value, effect=effect, n_reference=n, n_current=m, reason=reason)


def table(comparison: Comparison) -> Table:
    """What a person reads, worst column first."""
    shown = Table("column", "kind", "verdict", box=None, pad_edge=False)
    for title in ("found", "effect", "p", "missing"):
        shown.add_column(title, justify="right", no_wrap=True)
    for each in sorted(comparison.columns, key=_rank):
        verdict = each.verdict
        judged = verdict.outcome is not Outcome.UNKNOWN
        shown.add_row(
            Text(_printable(verdict.column), overflow="fold"),
            each.kind,
            Text(verdict.outcome, style=_STYLES[verdict.outcome]),
            _telling(each) if judged else "",
            f"{verdict.effect:+.3f}" if judged and verdict.effect is not None else "",
            _short(verdict.p_value) if judged and verdict.p_value is not None else "",
            f"{each.missing:+.1%}" if each.missing else "",
        )
    return shown


def summary(comparison: Comparison) -> str:
    """What changed or why nothing can be said, a line for each such column; in the last line how many drift."""
    told = [each.verdict for each in sorted(comparison.columns, key=_rank) if each.verdict.reason]
    return "".join(f"{_printable(f'{verdict.column}: {verdict.reason}')}\n" for verdict in told) + (
        f"{comparison.count(Outcome.DRIFT)} of {len(comparison.columns)} columns drift, "
        f"{comparison.count(Outcome.UNKNOWN)} unknown; "
        f"{comparison.n_reference:,} reference rows, {comparison.n_current:,} current rows"
    )


_STYLES: Final = {Outcome.DRIFT: "bold red", Outcome.UNKNOWN: "yellow", Outcome.OK: "green"}


def _rank(each: Compared) -> tuple[int, float]:
    """Drifting columns first, then unknown ones; among equals the largest effect, in units of what is worth telling."""
    size = abs(each.verdict.effect or 0.0) / FLOORS.get(each.verdict.measure, 1.0)
    return list(_STYLES).index(each.verdict.outcome), -size


def _telling(each: Compared) -> str:
    found = each.detectors.get(each.verdict.measure)
    if found is None or found.statistic is None:
        return each.verdict.measure
    size = abs(found.statistic)
    return f"{each.verdict.measure} {found.statistic:{'.3f' if size < 1 else '.4g'}}"


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)


def _short(p_value: float) -> str:
    if p_value < 1e-99:
        return "<1e-99"
    return f"{p_value:.4f}" if p_value >= 1e-4 else f"{p_value:.0e}"
