"""What a window leaves behind: integer counts on the reference's cells, and a few integer sums beside them.

Profiles form a commutative monoid: `empty` is its identity and `+` is exact in any order and any split, because every
number is an integer. So a window may be counted in pieces, by several processes, before and after a crash, and come
out the same to the byte.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from detectors.bins import (
    ABOVE,
    BELOW,
    FIRST,
    INVALID,
    MISSING,
    N_CELLS,
    UNSEEN,
    Bins,
    CategoricalColumn,
    Cells,
    Counts,
    Floats,
    NumericColumn,
)
from detectors.lookup import BLOCK
from detectors.pairs import together

_MAGIC: Final = b"DRPF"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sH32sIIQ")

N_SUMS: Final = 5
SUM, SQUARES, BENEATH, BEYOND, INFINITE = range(N_SUMS)
"""Columns of `Profile.sums`: sum of q and of q squared, distance of rows below and above the reference's range (each in
units of q, the fixed-point value), and the number of infinities."""
Q_LIMIT: Final = 1 << 17
"""Values further than 128 robust standard deviations from the centre count as that far, so that no single row can move
the sums more, and 2**28 rows cannot overflow them."""


@dataclass(frozen=True, eq=False)
class Profile:
    """Counts of one set of rows.

    counts: int64, shape (columns, 256); row order as `bins.names`.
    sums: int64, shape (numeric columns, 5); see SUM and its neighbours.
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
        sums = bins.pairs.sums(cells) if pairs else np.zeros(0, np.int64)
        return cls(bins, _counts(cells), _sums(bins, numbers), n_windows, sums)

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

    def to_bytes(self) -> bytes:
        """Versioned, checksummed bytes; equal profiles give equal bytes."""
        body = b"".join(part.astype("<i8").tobytes() for part in (self.counts, self.sums, self.pairs))
        head = _HEAD.pack(
            _MAGIC, _VERSION, bytes.fromhex(self.bins.id), len(self.counts), len(self.sums), self.n_windows
        )
        packed = zlib.compress(body, level=1)
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
        if version != _VERSION:
            raise ValueError(f"profile of version {version}; this driftd reads version {_VERSION}")
        if bins_id.hex() != bins.id:
            raise ValueError(f"profile on bins {bins_id.hex()[:12]}, wanted {bins.id[:12]}: another reference made it")
        body = np.frombuffer(zlib.decompress(data[_HEAD.size : -4]), "<i8").astype(np.int64)
        split = n_columns * N_CELLS
        end = split + n_numeric * N_SUMS
        counts, sums = body[:split].reshape(n_columns, N_CELLS), body[split:end].reshape(n_numeric, N_SUMS)
        return cls(bins, counts, sums, n_windows, body[end:])


def count_sorted(column: NumericColumn, ascending: Floats) -> tuple[Counts, Counts]:
    """Counts, shape (256,), and sums, shape (5,), of one numeric column whose numbers come ascending, NaN left out.

    What `Profile.of` finds from the same rows in any order, without a search per row.
    """
    counts = np.zeros(N_CELLS, np.int64)
    if column.n_regular:
        upto = np.searchsorted(ascending, column.edges, "right")
        counts[FIRST : FIRST + column.n_regular] = np.diff(upto)
        counts[BELOW], counts[ABOVE] = upto[0], ascending.size - upto[-1]
    else:
        counts[BELOW] = np.searchsorted(ascending, 0.0)
        counts[ABOVE] = ascending.size - counts[BELOW]
    first, last = np.searchsorted(ascending, -np.inf, "right"), np.searchsorted(ascending, np.inf)
    ends = column.edges[[0, -1]] if column.n_regular else np.full(2, column.centre)
    q, (low, high) = _scaled(column, ascending[first:last]), _scaled(column, ends)
    beneath, beyond = q[: np.searchsorted(q, low)], q[np.searchsorted(q, high, "right") :]
    largest = max(-q[0], q[-1]) if q.size else 0.0
    exact = q if q.size * largest * largest < 2.0**53 else q.astype(np.int64)
    sums = [
        q.sum(),
        np.einsum("i,i", exact, exact),
        low * beneath.size - beneath.sum(),
        beyond.sum() - high * beyond.size,
        ascending.size - q.size,
    ]
    return counts, np.array(sums, np.int64)


def count_words(column: CategoricalColumn, words: Mapping[str, int]) -> Counts:
    """Counts, shape (256,), of one categorical column from how often each word occurs."""
    counts = np.zeros(N_CELLS, np.int64)
    codes = column.codes()
    for word, count in words.items():
        counts[codes.get(word, UNSEEN)] += count
    return counts


def _scaled(column: NumericColumn, values: Floats) -> Floats:
    """Finite values of one column, ascending, in fixed point."""
    with np.errstate(over="ignore"):
        z = values - column.centre
        z /= column.unit
    if z.size and (z[0] < -Q_LIMIT or z[-1] > Q_LIMIT):
        np.clip(z, -Q_LIMIT, Q_LIMIT, out=z)
    return np.rint(z, out=z)


def _counts(cells: Cells) -> Counts:
    n_columns, n_rows = cells.shape
    first = (np.arange(n_columns, dtype=np.int32) * N_CELLS)[:, None]
    counts = np.zeros(n_columns * N_CELLS, np.int64)
    rows = max(1, BLOCK // max(n_columns, 1))
    for at in range(0, n_rows, rows):
        counts += np.bincount((cells[:, at : at + rows] + first).ravel(), minlength=counts.size)
    return counts.reshape(n_columns, N_CELLS)


def _sums(bins: Bins, numbers: Floats) -> Counts:
    sums = np.zeros((bins.n_numeric, N_SUMS), np.int64)
    rows = max(1, BLOCK // max(bins.n_numeric, 1))
    for at in range(0, numbers.shape[1], rows):
        sums += _sums_of_block(bins, numbers[:, at : at + rows])
    return sums


def _sums_of_block(bins: Bins, numbers: Floats) -> Counts:
    """Sums of so few rows that floats hold them exactly."""
    q = _fixed_point(bins, numbers)
    sums = np.zeros((bins.n_numeric, N_SUMS))
    finite = np.isfinite(numbers)
    if not finite.all():
        q[~finite] = 0.0
        sums[:, INFINITE] = np.isinf(numbers).sum(axis=1)
    sums[:, SUM] = q.sum(axis=1)
    low, high = _fixed_point(bins, bins.ranges).T
    # Few columns have rows outside the range. A gap that is no number counts as none, which zero as a bound would not.
    for row in np.flatnonzero((q.min(axis=1) < low) | (q.max(axis=1) > high)).tolist():
        within = finite[row]
        sums[row, BENEATH] = np.where(within, np.maximum(low[row] - q[row], 0), 0).sum()
        sums[row, BEYOND] = np.where(within, np.maximum(q[row] - high[row], 0), 0).sum()
    q *= q
    sums[:, SQUARES] = q.sum(axis=1)
    return sums.astype(np.int64)


def _fixed_point(bins: Bins, numbers: Floats) -> Floats:
    """Numbers of each column in its fixed point, shape (numeric columns, n)."""
    with np.errstate(over="ignore", invalid="ignore"):
        z = numbers - bins.centres[:, None]
        z /= bins.units[:, None]
    np.clip(z, -Q_LIMIT, Q_LIMIT, out=z)
    return np.rint(z, out=z)
