"""Cells that the reference fixes once, so that every later window is integer counts on the same cells.

Each column has 256 cells. Four are special and mean the same in every column: missing, invalid (present, but not of
the column's kind), and the two outside cells. A numeric column has BELOW and ABOVE the range of the reference; a
categorical column has UNSEEN in BELOW's place and RARE, the reference's own infrequent words, in ABOVE's. Between them
lie up to 252 regular cells: quantile cells `(a, b]` of the reference, or the words of its vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.lookup import Lookup
from detectors.pairs import Pairs

N_CELLS: Final = 256
MISSING: Final = 0
INVALID: Final = 1
BELOW: Final = 2
UNSEEN: Final = 2
FIRST: Final = 3
ABOVE: Final = 255
RARE: Final = 255
N_REGULAR: Final = ABOVE - FIRST
JOINT_NAME: Final = "joint distribution"

N_QUANTILES: Final = 250
"""Quantile cells asked for; a multiple of ten, so that the reference's deciles are cell borders."""
N_REPEATS: Final = 5
"""Rows of one number in the reference that make it a value of its own."""
N_RARE_WORDS: Final = 10_000
"""Infrequent words of the reference that are remembered; words beyond them count as unseen."""
Q_LIMIT: Final = 1 << 17
"""Fixed-point values further than this, 128 robust standard deviations from the centre, count as that far: so no single
row can move a sum more, and 2**28 rows cannot overflow it."""

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Cells = NDArray[np.uint8]
Bools = NDArray[np.bool_]


class Kind(StrEnum):
    """What a column holds: numbers with an order, or words without one."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


@dataclass(frozen=True, slots=True, eq=False)
class NumericColumn:
    """One numeric column's cells and scale.

    edges: shape (k + 1,), ascending, float64; regular cell j is the half-open interval (edges[j], edges[j + 1]].
        The first edge is the largest float below the reference's minimum, the last is its maximum. What lies between
        two frequent values and holds no row of the reference is two cells: so values that spread to both sides of a
        frequent one, as noise on whole numbers makes them, are told from values that all moved one way.
    deciles: the reference's deciles (inverted distribution function), a subset of the edges, ties collapsed.
    middles: shape (k,), the median of the reference's values in each regular cell (of an empty one, its centre): where
        the distances in the column's units take the cell's rows to lie, so that no outlier stretches the last cell.
    centre, unit: fixed-point scale of the sums: (x - centre) / unit, rounded; unit is 1/1024 robust standard deviation.
    mean, deviation: of the reference's finite values.
    error_of: the column whose error against labels this is. A row without label was not observed, and a large error is
        no fault of the data.
    """

    name: str
    edges: Floats
    deciles: Floats
    middles: Floats
    centre: float
    unit: float
    mean: float
    deviation: float
    error_of: str = ""

    @classmethod
    def of(cls, name: str, values: Floats) -> NumericColumn:
        """Fix the cells from reference values, shape (rows,); NaN (missing) and infinities take no part."""
        return cls.of_sorted(name, np.sort(values[np.isfinite(values)]))

    @classmethod
    def of_sorted(cls, name: str, x: Floats) -> NumericColumn:
        """Fix the cells from the reference's finite values, ascending."""
        if x.size == 0:
            return cls(name, np.zeros(0), np.zeros(0), np.zeros(0), 0.0, 1.0, 0.0, 0.0)
        ranks = -(-np.arange(1, N_QUANTILES + 1) * x.size // N_QUANTILES) - 1
        borders = np.unique(x[ranks])
        deciles = np.unique(x[ranks[N_QUANTILES // 10 - 1 :: N_QUANTILES // 10]])
        edges = _halved(x, _edges(x, borders))
        low, centre, high = x[ranks[[62, 124, 187]]]
        with np.errstate(over="ignore", invalid="ignore"):  # values near the float limits: caught by isfinite below
            mean = float(x.mean())
            centred = x - mean
            deviation = float(np.sqrt(np.einsum("i,i", centred, centred) / x.size))
            robust = float(high - low) / 1.349
            if x[0] == x[-1]:  # the mean of equal values need not be exactly that value
                mean, deviation = float(x[0]), 0.0
            scale = min(robust, deviation) if robust > 0 else deviation or abs(float(centre)) or 1.0
        if not np.isfinite((mean, deviation, scale)).all() or scale / 1024 == 0:
            mean, deviation, scale = float(centre), 0.0, 1.0
        unit = scale / 1024 or 1.0  # denormal scales vanish in the division
        return cls(name, edges, deciles, _middles(x, edges), float(centre), unit, mean, deviation)

    @property
    def n_regular(self) -> int:
        return max(self.edges.size - 1, 0)

    def to_json(self) -> dict[str, Any]:
        floats = {k: getattr(self, k) for k in ("centre", "unit", "mean", "deviation")}
        return {
            "kind": Kind.NUMERIC,
            "name": self.name,
            "edges": self.edges.tolist(),
            "deciles": self.deciles.tolist(),
            "middles": self.middles.tolist(),
            **floats,
            **({"error_of": self.error_of} if self.error_of else {}),
        }


@dataclass(frozen=True, slots=True, eq=False)
class CategoricalColumn:
    """One categorical column's words.

    vocabulary: the most frequent words of the reference, at most 252, in descending frequency, then alphabetical.
    rare: its other words, counted together in RARE.
    singleton_share: chance, in [0, 1], that the word of one of the reference's present rows would be unseen if that row
        were not there: the share of rows whose word occurs once, by Good and Turing the chance that one more row brings
        a word never seen. Where not all words are remembered, those just above the forgotten ones count in part.
    pair_share: the same for two rows of one word: such pairs, each counted both ways, for every present row. Where all
        words are remembered it is the share of rows whose word occurs twice; it tells how often a new word comes again.
    """

    name: str
    vocabulary: tuple[str, ...]
    rare: tuple[str, ...]
    singleton_share: float
    pair_share: float

    @classmethod
    def of(cls, name: str, words: Mapping[str, int]) -> CategoricalColumn:
        """Fix the vocabulary from the reference's words and how often each occurs."""
        ordered = sorted(words, key=lambda word: (-words[word], word))
        known = ordered[: N_REGULAR + N_RARE_WORDS]
        singles, pairs = _on_the_edge([words[word] for word in ordered], len(known))
        total = max(sum(words.values()), 1)
        return cls(name, tuple(known[:N_REGULAR]), tuple(known[N_REGULAR:]), singles / total, pairs / total)

    @property
    def n_regular(self) -> int:
        return len(self.vocabulary)

    def codes(self) -> dict[str, int]:
        """The cell of every word that the reference holds; any other word belongs to UNSEEN."""
        return dict.fromkeys(self.rare, RARE) | {word: FIRST + i for i, word in enumerate(self.vocabulary)}

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": Kind.CATEGORICAL,
            "name": self.name,
            "vocabulary": list(self.vocabulary),
            "rare": list(self.rare),
            "singleton_share": self.singleton_share,
            "pair_share": self.pair_share,
        }


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
        """What people call what is watched of several columns at once: the pairs, and all joint scores as one."""
        return self.pair_names + (JOINT_NAME,) * bool(self.pairs.joint.n_scores)

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


def _edges(x: Floats, borders: Floats) -> Floats:
    """Edges from the quantiles of sorted values, frequent values in cells of their own.

    Frequent is what occurs five times, if there is room for all of that; else what fills two quantile cells: it took a
    border from its neighbours, so with a cell for each there are still at most 250.
    """
    first = np.append(0, np.flatnonzero(x[1:] != x[:-1]) + 1)
    occurs = np.diff(first, append=x.size)
    two_cells = 2 * x.size / N_QUANTILES
    for least in (min(N_REPEATS, two_cells), two_cells):
        often = x[first[occurs >= least]]
        with np.errstate(over="ignore", under="ignore"):  # below the lowest float lies -inf, a border like any other
            beneath = np.nextafter(np.append(often, x[0]), -np.inf)
        edges = np.unique(np.concatenate((borders, often, beneath)))
        if edges.size <= N_REGULAR + 1:
            break
    return edges


def _halved(x: Floats, edges: Floats) -> Floats:
    """Edges with one more at the centre of cells without any of the sorted values, as far as there is room.

    First those where most of the reference would have furthest to go.
    """
    with np.errstate(over="ignore", under="ignore"):
        width = np.minimum(np.diff(edges), np.finfo(np.float64).max)
        centre = edges[:-1] / 2 + edges[1:] / 2
        rows = np.diff(np.searchsorted(x, edges, "right"), prepend=0, append=0)
        weight = (rows[:-2] + rows[2:]) * width
    empty = np.flatnonzero((rows[1:-1] == 0) & (edges[:-1] < centre) & (centre < edges[1:]))
    chosen = empty[np.argsort(-weight[empty], kind="stable")[: N_REGULAR + 1 - edges.size]]
    return np.sort(np.append(edges, centre[chosen]))


def _middles(x: Floats, edges: Floats) -> Floats:
    """The lower median of sorted values in each cell (edges[j], edges[j + 1]]; the centre of a cell without any."""
    border = np.searchsorted(x, edges, "right")
    first, last = border[:-1], border[1:] - 1
    centres = edges[:-1] / 2 + edges[1:] / 2
    return np.where(first <= last, x[np.clip((first + last) // 2, 0, x.size - 1)], centres)


def _on_the_edge(occurrences: list[int], n_known: int) -> tuple[float, float]:
    """Rows whose word would be unseen without them, and ordered pairs of rows of one word that both would.

    occurrences: of each word, descending; the first `n_known` words are remembered.
    """
    forgotten = occurrences[n_known:]
    level = forgotten[0] if forgotten else 0  # words that occur oftener are all known
    # A word that falls to the level joins words of which only some are known; with none forgotten, all are lost.
    lost = forgotten.count(level) / occurrences.count(level) if forgotten else 1.0
    edge = [k for k in occurrences if k <= level + 2]
    singles = sum(k * (lost if k == level + 1 else 1.0) for k in edge if k <= level + 1)
    pairs = sum(k * (k - 1) * (lost if k == level + 2 else 1.0) for k in edge)
    return singles, pairs
