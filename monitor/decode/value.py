"""Single values as every format meets them: numbers, words and points in time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.cells import INVALID, MISSING, UNSEEN, Floats
from detectors.columns import CategoricalColumn
from monitor.batch import Value

_PLAIN: Final = frozenset({float, int, bool, type(None)})


_JSON: Final = msgspec.json.Decoder()
Fault = tuple[str, str]
"""A kind, for counting, and a reason."""


def document(value: Value) -> dict[str, Any] | Fault:
    """A record's JSON object, or why there is none. NaN, Infinity and 1e999, which others write, are taken."""
    if value is None:
        return "tombstone", "the record has no value"
    try:
        found = _JSON.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        try:
            found = json.loads(str(value, "utf-8"))
        except (ValueError, RecursionError):
            return "not_json", f"not JSON: {error}"
    if not isinstance(found, dict):
        return "not_an_object", f"a JSON {type(found).__name__}, wanted an object"
    return found


def at(inside: Any, path: Sequence[str]) -> Any:
    """What stands at the path; None where any step of it is absent."""
    for key in path:
        inside = inside.get(key) if isinstance(inside, dict) else None
    return inside


def number(value: object) -> float | None:
    """A value as a number; None when it is present but not one. Booleans are 0 and 1, text is never a number."""
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:  # an integer beyond any float: present, and not a number that can be counted
            return None
    if isinstance(value, Decimal) and not value.is_nan():
        return float(value)
    return None


def floats(values: Sequence[object], out: Floats) -> list[int]:
    """Many values as numbers, by `number`, into `out`: NaN where they are None or no numbers.

    Returns the places of values that are present and no numbers.
    """
    try:
        struct.pack_into(f"{len(values)}d", out.data, 0, *values)
    except (struct.error, OverflowError):
        pass
    else:
        return []
    if set(map(type, values)) <= _PLAIN:
        with contextlib.suppress(OverflowError):
            out[:] = np.array(values, np.float64)  # None becomes NaN
            return []
    wrong = []
    for place, value in enumerate(values):
        found = number(value)
        if found is None and value is not None:
            wrong.append(place)
        out[place] = np.nan if found is None else found
    return wrong


def word(value: object) -> str | None:
    """A JSON value as a category, the same for every format; None when it is an object or a list.

    >>> word("paid"), word(True), word(3), word(3.0), word(0.5), word([1])
    ('paid', 'true', '3', '3', '0.5', None)
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return None


class Codes(dict[object, int]):
    """The cell of every value of one categorical column. Look-ups of text are plain dict look-ups."""

    def __init__(self, column: CategoricalColumn) -> None:
        super().__init__(column.codes().items())

    def cells(self, values: Sequence[object]) -> bytes:
        """The cells of many values."""
        try:
            return bytes(map(self.__getitem__, values))
        except TypeError:  # lists and objects cannot be looked up
            return bytes(self[() if isinstance(value, dict | list) else value] for value in values)

    def __missing__(self, value: object) -> int:
        if value is None:
            return MISSING
        text = word(value)
        if text is None:
            return INVALID
        return self.get(text, UNSEEN)


def keys(values: Sequence[object]) -> list[int]:
    """A 64-bit number for each id, the same for every format; 0 where there is none."""
    words = map(word, values)
    return [0 if text is None else _hashed(text) for text in words]


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") or 1


def epoch_ms(value: object) -> int | None:
    """A point in time as epoch milliseconds: epoch s, ms, us or ns (told apart by size), or RFC 3339; else None.

    A text without an offset is taken as UTC.

    >>> epoch_ms(1_700_000_000), epoch_ms(1_700_000_000_000), epoch_ms("2023-11-14T22:13:20Z")
    (1700000000000, 1700000000000, 1700000000000)
    >>> epoch_ms("yesterday") is None
    True
    """
    if isinstance(value, str):
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            return None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return round(when.timestamp() * 1000)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    size = abs(value)
    if not size < 1e20:  # also NaN and infinities
        return None
    if size < 1e11:
        return round(value * 1000)
    if size < 1e14:
        return round(value)
    per_ms = 1000 if size < 1e17 else 1_000_000
    return (value + per_ms // 2) // per_ms if isinstance(value, int) else round(value / per_ms)


def epochs_ms(values: Sequence[object] | NDArray[np.int64], out: NDArray[np.int64]) -> list[int]:
    """Many points in time, by `epoch_ms`, into `out`, which is left as it is where a value is None.

    Returns the places of values that are no points in time.
    """
    with contextlib.suppress(struct.error):
        whole = values if isinstance(values, np.ndarray) else _whole(values)
        if whole.size and whole.min() >= 1e11 and whole.max() < 1e14:  # so none of them was a boolean
            out[:] = whole
            return []
    if isinstance(values, np.ndarray):
        values = values.tolist()
    kinds = set(map(type, values))
    if kinds in ({int}, {float}):
        with contextlib.suppress(OverflowError):  # an integer of more than 64 bits: one by one
            several = np.array(values)
            if several.dtype.kind in "if" and (np.abs(several) < 1e20).all():
                out[:] = _epochs_ms(several)
                return []
    wrong = []
    for place, value in enumerate(values):
        when = epoch_ms(value)
        if when is not None:
            out[place] = when
        elif value is not None:
            wrong.append(place)
    return wrong


def _whole(values: Sequence[object]) -> NDArray[np.int64]:
    """Values as integers; struct.error when one is none, or too large."""
    return np.frombuffer(struct.pack(f"{len(values)}q", *values), np.int64)


def _epochs_ms(values: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64] | NDArray[np.float64]:
    size = np.abs(values.astype(np.float64))
    if values.dtype.kind == "i":
        choices = [values * 1000, values, (values + 500) // 1000, (values + 500_000) // 1_000_000]
    else:
        choices = [np.rint(each) for each in (values * 1000, values, values / 1000, values / 1_000_000)]
    return np.select([size < 1e11, size < 1e14, size < 1e17], choices[:3], choices[3])
