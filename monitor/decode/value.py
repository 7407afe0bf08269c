"""Single values as every format meets them: numbers, words and points in time."""

from __future__ import annotations

from datetime import UTC, datetime

from detectors.bins import INVALID, MISSING, UNSEEN, CategoricalColumn


def number(value: object) -> float | None:
    """A JSON value as a number; None when it is present but not one. Booleans are 0 and 1, text is never a number."""
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:  # an integer beyond any float: present, and not a number that can be counted
            return None
    return None


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

    def __missing__(self, value: object) -> int:
        if value is None:
            return MISSING
        text = word(value)
        if text is None:
            return INVALID
        return self.get(text, UNSEEN)


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
    return round(value / 1000) if size < 1e17 else round(value / 1_000_000)
