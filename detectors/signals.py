"""What a window is judged by: few numbers per column, each a mean over rows or a count of rare events.

A signal is the mean, over the rows of a window, of a function of one value that the reference fixes: where its rank
lies in the reference (level, spread, skew), whether it is a certain word, whether it is missing. Over the reference's
rows every signal has mean 0 and variance 1, so the mean over n rows has variance 1 / n. What hardly ever happens in the
reference (values outside it, missing ones, values of the wrong kind) has no normal law; it is counted as events.

A pair of columns that are watched together is one more thing that is judged, like a column. Its signal is the
correlation of their ranks, as Fisher's z, whose scatter over n rows is that of a mean. And so are all joint scores
together (`detectors/joint.py`), each of them a signal, a mean over rows.

All follow from a profile's counts by integer sums, so readings of parts of a window add up to that of the whole. What a
classifier of whole rows says (`detectors/domain.py`) is the last signal; it is said of a window once, at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.bins import Bins
from detectors.cells import ABOVE, BELOW, INVALID, MISSING, N_CELLS, Cells, Counts, Floats, Places
from detectors.pairs import Pairs, fisher
from detectors.parts import RANKS, TOGETHER, Event, Measure, listed
from detectors.profile import Profile


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The signals and events of one set of rows, as integers. Leading axes may stand for several sets.

    n_all: rows, shape (...). valid: rows that hold a value, shape (..., columns). totals: shape (..., signals); events:
    shape (..., events). pairs: sums of scores and of their products, shape (..., sums), see `Pairs`. told: of what a
    classifier was shown, rows, and the total of its signal over them, shape (..., 2), or (..., 0) where there is none.
    """

    n_all: Counts
    valid: Counts
    totals: Counts
    events: Counts
    pairs: Counts
    told: Counts

    @property
    def arrays(self) -> dict[str, Counts]:
        """All of it, by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def each(self, change: Callable[[Counts], Counts]) -> Reading:
        """The same change to every array."""
        return Reading(**{name: change(array) for name, array in self.arrays.items()})

    def __add__(self, other: Reading) -> Reading:
        return Reading(**{name: array + getattr(other, name) for name, array in self.arrays.items()})

    def __getitem__(self, index: Any) -> Reading:
        """Some of the sets, as arrays are indexed."""
        return self.each(lambda array: array[index])

    def sum(self, axis: int) -> Reading:
        """The sets along an axis taken together."""
        return self.each(lambda array: array.sum(axis=axis))


@dataclass(frozen=True, eq=False)
class Signals:
    """Which signals and events all columns of a reference have; then its pairs of columns, joint scores, a classifier.

    column, measure, cell: of each signal, by columns; cell is the word's, where it is a word's share.
    mean, scale: a signal is (total / rows - mean) * scale, that of a pair (Fisher's z - mean) * scale. weights: rank
    functions times FIXED, shape (numeric columns, 3, 254), zero where a column has no such signal.
    event_column, event: of each kind of event. pairs: that are judged: the cells' own where the reference counts them.
    """

    bins: Bins
    column: Places
    measure: tuple[Measure, ...]
    cell: Places
    mean: Floats
    scale: Floats
    weights: Floats
    event_column: Places
    event: tuple[Event, ...]
    pairs: Pairs

    @classmethod
    def of(cls, reference: Profile, rows: float) -> Signals:
        """The signals of a reference for windows of about so many rows."""
        found, weights, events = listed(reference, rows)
        return cls(
            reference.bins,
            np.array([signal[0] for signal in found], np.intp),
            tuple(signal[1] for signal in found),
            np.array([signal[2] for signal in found], np.intp),
            np.array([signal[3] for signal in found], np.float64),
            np.array([signal[4] for signal in found], np.float64),
            weights,
            np.array([row for row, _ in events], np.intp),
            tuple(kind for _, kind in events),
            reference.bins.pairs if reference.pairs.size else Pairs.none(),
        )

    @property
    def n_signals(self) -> int:
        return self.column.size

    @property
    def n_events(self) -> int:
        return self.event_column.size

    @property
    def n_columns(self) -> int:
        """Columns, pairs of columns, one for all joint scores, one for a classifier: what evidence is about, and
        "columns" in shapes."""
        return self.bins.n_columns + self.n_pairs + bool(self.n_joint) + self.n_told

    @property
    def n_pairs(self) -> int:
        return self.pairs.n_pairs

    @property
    def n_joint(self) -> int:
        return self.pairs.joint.n_scores

    @property
    def n_told(self) -> int:
        """1 where rows are shown to a classifier, else 0."""
        return int(self.pairs.n_shown > 0)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What people call them."""
        return (*self.bins.names, *self.bins.together_names[: self.n_columns - self.bins.n_columns])

    @cached_property
    def n_parts(self) -> Floats:
        """Signals and kinds of events of each column together, shape (columns,); at least 1."""
        sizes = (np.bincount(where, minlength=self.n_columns) for where in (self.column, self.event_column))
        return np.maximum(sum(sizes), 1).astype(np.float64)

    @cached_property
    def ln_parts(self) -> Floats:
        """The logarithm of that."""
        return np.asarray(np.log(self.n_parts))

    @cached_property
    def is_share(self) -> NDArray[np.bool_]:
        """Signals that are shares of rows, shape (signals,)."""
        return np.array([measure not in (*RANKS, *TOGETHER) for measure in self.measure], np.bool_)

    @cached_property
    def is_pair(self) -> NDArray[np.bool_]:
        """Signals of pairs of columns, shape (signals,)."""
        return np.array([measure is Measure.CORRELATION for measure in self.measure], np.bool_)

    @cached_property
    def is_together(self) -> NDArray[np.bool_]:
        """Signals of several columns at once, the last ones, shape (signals,)."""
        return np.arange(self.n_signals) >= self._own.size

    @cached_property
    def unit(self) -> Floats:
        """What a value is divided by to be told: shares as shares, correlations as Fisher's z, shape (signals,)."""
        return np.where(self.is_share | self.is_pair, self.scale, 1.0)

    @cached_property
    def is_fault(self) -> NDArray[np.bool_]:
        """Signals that tell of the data's quality, not of its values, shape (signals,)."""
        return np.array([measure is Measure.MISSING for measure in self.measure], np.bool_)

    @cached_property
    def is_event_fault(self) -> NDArray[np.bool_]:
        """Events of the data's quality, shape (events,): all but numbers out of range, which move as their level does.

        A column of one value has no level, and so no range to wander from.
        """
        ranked = set(self.column[self._ranked].tolist())
        pairs = zip(self.event_column.tolist(), self.event, strict=True)
        return np.array([kind is not Event.OUTSIDE or column not in ranked for column, kind in pairs], np.bool_)

    def read(self, profile: Profile) -> Reading:
        """The reading of a profile's rows."""
        return self.read_counts(profile.counts, profile.pairs)

    def read_counts(self, counts: Counts, pairs: Counts | None = None) -> Reading:
        """The readings of counts of shape (..., columns, 256); pairs: shape (..., sums), none where they were not
        counted."""
        if pairs is None or not pairs.size:
            pairs = np.zeros((*counts.shape[:-2], self.pairs.n_sums), np.int64)
        n_all = counts.sum(axis=-1)
        valid = n_all - counts[..., MISSING] - counts[..., INVALID]
        totals = counts[..., self._own, self.cell[: self._own.size]]
        if self._ranked.size:
            numbers = counts[..., : self.bins.n_numeric, None, BELOW:].astype(np.float64)
            ranks = np.vecdot(self.weights, numbers)  # sums of integers below 2**53: exact in any order
            totals[..., self._ranked] = ranks[..., *self._rank_place].astype(np.int64)
        for k in self._rest.tolist():
            column = self.column[k]
            listed = totals[..., self._shares[self.column[self._shares] == column]].sum(axis=-1)
            totals[..., k] = valid[..., column] - listed
        told = np.zeros((*counts.shape[:-2], 2 * self.n_told), np.int64)
        found = Reading(n_all[..., self.bins.witness], valid, totals, self._events(counts), pairs, told)
        return found.each(lambda array: np.asarray(array, order="C"))  # chosen cells lie cell by cell, not set by set

    def read_rows(self, cells: Cells, group: Places, n_groups: int) -> Reading:
        """The readings of groups of rows, shape (n_groups, ...).

        cells: shape (columns, rows), from `Bins.cells`; group: of each row, negative for none.
        """
        pairs = self.pairs.sums_by(cells, group, n_groups)
        chosen = group >= 0
        if not chosen.all():
            cells, group = cells[:, chosen], group[chosen]
        known = np.arange(N_CELLS) >= BELOW
        valid = np.stack([np.bincount(group, known[row], n_groups) for row in cells], axis=-1)
        listed = np.zeros((n_groups, self.bins.n_columns))
        totals = np.empty((n_groups, self._own.size))
        place = dict(zip(self._ranked.tolist(), zip(*self._rank_place, strict=True), strict=True))
        for k, (column, measure) in enumerate(zip(self._own.tolist(), self.measure, strict=False)):
            table = np.zeros(N_CELLS)
            if k in place:
                table[BELOW:] = self.weights[place[k]]
            elif measure is not Measure.REST:
                table[self.cell[k]] = 1
            totals[:, k] = np.bincount(group, table[cells[column]], n_groups)
            if measure is Measure.SHARE:
                listed[:, column] += totals[:, k]
        totals[:, self._rest] = (valid - listed)[:, self.column[self._rest]]
        events = np.empty((n_groups, self.n_events))
        for i, (column, kind) in enumerate(zip(self.event_column.tolist(), self.event, strict=True)):
            events[:, i] = np.bincount(
                group, np.isin(np.arange(N_CELLS), self._cells_of(column, kind))[cells[column]], n_groups
            )
        n_all, whole = np.bincount(group, minlength=n_groups), np.int64
        told = np.zeros((n_groups, 2 * self.n_told), whole)
        return Reading(n_all, valid.astype(whole), totals.astype(whole), events.astype(whole), pairs, told)

    def values(self, reading: Reading) -> tuple[Floats, Floats]:
        """Of each signal its value, 0 without rows, and its rows; each of shape (..., signals)."""
        n, shape = self._own.size, (*reading.n_all.shape, self.n_signals)
        rows, found = np.empty(shape), np.empty(shape)
        valid = reading.valid.take(self._own, axis=-1)
        rows[..., :n] = np.where(self.is_fault[:n], reading.n_all[..., None], valid)
        np.divide(reading.totals, np.maximum(rows[..., :n], 1), out=found[..., :n])
        if self.n_pairs:
            two = slice(n, n + self.n_pairs)
            found[..., two] = fisher(self.pairs.correlations(reading.pairs, reading.n_all))
            known = np.isfinite(found[..., two] - self.mean[..., two])
            rows[..., two] = known * np.maximum(reading.n_all[..., None] - 3.0, 0.0)
        if self.n_joint:
            joint = slice(n + self.n_pairs, n + self.n_pairs + self.n_joint)
            found[..., joint] = self.pairs.joint_means(reading.pairs, reading.n_all)
            rows[..., joint] = reading.n_all[..., None]
        if self.n_told:
            rows[..., -1] = reading.told[..., 0]
            found[..., -1] = reading.told[..., 1] / np.maximum(reading.told[..., 0], 1)
        return np.where(rows > 0, (found - self.mean) * self.scale, 0.0), rows

    def event_rows(self, reading: Reading) -> Floats:
        """Rows in which each kind of event could have happened, shape (..., events)."""
        valid = reading.valid.take(self.event_column, axis=-1)
        return np.where(self._of_values, valid, reading.n_all[..., None]).astype(np.float64)

    def row_variance(self, reference: Profile) -> Floats:
        """Variance of one row's signal among these rows, shape (signals,): 1 for the rows that fixed the signals."""
        values, rows = self.values(self.read(reference))
        share = np.clip(values / self.scale + self.mean, 0, 1)
        variance = np.where(self.is_share, share * (1 - share) * self.scale**2, 1.0)
        numbers = reference.numbers
        if self._ranked.size:
            squares = np.vecdot(np.square(self.weights), numbers[:, None, :])[self._rank_place]
            second = squares / np.maximum(rows[self._ranked], 1) * self.scale[self._ranked] ** 2
            first = values[self._ranked] + self.mean[self._ranked] * self.scale[self._ranked]
            variance[self._ranked] = second - first**2
        return np.maximum(variance, 1e-3)

    def troubled(self, changed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Pairs of which a column has changed itself, joint scores if any column or pair has, a classifier if anything
        has; changed, found: shape (..., columns).

        A correlation follows its columns; it is only told of by itself while they are as they were.
        """
        found = np.zeros(changed.shape, np.bool_)
        first = self.bins.n_columns
        found[..., first : first + self.n_pairs] = changed[..., self.pairs.members].any(axis=-2)
        for row in range(first + self.n_pairs, self.n_columns):
            found[..., row] = changed[..., :row].any(axis=-1)
        return found

    def first_of(self, row: int) -> int:
        """The first signal of a column, pair or the joint scores; `n_signals` where it has none."""
        place = int(np.searchsorted(self.column, row))
        return place if place < self.n_signals and self.column[place] == row else self.n_signals

    def per_column(self, of_signals: Floats, of_events: Floats) -> Floats:
        """Sums over the parts of each column, shape (..., columns)."""
        return self._signal_groups.sum(of_signals) + self._event_groups.sum(of_events)

    def best_of(self, of_signals: Floats, of_events: Floats | None = None) -> Floats:
        """Largest part of each column, shape (..., columns); -inf where there is none. None: signals alone count."""
        best = self._signal_groups.max(of_signals)
        return best if of_events is None else np.maximum(best, self._event_groups.max(of_events))

    @cached_property
    def _own(self) -> Places:
        """Columns of the signals that are means over rows of one column; those of several columns are the last."""
        return self.column[: self.n_signals - self.n_pairs - self.n_joint - self.n_told]

    @cached_property
    def _ranked(self) -> Places:
        return np.array([k for k, measure in enumerate(self.measure) if measure in RANKS], np.intp)

    @cached_property
    def _rank_place(self) -> tuple[Places, Places]:
        order = [RANKS.index(self.measure[k]) for k in self._ranked]
        return self.column[self._ranked], np.array(order, np.intp)

    @cached_property
    def _shares(self) -> Places:
        return np.array([k for k, measure in enumerate(self.measure) if measure is Measure.SHARE], np.intp)

    @cached_property
    def _rest(self) -> Places:
        return np.array([k for k, measure in enumerate(self.measure) if measure is Measure.REST], np.intp)

    @cached_property
    def _of_values(self) -> NDArray[np.bool_]:
        return np.array([kind is Event.OUTSIDE for kind in self.event], np.bool_)

    @cached_property
    def _signal_groups(self) -> _Groups:
        return _Groups(self.column, self.n_columns)

    @cached_property
    def _event_groups(self) -> _Groups:
        return _Groups(self.event_column, self.n_columns)

    @cached_property
    def _event_cells(self) -> tuple[Places, Places]:
        """First and second cell of each kind of event; the same one twice where there is but one."""
        cells = [self._cells_of(*pair) for pair in zip(self.event_column.tolist(), self.event, strict=True)]
        return np.array([c[0] for c in cells], np.intp), np.array([c[-1] for c in cells], np.intp)

    def _cells_of(self, column: int, kind: Event) -> list[int]:
        if kind is Event.OUTSIDE:
            return [BELOW, ABOVE] if column < self.bins.n_numeric else [BELOW]
        return [MISSING if kind is Event.MISSING else INVALID]

    def _events(self, counts: Counts) -> Counts:
        first, second = self._event_cells
        found = counts[..., self.event_column, first]
        return np.where(first != second, found + counts[..., self.event_column, second], found)


class _Groups:
    """Parts that lie together by column, reduced to one number per column."""

    def __init__(self, column: Places, n_columns: int) -> None:
        self._present, self._first = np.unique(column, return_index=True)
        self._n_columns = n_columns

    def sum(self, values: Floats) -> Floats:
        return self._reduced(np.add, values, 0.0)

    def max(self, values: Floats) -> Floats:
        return self._reduced(np.maximum, values, -np.inf)

    def _reduced(self, function: np.ufunc, values: Floats, nothing: float) -> Floats:
        if self._present.size == self._n_columns:
            return np.asarray(function.reduceat(values, self._first, axis=-1))
        found = np.full((*values.shape[:-1], self._n_columns), nothing)
        if self._present.size:
            found[..., self._present] = function.reduceat(values, self._first, axis=-1)
        return found
