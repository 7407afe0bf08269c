"""A few rows of a set, chosen so that the choice adds: whoever reads which part, in whatever order, gets the same rows.

Every row has a lot, a hash (SplitMix64) of topic, partition and offset; a sample holds the rows of the lowest lots.
What is kept of a row is what was read of it: numbers and cells, never its bytes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors import Bins, Profile
from detectors.blocks import Blocks
from detectors.cells import Cells, Floats
from detectors.domain import Classifier
from detectors.packed import pack, unpack
from monitor.batch import Int64s, Partition

Lots = NDArray[np.uint64]
Places = NDArray[np.int32]
MOST_BYTES: Final = 1 << 19
"""Of the values of one sample: of very wide models fewer rows are kept."""
TAUGHT_SHARE: Final = 0.25
"""Of a reference's rows, that a classifier is taught by at most: the others show what it says of windows like it."""
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST: Final = np.uint64(31)
_HIGHEST: Final = np.uint64(2**64 - 1)


def lots(at: Partition, offsets: Int64s) -> Lots:
    """The lot of every row, given the offsets of the records they come from, ascending.

    Rows of one record have lots of their own, so it must be here with all of its rows.
    """
    found = _mixed(offsets.astype(np.uint64) * _STEP + _seed(at))
    again = np.flatnonzero(offsets[1:] == offsets[:-1]) + 1
    if again.size:
        first = np.arange(offsets.size)
        first[again] = 0
        place = again - np.maximum.accumulate(first)[again]
        found[again] = _mixed(found[again] + place.astype(np.uint64) * _STEP)
    return found


@lru_cache(maxsize=4096)
def _seed(at: Partition) -> np.uint64:
    place = f"{at.topic}\0{at.number}".encode()
    return np.uint64(int.from_bytes(hashlib.blake2b(place, digest_size=8).digest(), "little"))


def _mixed(hashed: Lots) -> Lots:
    for shift, factor in _MIX:
        hashed ^= hashed >> shift
        hashed *= factor
    hashed ^= hashed >> _LAST
    return hashed


def affordable(bins: Bins, n_rows: int) -> int:
    """At most so many rows, and no more than `MOST_BYTES` hold; one at least where any are wanted."""
    return min(n_rows, max(MOST_BYTES // (8 * bins.n_numeric + bins.n_columns), 1))


def n_taught(profile: Profile) -> int:
    """At most so many of the reference's rows of the lowest lots teach a classifier."""
    return int(TAUGHT_SHARE * profile.n_rows)


def taught(profile: Profile, rows: RowSample, blocks: Blocks | None = None) -> Classifier:
    """What tells rows from those of a reference. rows: of its rows those of the lowest lots; blocks: that it was shown,
    if it was."""
    found = Classifier.of(profile, rows.cells[:, : n_taught(profile)])
    return replace(found, steadiness=blocks.steadiness) if blocks is not None and blocks.steadiness.size else found


@dataclass(frozen=True, eq=False)
class RowSample:
    """Rows in the order of their lots, no more than `limit` of them.

    lots: uint64, shape (rows,), ascending. partitions: where the rows come from, in order; place: int32, shape (rows,),
    which of them each row comes from. offsets, time_ms: int64, shape (rows,), see `Batch`. numbers: float64, shape
    (numeric columns, rows); cells: uint8, shape (columns, rows).
    """

    bins: Bins
    limit: int
    lots: Lots
    partitions: tuple[Partition, ...]
    place: Places
    offsets: Int64s
    time_ms: Int64s
    numbers: Floats
    cells: Cells

    @classmethod
    def empty(cls, bins: Bins, limit: int) -> RowSample:
        """The identity of `+`: no rows."""
        none, numbers, cells = (
            np.zeros(0, np.int64),
            np.zeros((bins.n_numeric, 0)),
            np.zeros((bins.n_columns, 0), np.uint8),
        )
        return cls(bins, limit, np.zeros(0, np.uint64), (), np.zeros(0, np.int32), none, none, numbers, cells)

    @property
    def n_rows(self) -> int:
        return self.lots.size

    @cached_property
    def bound(self) -> np.uint64:
        """A row with a higher lot has no place here."""
        return np.uint64(self.lots[-1]) if self.n_rows >= self.limit else _HIGHEST

    def __add__(self, other: RowSample) -> RowSample:
        """Of both sets of rows, which must not share any; as many as the left side may hold."""
        if not other.n_rows:
            return self
        partitions = tuple(sorted({*self.partitions, *other.partitions}))
        sides = (self, other)
        joined = RowSample(
            self.bins,
            self.limit,
            np.concatenate([side.lots for side in sides]),
            partitions,
            np.concatenate([side._place_among(partitions) for side in sides]),
            np.concatenate([side.offsets for side in sides]),
            np.concatenate([side.time_ms for side in sides]),
            np.concatenate([side.numbers for side in sides], axis=1),
            np.concatenate([side.cells for side in sides], axis=1),
        )
        return joined.lowest()

    def lowest(self) -> RowSample:
        """These rows in the order of their lots, and no more than the limit."""
        order = np.argsort(self.lots)
        if not self._apart:  # what is kept must not hang on what came first
            keys = self._keys()
            order = np.array(sorted(range(self.n_rows), key=keys.__getitem__))
        kept = self._chosen(order[: self.limit])
        present = np.flatnonzero(np.bincount(kept.place))
        if present.size == len(self.partitions):
            return kept
        partitions = tuple(self.partitions[i] for i in present.tolist())
        return replace(kept, partitions=partitions, place=np.searchsorted(present, kept.place).astype(np.int32))

    def beyond(self, earlier: RowSample | None) -> RowSample:
        """The rows that an earlier sample of the same rows did not have: it and they together are this one."""
        if earlier is None or not earlier.n_rows:
            return self
        if self._apart:
            return self._chosen(np.flatnonzero(~np.isin(self.lots, earlier.lots)))
        known = Counter(earlier._keys())
        rows = []
        for row, key in enumerate(self._keys()):
            known[key] -= 1
            rows += [row] if known[key] < 0 else []
        return self._chosen(np.array(rows, np.intp))

    @cached_property
    def _apart(self) -> bool:
        """Whether all lots differ: always but where a topic was made anew, and has two rows for one offset."""
        ordered = np.sort(self.lots)
        return not (ordered[1:] == ordered[:-1]).any()

    def _keys(self) -> list[tuple[Any, ...]]:
        """All that is known of each row, its lot first."""
        return [
            (lot, self.partitions[place], offset, time_ms, self.numbers[:, row].tobytes(), self.cells[:, row].tobytes())
            for row, (lot, place, offset, time_ms) in enumerate(
                zip(self.lots.tolist(), self.place.tolist(), self.offsets.tolist(), self.time_ms.tolist(), strict=True)
            )
        ]

    def _chosen(self, rows: NDArray[np.intp]) -> RowSample:
        return RowSample(
            self.bins, self.limit, self.lots[rows], self.partitions, self.place[rows], self.offsets[rows],
            self.time_ms[rows], self.numbers.take(rows, axis=1), self.cells.take(rows, axis=1),
        )  # fmt: skip

    def _place_among(self, partitions: tuple[Partition, ...]) -> Places:
        if partitions == self.partitions:
            return self.place
        return np.array([partitions.index(at) for at in self.partitions], np.int32)[self.place]

    def to_bytes(self) -> bytes:
        """Versioned, checksummed bytes; equal samples give equal bytes."""
        return pack(
            {"bins": self.bins.id, "limit": self.limit, "partitions": self.partitions},
            {
                "lots": self.lots, "place": self.place, "offsets": self.offsets, "time_ms": self.time_ms,
                "numbers": self.numbers, "cells": self.cells,
            },
        )  # fmt: skip

    @classmethod
    def from_bytes(cls, bins: Bins, data: bytes) -> RowSample:
        """Read what `to_bytes` wrote. ValueError says what is wrong: damaged, another version, or other cells."""
        facts, found = unpack(data)
        if facts.get("bins") != bins.id:
            made_by = str(facts.get("bins"))[:12]
            raise ValueError(f"rows on bins {made_by}, wanted {bins.id[:12]}: another reference made them")
        partitions = tuple(Partition(topic, number) for topic, number in facts["partitions"])
        return cls(
            bins, facts["limit"], found["lots"], partitions, found["place"], found["offsets"], found["time_ms"],
            found["numbers"], found["cells"],
        )  # fmt: skip
