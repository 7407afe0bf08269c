"""From numbers to cells by a table, so that no value is searched for.

Each column has arithmetic that turns a number into a small code and never changes the order of two numbers: a line
through float64, rounded to float32, and of that the top bits. So the numbers of one code are an interval: linear in
the number at one end of the column's range, and ever wider towards the other. A table has the cell of every code.

Where an edge lies within a code's interval the number itself is compared with that edge; a cell that holds one value
alone is known by comparing with that value. Only numbers in the intervals that are left are searched for, and the line
is chosen so that these are few. So the cells are exactly those of a search, for every float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.cells import Cells, Floats

BLOCK: Final = 32_768
"""Values worked on together: they and what is made of them stay in the processor's cache."""
SEARCH: Final = 256
"""Added to the cell of a code: numbers below the cell's upper edge are to be searched for."""
ONE: Final = 127 << 23
"""The bits of the float32 1.0."""


@dataclass(frozen=True, slots=True)
class Line:
    """How numbers become codes: slope * x + offset as float32, its bits less those of 1.0, shifted to the right."""

    slope: float
    offset: float
    shift: int
    n_codes: int

    def codes(self, values: Floats) -> NDArray[np.intp]:
        """Codes in the order of the values, as `Lookup.cells` finds them."""
        with np.errstate(over="ignore", invalid="ignore"):
            found = (values * self.slope + self.offset).astype(np.float32).view(np.int32) >> self.shift
        found -= ONE >> self.shift
        return np.asarray(np.clip(found, 0, self.n_codes - 1), np.intp)


class Lookup:
    """The cells of several columns.

    edges: of each column, ascending; a number's cell is `first` plus the number of edges below it, and `last` above all
    edges. There may be at most last - first edges.
    """

    def __init__(self, edges: Sequence[Floats], first: int, last: int) -> None:
        self._edges = edges
        self._first = first
        lines = [_line(column) for column in edges]
        self._slope = np.array([[line.slope] for line in lines])
        self._offset = np.array([[line.offset] for line in lines])
        self._shift = np.array([[line.shift] for line in lines], np.int32)
        self._zero = np.array([[ONE >> line.shift] for line in lines], np.int32)
        self._above = np.array([[first + column.size] for column in edges], np.uint8)
        self._gap = last - self._above
        self._tables = [_table(column, line, first) for column, line in zip(edges, lines, strict=True)]
        self._uppers = [_uppers(column, first) for column in edges]

    def cells(self, values: Floats, out: Cells) -> None:
        """Fill in the cells of values, shape (columns, rows); of NaN the cell is 0."""
        n_columns, n_rows = values.shape
        rows = max(1, min(n_rows, BLOCK))
        columns = max(1, BLOCK // rows)
        with np.errstate(over="ignore", invalid="ignore"):
            for i in range(0, n_columns, columns):
                some = slice(i, i + columns)
                for j in range(0, n_rows, rows):
                    self._block(some, values[some, j : j + rows], out[some, j : j + rows])

    def _block(self, columns: slice, x: Floats, out: Cells) -> None:
        z = x * self._slope[columns]
        z += self._offset[columns]
        code = z.astype(np.float32).view(np.int32)
        code >>= self._shift[columns]
        code -= self._zero[columns]
        entry = np.empty(x.shape, np.uint16)
        for row, (table, upper) in enumerate(zip(self._tables[columns], self._uppers[columns], strict=True)):
            table.take(code[row], None, entry[row], "clip")
            upper.take(entry[row], None, z[row], "clip")
        found = entry.astype(np.uint8)
        true = np.greater(x, z)
        ones = true.view(np.uint8)
        found += ones
        open_ = entry >= SEARCH
        if open_.any():
            open_ &= ~(x >= z)
            for row in np.flatnonzero(open_.any(axis=1)).tolist():
                some = np.flatnonzero(open_[row])
                found[row, some] = self._first + np.searchsorted(self._edges[columns][row], x[row, some])
        np.equal(found, self._above[columns], out=true)
        ones *= self._gap[columns]
        found += ones
        np.equal(x, x, out=true)  # false for NaN alone, and faster than isnan
        np.multiply(found, ones, out=out)


def _line(edges: Floats) -> Line:
    """The line that leaves fewest cells within the interval of one code."""
    # The lower of two edges with nothing between them is no border that a value could lie at.
    apart = np.flatnonzero(edges[1:] != np.nextafter(edges[:-1], np.inf))
    best, fewest = Line(1.0, 1.0, 23, 1), edges.size + 1
    for line in _lines(edges):
        codes = line.codes(edges)
        merged = int(np.count_nonzero(codes[apart] == codes[apart + 1]))
        if merged < fewest:
            best, fewest = line, merged
        if not merged:
            break
    return best


def _lines(edges: Floats) -> Iterable[Line]:
    """Lines to try, the best guess first: from one end of the range or the other, less what lies far outside."""
    for bits, octaves in ((8, 1), (12, 1), (12, 4), (12, 16)):
        shift = 23 - bits + octaves.bit_length() - 1
        for below, above in ((0, 0), (1, 1), (0, 2), (2, 0), (4, 4), (0, 6), (6, 0)):
            if below + above + 1 >= max(edges.size, 2):
                continue
            low, high = float(edges[below]), float(edges[-1 - above])
            width = high - low or max(abs(low), 1.0) * 2.0**-20
            for slope, start in ((2.0**octaves - 1) / width, low), (-(2.0**octaves - 1) / width, high):
                offset = 1.0 - slope * start
                if math.isfinite(slope) and math.isfinite(offset) and slope:
                    yield Line(slope, offset, shift, 1 << bits)


def _table(edges: Floats, line: Line, first: int) -> NDArray[np.uint16]:
    """For each code the cell of its numbers, as far as that can be told."""
    with np.errstate(over="ignore"):
        codes, beyond = line.codes(edges), line.codes(np.nextafter(edges, np.inf))
    if line.slope < 0:
        codes, beyond = line.n_codes - 1 - codes, line.n_codes - 1 - beyond
    n_below = np.cumsum(np.bincount(codes, minlength=line.n_codes)) - np.bincount(codes, minlength=line.n_codes)
    within = np.bincount(codes[codes == beyond], minlength=line.n_codes)
    cells = first + n_below
    entries = np.select([within <= 1, within == 2], [cells, SEARCH + cells + 1], SEARCH).astype(np.uint16)
    return entries if line.slope > 0 else entries[::-1].copy()


def _uppers(edges: Floats, first: int) -> Floats:
    """For each entry of the table the upper edge of its cell; NaN where no cell is named."""
    uppers = np.full(SEARCH, np.nan)
    uppers[first : first + edges.size] = edges
    uppers[first + edges.size :] = np.inf
    return np.concatenate((uppers, uppers))
