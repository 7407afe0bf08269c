"""Cells that the reference fixes once, so that every later window is integer counts on the same cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.cells import ABOVE, BELOW, FIRST, INVALID, N_CELLS, N_REGULAR, Cells, Counts, Floats
from detectors.columns import CategoricalColumn, Kind, NumericColumn
from detectors.joint import JOINT_NAME
from detectors.lookup import Lookup
from detectors.pairs import WHOLE_ROWS, Pairs

Q_LIMIT: Final = 1 << 17
"""Fixed-point values further than this, 128 robust standard deviations from the centre, count as that far: so no single
row can move a sum more, and 2**28 rows cannot overflow it."""


@dataclass(frozen=True, eq=False)
class Bins:
    """The cells of all columns of one reference: numeric columns first, then categorical ones.

    pairs: the numeric columns that are watched two by two, and the scores of their cells.

    >>> bins = Bins.of({"age": np.array([20.0, 30.0, 30.0, 41.0])}, {"plan": {"free": 3, "paid": 1}})
    >>> bins.names
    ('age', 'plan')
    >>> bins.cells(np.array([[30.0, 99.0, np.nan]]), np.array([[FIRST, UNSEEN, MISSING]], dtype=np.uint8))[0].tolist()
    [6, 255, 0]
    """

    numeric: tuple[NumericColumn, ...]
    categorical: tuple[CategoricalColumn, ...]
    pairs: Pairs = field(default_factory=Pairs.none)

    @classmethod
    def of(
        cls, numbers: Mapping[str, Floats], words: Mapping[str, Mapping[str, int]], error_of: Mapping[str, str] = {}
    ) -> Bins:
        """Fix all cells: numeric columns from their values, categorical ones from their words' frequencies.

        error_of: the numeric columns that are the error of another one, and which.
        """
        return cls(
            tuple(
                replace(NumericColumn.of(name, np.asarray(values, np.float64)), error_of=error_of.get(name, ""))
                for name, values in numbers.items()
            ),
            tuple(CategoricalColumn.of(name, counted) for name, counted in words.items()),
        )

    @property
    def columns(self) -> tuple[NumericColumn | CategoricalColumn, ...]:
        return self.numeric + self.categorical

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @cached_property
    def pair_names(self) -> tuple[str, ...]:
        """What people call the pairs of columns that are watched."""
        members = zip(*self.pairs.members.tolist(), strict=True)
        return tuple(f"correlation of {self.names[first]} and {self.names[second]}" for first, second in members)

    @property
    def together_names(self) -> tuple[str, ...]:
        """What people call what is watched of several columns at once: pairs, all joint scores as one, whole rows."""
        joint, rows = bool(self.pairs.joint.n_scores), bool(self.pairs.n_shown)
        return self.pair_names + (JOINT_NAME,) * joint + (WHOLE_ROWS,) * rows

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        return (Kind.NUMERIC,) * len(self.numeric) + (Kind.CATEGORICAL,) * len(self.categorical)

    @cached_property
    def errors(self) -> dict[int, int]:
        """Row numbers of the columns that are errors, each with that of the column whose error it is."""
        found = {row: column.error_of for row, column in enumerate(self.numeric) if column.error_of}
        return {row: self.names.index(name) for row, name in found.items()}

    @cached_property
    def witness(self) -> int:
        """Row number of a column in which every row is counted; errors may be counted later, or elsewhere."""
        return next((row for row in range(self.n_columns) if row not in self.errors), 0)

    @cached_property
    def n_numeric(self) -> int:
        return len(self.numeric)

    @cached_property
    def n_columns(self) -> int:
        return len(self.numeric) + len(self.categorical)

    @cached_property
    def id(self) -> str:
        """SHA-256 over the canonical JSON of all cells: profiles add only on equal ids."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """Canonical; without pairs as the version that knew none wrote it, so that ids stay."""
        document: dict[str, Any] = {"version": 2, "columns": [column.to_json() for column in self.columns]}
        if self.pairs.n_sums:
            document |= {"version": 3, "pairs": self.pairs.to_json()}
        return json.dumps(document, ensure_ascii=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Bins:
        """Read what `to_json` wrote. ValueError when the version is not known."""
        document = json.loads(data)
        if document.get("version") not in (2, 3):
            raise ValueError(f"bins of version {document.get('version')!r}; this driftd reads versions 2 and 3")
        numeric, categorical = [], []
        for column in document["columns"]:
            kind = Kind(column.pop("kind"))
            if kind is Kind.NUMERIC:
                for array in ("edges", "deciles", "middles"):
                    column[array] = np.array(column[array], np.float64)
                numeric.append(NumericColumn(**column))
            else:
                column["vocabulary"], column["rare"] = tuple(column["vocabulary"]), tuple(column["rare"])
                categorical.append(CategoricalColumn(**column))
        pairs = Pairs.from_json(document["pairs"]) if "pairs" in document else Pairs.none()
        return cls(tuple(numeric), tuple(categorical), pairs)

    def cells(self, numbers: Floats, words: Cells, invalid: NDArray[np.bool_] | None = None) -> Cells:
        """The cell of every value, shape (columns, rows).

        numbers: shape (numeric columns, rows), NaN where missing or invalid; infinities lie BELOW or ABOVE.
        words: shape (categorical columns, rows), already cells (see `CategoricalColumn.codes`).
        invalid: shape of `numbers`; True where a value was present but not a number.
        """
        cells = np.empty((self.n_columns, numbers.shape[1] if self.numeric else words.shape[1]), np.uint8)
        self._lookup.cells(numbers, cells[: self.n_numeric])
        if invalid is not None:
            cells[: self.n_numeric][invalid] = INVALID
        if self.categorical:
            cells[self.n_numeric :] = words
        return cells

    @cached_property
    def _lookup(self) -> Lookup:
        zero = np.array([np.nextafter(0.0, -np.inf)])  # a column that the reference has no numbers of is cut at zero
        return Lookup([column.edges if column.n_regular else zero for column in self.numeric], BELOW, ABOVE)

    @cached_property
    def decile_cells(self) -> NDArray[np.intp]:
        """For each numeric column the last cell of each decile group, shape (numeric columns, 10), ABOVE as padding."""
        last = np.full((self.n_numeric, 10), ABOVE, np.intp)
        for row, column in enumerate(self.numeric):
            inner = column.deciles[:-1]
            last[row, : inner.size] = np.searchsorted(column.edges, inner, "left") + BELOW
        return last

    @cached_property
    def centres(self) -> Floats:
        """Where the fixed-point value of each numeric column is zero, in the column's units."""
        return np.array([column.centre for column in self.numeric], np.float64)

    @cached_property
    def units(self) -> Floats:
        """Fixed-point unit of each numeric column, in the column's units."""
        return np.array([column.unit for column in self.numeric], np.float64)

    @cached_property
    def ranges(self) -> Floats:
        """Lowest and highest edge of each numeric column, shape (numeric columns, 2); the centre where it has none."""
        ends = [c.edges[[0, -1]] if c.n_regular else (c.centre, c.centre) for c in self.numeric]
        return np.array(ends, np.float64).reshape(-1, 2)

    @cached_property
    def anchors(self) -> Counts:
        """Fixed-point value from which the rows of each cell are measured, shape (numeric columns, 256).

        The middle of a regular cell, the nearer end of the range for the cells outside it; zero elsewhere.
        """
        places = np.repeat(self.centres[:, None], N_CELLS, axis=1)
        if self.numeric:
            places[:, FIRST:ABOVE] = np.where(self.borders[1] > self.borders[0], self.middles, places[:, FIRST:ABOVE])
            places[:, [BELOW, ABOVE]] = self.ranges
        return self.fixed_point(places).astype(np.int64)

    @cached_property
    def borders(self) -> tuple[Floats, Floats]:
        """Lower and upper edge of each regular cell, each of shape (numeric columns, 252).

        Of cells that are not used, both are the end of the range.
        """
        edges = np.repeat(self.ranges[:, 1:], N_REGULAR + 1, axis=1)
        for row, column in enumerate(self.numeric):
            edges[row, : column.edges.size] = column.edges
        return edges[:, :-1], edges[:, 1:]

    @cached_property
    def middles(self) -> Floats:
        """`NumericColumn.middles` of each, shape (numeric columns, 252); of cells not used, the end of the range."""
        middles = self.borders[1].copy()
        for row, column in enumerate(self.numeric):
            middles[row, : column.n_regular] = column.middles
        return middles

    @cached_property
    def places(self) -> Floats:
        """Where the rows of each cell are taken to lie, from BELOW to ABOVE, shape (numeric columns, 254).

        In the middle of a regular cell; of what is outside, and of cells that are not used, at the end of the range.
        """
        return np.hstack((self.ranges[:, :1], self.middles, self.ranges[:, 1:]))

    @cached_property
    def credible(self) -> tuple[Floats, Floats]:
        """Where the mean of the reference's own rows of each regular cell may lie, lowest and highest, as `borders`.

        In the first and the last cell, which one absurd row can stretch without end, at most three times as far from
        the middle as the inner half of the rows; the mean of a tail that falls faster than x^-1.5 keeps to that.
        """
        (lower, upper), middles = self.borders, self.middles
        low, high = lower.copy(), upper.copy()
        rows, last = np.arange(self.n_numeric), np.array([max(c.n_regular - 1, 0) for c in self.numeric], np.intp)
        with np.errstate(over="ignore"):
            low[:, 0] = np.maximum(lower[:, 0], middles[:, 0] - 3 * (upper[:, 0] - middles[:, 0]))
            beyond = middles[rows, last] + 3 * (middles[rows, last] - lower[rows, last])
            high[rows, last] = np.minimum(upper[rows, last], beyond)
        return low, high

    def fixed_point(self, numbers: Floats) -> Floats:
        """Numbers of each column in its fixed point, shape (numeric columns, n); beyond Q_LIMIT, that."""
        with np.errstate(over="ignore", invalid="ignore"):
            z = numbers - self.centres[:, None]
            z /= self.units[:, None]
        np.clip(z, -Q_LIMIT, Q_LIMIT, out=z)
        return np.rint(z, out=z)

    @cached_property
    def deviations(self) -> Floats:
        """Standard deviation of each numeric column in the reference, in the column's units."""
        return np.array([column.deviation for column in self.numeric], np.float64)

    @cached_property
    def singleton_shares(self) -> Floats:
        return np.array([column.singleton_share for column in self.categorical], np.float64)

    @cached_property
    def pair_shares(self) -> Floats:
        return np.array([column.pair_share for column in self.categorical], np.float64)

    def index(self, names: Sequence[str]) -> list[int]:
        """Row numbers of the named columns."""
        return [self.names.index(name) for name in names]
