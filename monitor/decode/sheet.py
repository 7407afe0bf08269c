"""The columns of some records while a decoder fills them in, the same for every format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.cells import Cells, Floats
from monitor.batch import Batch, Int64s, Records, Reject, Value
from monitor.decode import ID, STAMP, Layout
from monitor.decode.value import Codes, epochs_ms, floats, keys
from monitor.loss import from_labels, labels_of

INSPECT_EVERY: Final = 64
"""Every record whose offset is a multiple of this is searched for columns that the reference does not have."""
NAME_LENGTH: Final = 200


class Sheet:
    """Rows as columns. At first every value is missing and every event time is that of the log.

    numbers: float64, shape (numeric columns, rows). words: cells, uint8, shape (categorical columns, rows).
    mistakes: column and row of values that are present and not numbers.
    """

    def __init__(self, layout: Layout, codes: Sequence[Codes], records: Records, origin: Int64s | None = None) -> None:
        """origin: which of the records each row comes from, ascending; None where every record is one row."""
        self._layout = layout
        self._codes = codes
        self._records = records
        self._origin = np.arange(records.offsets.size) if origin is None else origin
        self._time_ms: Int64s = records.timestamps_ms[self._origin]
        self._rejects: list[Reject] = []
        self._refused: set[int] = set()
        shape = self._origin.size
        self.numbers: Floats = np.full((layout.bins.n_numeric, shape), np.nan)
        self.words: Cells = np.zeros((len(layout.bins.categorical), shape), np.uint8)
        self.mistakes: list[tuple[int, int]] = []
        self._keys = np.zeros(0 if layout.id is None else shape, np.uint64)

    def fill(self, column: int, first: int, values: Sequence[Any] | NDArray[Any]) -> None:
        """Set a column, by its number in the layout, from the first row on; the event time and the id are two more.

        values: as they were read, or an array: float64 of numbers, uint8 of a word's cells, int64 of times.
        """
        if column == self._layout.bins.n_columns + STAMP:
            self.stamp(first, values)
        elif isinstance(values, np.ndarray):
            self.put(column, first, values)
        elif column == self._layout.bins.n_columns + ID:
            self._keys[first : first + len(values)] = keys(values)
        elif (spelled := self._layout.spelled(column)) is not None:
            self.put(column, first, np.frombuffer(self._codes[spelled].cells(values), np.uint8))
        else:
            wrong = floats(values, self.numbers[column, first : first + len(values)])
            self.mistakes += [(column, first + row) for row in wrong]

    def put(self, column: int, first: int, values: NDArray[Any]) -> None:
        """Set a column from the first row on: cells of one that is read in words, numbers of another."""
        rows, n_numeric = slice(first, first + values.size), self._layout.bins.n_numeric
        if column >= n_numeric:
            self.words[column - n_numeric, rows] = values
        else:
            self.numbers[column, rows] = values if self._layout.spelled(column) is None else labels_of(values)

    def stamp(self, first: int, values: Sequence[Any] | Int64s) -> None:
        """Set the event times of rows from the first one on; None keeps the log's; what is no time costs its row."""
        part = self._time_ms[first : first + len(values)]
        for row in epochs_ms(values, part):
            words = f"the event time {str(values[row])[:40]!r} is neither epoch s/ms/us/ns nor RFC 3339"
            self.refuse(first + row, "event_time", words)

    def time(self, first: int, times_ms: Int64s, present: NDArray[np.bool_]) -> None:
        """Set the event times of rows from the first one on, where they are present."""
        part = self._time_ms[first : first + times_ms.size]
        part[present] = times_ms[present]

    def refuse(self, row: int, kind: str, reason: str) -> None:
        """The row is none; its first reason counts."""
        if row not in self._refused:
            self._refused.add(row)
            record = int(self._origin[row])
            self.refuse_record(record, kind, reason, row - int(np.searchsorted(self._origin, record)))

    def refuse_record(self, record: int, kind: str, reason: str, row: int = 0) -> None:
        """The record gave no rows, or not this one of its rows."""
        offset, head = int(self._records.offsets[record]), self._records.head(record)
        self._rejects.append(Reject(self._records.partition, offset, kind, reason, head, row))

    def to_inspect(self) -> list[tuple[int, Value]]:
        """Rows to be searched for columns that the reference does not have, each with its record's value."""
        values, offsets = self._records.values, self._records.offsets[self._origin]
        rows = np.flatnonzero(offsets % INSPECT_EVERY == 0).tolist()
        return [(row, values[int(self._origin[row])]) for row in rows if row not in self._refused]

    def batch(self, unknown: Iterable[tuple[int, Iterable[str]]] = ()) -> Batch:
        """The rows that were filled in. unknown: each row that was inspected, and the strange columns in it."""
        bins, records, n_rows = self._layout.bins, self._records, self._origin.size
        from_labels(bins, self.numbers, self.words)
        invalid = None
        if self.mistakes:
            invalid = np.zeros(self.numbers.shape, np.bool_)
            invalid[tuple(np.array(self.mistakes).T)] = True
        found = [(row, list(names)) for row, names in unknown]
        batch = Batch(
            records.partition, records.offsets[self._origin], self._time_ms, self.numbers,
            bins.cells(self.numbers, self.words, invalid), records.next_offset,
            tuple(sorted(self._rejects, key=lambda reject: (reject.offset, reject.row))),
            np.array([row for row, _ in found], np.int64),
            tuple((row, name[:NAME_LENGTH]) for row, names in found for name in names), self._keys,
        )  # fmt: skip
        refused = np.zeros(n_rows, np.bool_)
        refused[list(self._refused)] = True
        return batch.without(refused)
