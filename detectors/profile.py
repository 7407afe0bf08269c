"""What a window leaves behind: integer counts on the reference's cells, and a few integer sums beside them.

Profiles form a commutative monoid: `empty` is its identity and `+` is exact in any order and any split, because every
number is an integer. So a window may be counted in pieces, by several processes, before and after a crash, and come
out the same to the byte.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from detectors.bins import Q_LIMIT, Bins
from detectors.cells import ABOVE, BELOW, FIRST, INVALID, MISSING, N_CELLS, UNSEEN, Cells, Counts, Floats
from detectors.columns import CategoricalColumn, NumericColumn
from detectors.lookup import BLOCK
from detectors.packed import dense, sparse
from detectors.pairs import together

_MAGIC: Final = b"DRPF"
_VERSION: Final = 3
_HEAD: Final = struct.Struct("<4sH32sIIQ")

SUM, SQUARES, INFINITE, SHIFTS = range(4)
"""Columns of `Profile.sums`: sum of q, the fixed-point value, and of q squared over the finite rows; number of
infinities; and from SHIFTS on, for each of the 256 cells, the sum of what its rows lie above `Bins.anchors`."""
N_SUMS: Final = SHIFTS + N_CELLS
_SUMS_OF_VERSION_1: Final = (SUM, SQUARES, SHIFTS + BELOW, SHIFTS + ABOVE, INFINITE)
"""Where the five sums of the first version belong; it had the shift of the rows below the range with the other sign."""
_GROUP: Final = 1 << 16
"""Rows counted before floats are turned into integers."""
_ONE: Final = 2.0**35
"""What a row adds to the float of its cell, beside its q: in 53 bits, counts and sums of _GROUP rows do not mix."""


@dataclass(frozen=True, eq=False)
class Profile:
    """Counts of one set of rows.

    counts: int64, shape (columns, 256); row order as `bins.names`.
    sums: int64, shape (numeric columns, 259); see SUM and its neighbours.
    n_windows: how many windows' rows are in here; a reference holds many, a closed window one.
    pairs: int64, shape (bins.pairs.n_sums,); see `Pairs`. Shape (0,) where only columns were counted.
    """

    bins: Bins
    counts: Counts
    sums: Counts
    n_windows: int = 0
    pairs: Counts = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def empty(cls, bins: Bins) -> Profile:
        """The identity of `+`: no rows."""
        counts, sums = np.zeros((bins.n_columns, N_CELLS), np.int64), np.zeros((bins.n_numeric, N_SUMS), np.int64)
        return cls(bins, counts, sums, 0, np.zeros(bins.pairs.n_sums, np.int64))

    @classmethod
    def of(cls, bins: Bins, numbers: Floats, cells: Cells, n_windows: int = 0, *, pairs: bool = True) -> Profile:
        """Count rows.

        numbers: shape (numeric columns, rows); cells: shape (columns, rows), from `bins.cells`. pairs: whether pairs of
        columns are counted too.
        """
        counts, sums = _counted(bins, numbers, cells[: bins.n_numeric])
        counts = np.concatenate((counts, _counts(cells[bins.n_numeric :])))
        return cls(bins, counts, sums, n_windows, bins.pairs.sums(cells) if pairs else np.zeros(0, np.int64))

    def __add__(self, other: Profile) -> Profile:
        """Both sets of rows together. ValueError when the cells come from different references."""
        if self.bins is not other.bins and self.bins.id != other.bins.id:
            raise ValueError(
                f"profiles on different cells do not add: bins {self.bins.id[:12]} and {other.bins.id[:12]}; "
                "count both against the same reference"
            )
        n_windows = self.n_windows + other.n_windows
        pairs = together(self.pairs, other.pairs)
        return Profile(self.bins, self.counts + other.counts, self.sums + other.sums, n_windows, pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Profile) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]  # arrays inside: equality is by content, so no stable hash

    @property
    def n_rows(self) -> int:
        return int(self.counts[self.bins.witness].sum()) if self.counts.size else 0

    def within(self, bins: Bins, row: int) -> Profile:
        """The same counts of a single numeric column as this row of other cells, whose other columns count nothing."""
        placed = Profile.empty(bins)
        placed.counts[row], placed.sums[row] = self.counts[0], self.sums[0]
        return placed

    @cached_property
    def n_all(self) -> Counts:
        """Rows per column, with a value or without, shape (columns,)."""
        return np.asarray(self.counts.sum(axis=1))

    @cached_property
    def n_valid(self) -> Counts:
        """Rows per column that hold a value of the column's kind, shape (columns,)."""
        return self.n_all - self.counts[:, MISSING] - self.counts[:, INVALID]

    @cached_property
    def numbers(self) -> Floats:
        """Rows in BELOW, each regular cell and ABOVE, shape (numeric columns, 254), as floats."""
        return self.counts[: self.bins.n_numeric, BELOW:].astype(np.float64)

    @cached_property
    def running(self) -> Floats:
        """`numbers` added up from the left."""
        integers = self.counts[: self.bins.n_numeric, BELOW:]  # NumPy adds them up five times faster than floats
        return integers.cumsum(axis=1).astype(np.float64)

    @cached_property
    def halfway(self) -> Floats:
        """`running` with only half of the cell's own rows: where their midrank lies."""
        return self.running - self.numbers / 2

    @cached_property
    def places(self) -> Floats:
        """The mean of the rows in each regular cell, in the column's units, shape (numeric columns, 252).

        Of a cell without rows, the middle of the reference's.
        """
        bins, regular = self.bins, slice(FIRST, ABOVE)
        shifts = self.sums[:, SHIFTS:][:, regular] / np.maximum(self.counts[: bins.n_numeric, regular], 1)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.clip(bins.middles + shifts * bins.units[:, None], *bins.borders)

    @cached_property
    def deciles(self) -> Floats:
        """Rows between the reference's deciles, tails included, shape (numeric columns, 10)."""
        at_border = np.take_along_axis(self.running, self.bins.decile_cells - BELOW, axis=1)
        return np.diff(at_border, axis=1, prepend=0)

    @cached_property
    def words(self) -> Floats:
        """Rows in UNSEEN, of each word and in RARE, shape (categorical columns, 254), as floats."""
        return self.counts[self.bins.n_numeric :, BELOW:].astype(np.float64)

    @property
    def id(self) -> str:
        """SHA-256 of the content: equal counts on equal cells have equal ids."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self, level: int = 1) -> bytes:
        """Versioned, checksummed bytes; equal profiles give equal bytes. level: of compression, 0 for none."""
        parts = (self.counts, self.sums[:, :SHIFTS], self.sums[:, SHIFTS:], self.pairs)
        body = b"".join(map(sparse, parts))
        head = _HEAD.pack(
            _MAGIC, _VERSION, bytes.fromhex(self.bins.id), len(self.counts), len(self.sums), self.n_windows
        )
        packed = zlib.compress(body, level)
        return head + packed + struct.pack("<I", zlib.crc32(head + packed))

    @classmethod
    def from_bytes(cls, bins: Bins, data: bytes) -> Profile:
        """Read what `to_bytes` wrote. ValueError says what is wrong: damaged, another version, or other cells."""
        if len(data) < _HEAD.size + 4 or data[:4] != _MAGIC:
            raise ValueError(f"not a profile: {len(data)} bytes that begin with {data[:4]!r}, wanted {_MAGIC!r}")
        (checksum,) = struct.unpack_from("<I", data, len(data) - 4)
        if checksum != zlib.crc32(data[:-4]):
            raise ValueError("damaged profile: its checksum does not match its content")
        _, version, bins_id, n_columns, n_numeric, n_windows = _HEAD.unpack_from(data)
        if version not in _READERS:
            raise ValueError(f"profile of version {version}; this driftd reads versions 1 to {_VERSION}")
        if bins_id.hex() != bins.id:
            raise ValueError(f"profile on bins {bins_id.hex()[:12]}, wanted {bins.id[:12]}: another reference made it")
        body = zlib.decompress(data[_HEAD.size : -4])
        counts, *sums, pairs = _READERS[version](body, n_columns, n_numeric)
        return cls(bins, counts, np.concatenate(sums, axis=1), n_windows, pairs)


def count_sorted(column: NumericColumn, ascending: Floats) -> tuple[Counts, Counts]:
    """Counts, shape (256,), and sums, shape (259,), of one numeric column whose numbers come ascending, NaN left out.

    What `Profile.of` finds from the same rows in any order, without a search per row.
    """
    bins = Bins((column,), ())
    edges = column.edges if column.n_regular else np.zeros(1)
    upto = np.searchsorted(ascending, edges, "right" if column.n_regular else "left")
    counts = np.zeros(N_CELLS, np.int64)
    counts[BELOW : BELOW + upto.size] = np.diff(upto, prepend=0)
    counts[ABOVE] = ascending.size - upto[-1]
    first, last = np.searchsorted(ascending, -np.inf, "right"), np.searchsorted(ascending, np.inf)
    q = bins.fixed_point(ascending[None, first:last])[0]
    largest = max(-q[0], q[-1]) if q.size else 0.0
    exact = q if q.size * largest * largest < 2.0**53 else q.astype(np.int64)
    sums = np.zeros(N_SUMS, np.int64)
    sums[[SUM, SQUARES, INFINITE]] = q.sum(), np.einsum("i,i", exact, exact), ascending.size - q.size
    # Rows of a cell lie together. Infinities lie at the ends of the range, where the outside cells are measured from.
    borders = np.clip(np.append(upto, ascending.size), first, last) - first
    running = np.concatenate(([0.0], q.cumsum()))[borders]
    cells = [*range(BELOW, BELOW + upto.size), ABOVE]
    sums[np.add(SHIFTS, cells)] = np.diff(running, prepend=0.0) - np.diff(borders, prepend=0) * bins.anchors[0, cells]
    return counts, sums


def count_words(column: CategoricalColumn, words: Mapping[str, int]) -> Counts:
    """Counts, shape (256,), of one categorical column from how often each word occurs."""
    counts = np.zeros(N_CELLS, np.int64)
    codes = column.codes()
    for word, count in words.items():
        counts[codes.get(word, UNSEEN)] += count
    return counts


def _counts(cells: Cells) -> Counts:
    n_columns, n_rows = cells.shape
    first = _firsts(n_columns)
    counts = np.zeros(n_columns * N_CELLS, np.int64)
    rows = max(1, BLOCK // max(n_columns, 1))
    for at in range(0, n_rows, rows):
        index = np.add(cells[:, at : at + rows], first, dtype=np.intp)
        counts += np.bincount(index.ravel(), minlength=counts.size)
    return counts.reshape(n_columns, N_CELLS)


def _firsts(n_columns: int) -> Counts:
    """Number of the first cell of each column where all cells are numbered through, shape (columns, 1)."""
    return (np.arange(n_columns) * N_CELLS)[:, None]


def _counted(bins: Bins, numbers: Floats, cells: Cells) -> tuple[Counts, Counts]:
    """Counts, shape (numeric columns, 256), and sums of numeric columns."""
    counts = np.zeros((bins.n_numeric, N_CELLS), np.int64)
    sums = np.zeros((bins.n_numeric, N_SUMS), np.int64)
    shifts = sums[:, SHIFTS:]
    rows = max(1, BLOCK // max(bins.n_numeric, 1))
    first = _firsts(bins.n_numeric)
    for begin in range(0, numbers.shape[1] if bins.n_numeric else 0, _GROUP):
        both = np.zeros(counts.size)
        end = min(begin + _GROUP, numbers.shape[1])
        for at in range(begin, end, rows):
            some = slice(at, min(at + rows, end))
            q = _fixed_point(bins, numbers[:, some], sums)
            q += _ONE
            both += np.bincount(np.add(cells[:, some], first, dtype=np.intp).ravel(), q.ravel(), both.size)
        found = np.rint(both / _ONE)
        counts += found.astype(np.int64).reshape(counts.shape)
        shifts += (both - found * _ONE).astype(np.int64).reshape(shifts.shape)
    sums[:, SUM] += shifts.sum(axis=1)
    shifts -= counts * bins.anchors
    return counts, sums


def _fixed_point(bins: Bins, numbers: Floats, sums: Counts) -> Floats:
    """The rows in fixed point: 0 for NaN, the ends of the range for infinities, which SUM is relieved of.

    Adds to SQUARES and INFINITE. There are so few rows that floats hold all sums exactly.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        q = numbers - bins.centres[:, None]
        q /= bins.units[:, None]
        np.rint(q, out=q)
        squares = np.einsum("ij,ij->i", q, q)
    # Together no larger than the square of the limit, they are all within it.
    rows = np.flatnonzero(~(squares <= float(Q_LIMIT) ** 2))
    if rows.size:
        some, x = q[rows], numbers[rows]
        np.clip(some, -Q_LIMIT, Q_LIMIT, out=some)
        finite = np.isfinite(x)
        some[~finite] = 0.0
        squares[rows] = np.einsum("ij,ij->i", some, some)
        ends = bins.anchors[rows][:, [BELOW, ABOVE]]
        low, high = x == -np.inf, x == np.inf
        infinities = np.stack((low.sum(axis=1), high.sum(axis=1)), axis=1)
        sums[rows, INFINITE] += infinities.sum(axis=1)
        sums[rows, SUM] -= (infinities * ends).sum(axis=1)
        q[rows] = some + low * ends[:, :1] + high * ends[:, 1:]
    sums[:, SQUARES] += squares.astype(np.int64)
    return q


def _parts(body: bytes, n_columns: int, n_numeric: int) -> list[Counts]:
    """Counts, the two halves of the sums, and the pairs, as `to_bytes` wrote them one after the other."""
    found, at = [], 0
    for shape in ((n_columns, N_CELLS), (n_numeric, SHIFTS), (n_numeric, N_CELLS), (-1,)):
        part, at = dense(body, at)
        found.append(part.reshape(shape))
    return found


def _narrow_parts(body: bytes, n_columns: int, n_numeric: int) -> list[Counts]:
    """The same from version 2: every part is all of its integers, after one byte that says how long each is."""
    found, at = [], 0
    for rows, columns in ((n_columns, N_CELLS), (n_numeric, SHIFTS), (n_numeric, N_CELLS)):
        size = body[at]
        found.append(np.frombuffer(body, f"<i{size}", rows * columns, at + 1).astype(np.int64).reshape(rows, columns))
        at += 1 + size * rows * columns
    return [*found, np.frombuffer(body, f"<i{body[at]}", -1, at + 1).astype(np.int64)]


def _old(body: bytes, n_columns: int, n_numeric: int) -> list[Counts]:
    """The same from version 1, which knew nothing of the rows inside a cell: all lie where they are measured from."""
    numbers, split = np.frombuffer(body, "<i8").astype(np.int64), n_columns * N_CELLS
    end = split + n_numeric * len(_SUMS_OF_VERSION_1)
    sums = np.zeros((n_numeric, N_SUMS), np.int64)
    sums[:, _SUMS_OF_VERSION_1] = numbers[split:end].reshape(n_numeric, -1)
    sums[:, SHIFTS + BELOW] *= -1
    return [numbers[:split].reshape(n_columns, N_CELLS), sums, numbers[end:]]


_READERS: Final[Mapping[int, Callable[[bytes, int, int], list[Counts]]]] = {1: _old, 2: _narrow_parts, _VERSION: _parts}
"""How the body of each version is taken apart."""
