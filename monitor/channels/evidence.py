"""Evidence under a receiver's limit: the least telling parts go first, and what went is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from monitor.message import Body, encode

_ORDER: Final = (("columns", 8), ("rows", 16), ("columns", 1), ("rows", 1), ("words", 100), ("rows", 0), ("columns", 0))
"""What is shortened, one after the other, and how much of it stays until the next one's turn."""
_PROSE: Final = ("title", "summary", "reason", "retraining")


def fitted(body: Body, n_bytes: int) -> Body:
    """The body itself, or as much of its evidence as `n_bytes` of JSON hold; `dropped` then says what is missing.

    Columns stand worst first, so the calmest go first. Names and ids are never cut, so a body without evidence is what
    remains at worst.
    """
    fits = body
    for part, least in _ORDER:
        if len(encode(fits)) <= n_bytes:
            break
        fits = _shortened(body, fits, part, least, n_bytes)
    return fits


def _shortened(whole: Body, body: Body, part: str, least: int, n_bytes: int) -> Body:
    """As much of one part as fits, but at least so much."""
    if part == "words":
        return _noted(whole, _cut(body, least))
    items = getattr(body, part, ())

    def kept(n: int) -> Body:
        return _noted(whole, msgspec.structs.replace(body, **{part: items[:n]})) if items else body

    return kept(_most(lambda n: len(encode(kept(n))) <= n_bytes, least, len(items)))


def _most(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The largest number in [low, high] for which it holds, given that it holds for all smaller ones; else low."""
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _cut(body: Body, n: int) -> Body:
    columns = tuple(msgspec.structs.replace(column, what=column.what[:n]) for column in body.columns)
    texts = {key: text[:n] for key in _PROSE if isinstance(text := getattr(body, key, None), str)}
    return msgspec.structs.replace(body, columns=columns, **texts)


def _noted(whole: Body, body: Body) -> Body:
    """The body, saying what it lacks of the whole."""
    dropped = [
        f"{n - kept} of {n} {words}"
        for part, words in (("columns", "columns"), ("rows", "row ranges"))
        if (n := len(getattr(whole, part, ()))) > (kept := len(getattr(body, part, ())))
    ]
    if any(getattr(whole, key, None) != getattr(body, key, None) for key in _PROSE):
        dropped.append("ends of long texts")
    return msgspec.structs.replace(body, dropped=tuple(dropped))
