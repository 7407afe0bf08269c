"""Many records of one msgspec type as columns, without a look at any value by itself.

msgspec packs all of them into one piece of bytes (MessagePack). Where every value of a column takes as many bytes in
each record, so do the records, and NumPy takes the columns out by their places. Numbers are packed in nine bytes, and
words in three: what is read in their place says their cell.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.cells import MISSING, UNSEEN

Taken = NDArray[np.float64] | NDArray[np.uint8] | NDArray[np.int64]

_FLOAT: Final = 0xCB
_TWO_SIGNS: Final = 0xA2
_SIZED: Final = {0xD9: 2, 0xDA: 3}
"""Texts whose size comes next: the bytes up to its end."""
_EIGHT_BYTES: Final = 0xCF
_NUMBERS: Final = {_FLOAT: ">f8", 0xCE: ">u4", _EIGHT_BYTES: ">u8"}
_KINDS: Final = {_FLOAT: "f", _TWO_SIGNS: "u", 0xCE: "i", _EIGHT_BYTES: "i"}
_BYTES: Final = {0xC0: 1, 0xC2: 1, 0xC3: 1, _FLOAT: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, _EIGHT_BYTES: 9}
"""By MessagePack's first byte of a value, the bytes of the whole; null, booleans and numbers."""


class Word(enum.StrEnum):
    """What stands for the words of one column: read by its value, and packed as its text, two signs for the cell."""

    def __new__(cls, word: str, cell: int) -> Self:
        """Two signs of seven bits, as each of them takes one byte."""
        made = str.__new__(cls, chr(cell >> 7) + chr(cell & 0x7F))
        made._value_ = word
        return made

    # The hash of enumerations is slow, and each member is one object.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @classmethod
    def _missing_(cls, _: object) -> Word:
        return cls.__members__["unseen"]

    @property
    def cell(self) -> int:
        """The cell that all words of this member belong to."""
        high, low = str.encode(self)
        return high << 7 | low


class _Absent(Word):
    WORD = ("", MISSING)


ABSENT: Final = _Absent.WORD
"""Stands for a word that does not come. No word of any record is taken for it."""


@lru_cache(maxsize=1024)
def words(codes: frozenset[tuple[str, int]]) -> type[Word]:
    """A type of the words of one column, by their cells; any other word becomes its `unseen`."""
    cells = {word: cell for word, cell in codes if _encodes(word)}
    other = next(text for text in (f"other{'_' * n}" for n in range(len(cells) + 1)) if text not in cells)
    members = {f"w{i}": member for i, member in enumerate(cells.items())}
    make: Any = Word
    made: type[Word] = make("Word", {**members, "unseen": (other, UNSEEN)})
    return made


def _encodes(word: str) -> bool:
    """Half of a surrogate pair comes in no UTF-8."""
    return word.encode("utf-8", "ignore").decode() == word


def cells_of(kind: type[Word]) -> dict[object, int]:
    """The cell of each member, and of what stands for none."""
    return {member: member.cell for member in (ABSENT, *kind)}


Form = tuple["Form | None", ...]
"""The fields of a type, in their order: None for a value, the inner type's for an object."""


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """How records of one size lie: as long as the bytes at `places` are `heads`, their values begin at `leaves`.

    highest: the first bytes of whole numbers that may be too large for int64. kinds: see `Rows`.
    """

    size: int
    places: NDArray[np.intp]
    heads: NDArray[np.uint8]
    highest: NDArray[np.intp]
    leaves: tuple[int, ...]
    kinds: tuple[str, ...]

    def fits(self, rows: NDArray[np.uint8]) -> bool:
        """Whether all of these, one a record, lie so."""
        if rows.shape[1] != self.size or not (rows[:, self.places] == self.heads).all():
            return False
        return bool((rows[:, self.highest] < 0x80).all())


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Records that lie alike: one in each row of `packed`."""

    plan: _Plan
    packed: NDArray[np.uint8]

    @property
    def kinds(self) -> tuple[str, ...]:
        """By the leaves of the type, in its order, the kind of the array of its values; "" where there is none."""
        return self.plan.kinds

    def leaf(self, number: int) -> Taken:
        """The values of a leaf: numbers as float64, words as their cells, whole numbers as they are."""
        at = self.plan.leaves[number]
        n_rows, size = self.packed.shape
        head = int(self.packed[0, at])
        if head == _TWO_SIGNS:
            high, low = np.ndarray((2, n_rows), np.uint8, self.packed, at + 1, (1, size))
            return np.asarray(high << 7 | low, np.uint8)
        values = np.ndarray(n_rows, _NUMBERS[head], self.packed, at + 1, (size,))
        return values if head == _FLOAT else values.astype(np.int64)

    @classmethod
    def together(cls, parts: Sequence[Rows]) -> Rows:
        """All of these, which lie by one plan."""
        return parts[0] if len(parts) == 1 else cls(parts[0].plan, np.concatenate([part.packed for part in parts]))


class Packed:
    """Packs records of one type."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._encode = msgspec.msgpack.Encoder().encode
        self._plan: _Plan | None = None

    def rows(self, records: Sequence[Any]) -> Rows | None:
        """The records, packed; None where they do not lie alike.

        Only for records as msgspec reads them: no text may stand where a word does.
        """
        try:
            data = self._encode(records)
        except OverflowError:  # JSON has larger integers than MessagePack
            return None
        begin = _head_bytes(len(records))
        size, rest = divmod(len(data) - begin, len(records))
        if rest:
            return None
        rows = np.frombuffer(data, np.uint8, offset=begin).reshape(len(records), size)
        plan = self._plan
        if plan is None or not plan.fits(rows[:1]):
            plan = self._plan = _planned(self._form, data[begin : begin + size])
        return None if plan is None or not plan.fits(rows) else Rows(plan, rows)


def _planned(form: Form, record: bytes) -> _Plan | None:
    """The plan by which this record lies; None where it has a value of some other kind."""
    heads: list[int] = []
    leaves: list[int] = []

    def walk(fields: Form, at: int) -> int:
        at += _head_bytes(len(fields))
        for inner in fields:
            at += _n_bytes(record, at)  # the key
            if inner is not None:
                at = walk(inner, at)
                continue
            leaves.append(at)
            heads.extend(range(at, at + _SIZED.get(record[at], 1)))
            at += _n_bytes(record, at)
        return at

    try:
        end = walk(form, 0)
    except LookupError:
        return None
    if end != len(record):
        return None
    places = np.array(heads, np.intp)
    highest = np.array([at + 1 for at in leaves if record[at] == _EIGHT_BYTES], np.intp)
    kinds = tuple(_KINDS.get(record[at], "") for at in leaves)
    return _Plan(len(record), places, np.frombuffer(record, np.uint8)[places], highest, tuple(leaves), kinds)


def _head_bytes(n: int) -> int:
    """Bytes in front of an array or a map of so many."""
    return 1 if n < 16 else 3 if n < 1 << 16 else 5


def _n_bytes(data: bytes, at: int) -> int:
    """Bytes of the value that begins there. LookupError for one that may be of any size, or is not all there."""
    head = data[at]
    if head < 0x80 or head >= 0xE0:  # a small whole number
        return 1
    if 0xA0 <= head < 0xC0:  # a short text
        return 1 + (head & 0x1F)
    if head in _SIZED:
        begin = at + _SIZED[head]
        return begin - at + int.from_bytes(data[at + 1 : begin], "big")
    return _BYTES[head]
