"""The payloads of records that lie in one piece of memory, as places in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from monitor.batch import Int64s, Value

_OPENING, _CLOSING, _NEWLINE, _BLANK = b"{}\n "
_EIGHT_BLANKS = np.frombuffer(b" " * 8, "<u8")[0]
_NEWLINE_AND_BLANKS = np.frombuffer(b"\n" + b" " * 7, "<u8")[0]


class Slices(Sequence[Value]):
    """Payloads as views that are made when one is asked for. An end before its begin stands for no payload.

    data: of bytes that may be written; nobody else may rest on what lies between the payloads.
    """

    def __init__(self, data: bytearray | memoryview, begins: Int64s, ends: Int64s) -> None:
        self._data, self._begins, self._ends = data, begins, ends

    def __len__(self) -> int:
        return self._begins.size

    @overload
    def __getitem__(self, place: int) -> Value: ...
    @overload
    def __getitem__(self, place: slice) -> Slices: ...
    def __getitem__(self, place: int | slice) -> Value | Slices:
        if isinstance(place, slice):
            return Slices(self._data, self._begins[place], self._ends[place])
        begin, end = int(self._begins[place]), int(self._ends[place])
        return memoryview(self._data)[begin:end] if begin <= end else None

    def __iter__(self) -> Iterator[Value]:
        view = memoryview(self._data)
        places = zip(self._begins.tolist(), self._ends.tolist(), strict=True)
        return (view[begin:end] if begin <= end else None for begin, end in places)

    def lines(self) -> memoryview | None:
        """All payloads as lines of one text, if each looks like one JSON object; None if not.

        If that text is read as JSON and there are as many objects as payloads, each is one of these. A payload may hold
        two, but none goes on behind the end of a line: no text in JSON holds one, and between an object that has ended
        and one that begins there must be a comma.
        """
        begins, ends, data = self._begins, self._ends, np.frombuffer(self._data, np.uint8)
        if not begins.size or (ends <= begins).any():
            return None
        if (data[begins] != _OPENING).any() or (data[ends - 1] != _CLOSING).any():
            return None
        between = begins[1:] - ends[:-1]
        if between.size and not self._blank(data, between):
            return None
        return memoryview(self._data)[int(begins[0]) : int(ends[-1])]

    def _blank(self, data: NDArray[np.uint8], between: Int64s) -> bool:
        """Put a new line and blanks between the payloads; False where that is not worth it, or has no room."""
        ends = self._ends[:-1]
        least, most = int(between.min()), int(between.max())
        if least >= 8 and most <= 16:  # by eights, which overlap
            eights = np.ndarray(data.size - 7, "<u8", self._data, 0, (1,))
            eights[self._begins[1:] - 8] = _EIGHT_BLANKS
            eights[ends] = _NEWLINE_AND_BLANKS
            return True
        n_between = int(between.sum())
        if least < 1 or n_between > int(ends[-1] - self._begins[0]):  # most of it was passed over
            return False
        shifts = np.cumsum(between) - between
        data[np.repeat(ends - shifts, between) + np.arange(n_between)] = _BLANK
        data[ends] = _NEWLINE
        return True
