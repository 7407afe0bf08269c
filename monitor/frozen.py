"""Windows as bytes: versioned, checksummed, and the same for equal windows."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np

from detectors import Bins, Profile
from detectors.cells import N_CELLS
from detectors.packed import dense, sparse
from monitor.batch import Partition
from monitor.tally import Extent, Extents, Panes, Tally, union
from monitor.window import OPEN, Window

_VERSION: Final = 2


class _Tally(msgspec.Struct, frozen=True, array_like=True):
    profile: bytes
    extents: tuple[tuple[str, int, int, int], ...]
    unknown: dict[str, int]
    n_inspected: int
    n_rows: int
    panes: bytes = b""
    pane_pairs: bytes = b""


class _Window(msgspec.Struct, frozen=True, array_like=True):
    version: int
    segment: str
    start_ms: int
    end_ms: int
    tally: _Tally
    waiting: _Tally | None
    n_late: int
    index: int
    revision: int


def freeze(window: Window) -> bytes:
    """A window as bytes; profiles carry their own check sums, as the whole does.

    Open windows are written again and again, so they are not compressed. Panes are kept of these only.
    """
    level = 0 if window.index == OPEN else 1
    waiting = _frozen_tally(window.waiting, level) if window.waiting.n_rows else None
    tally = window.tally if window.index == OPEN else replace(window.tally, panes=None)
    body = msgspec.msgpack.encode(
        _Window(
            _VERSION, window.segment, window.start_ms, window.end_ms, _frozen_tally(tally, level), waiting,
            window.n_late, window.index, window.revision,
        )
    )  # fmt: skip
    return checked(body)


def thaw(data: bytes, bins: Bins) -> Window:
    """Read what `freeze` wrote. ValueError says what is wrong: damaged, another version, or other cells."""
    found = _read(data)
    if found.version not in (1, _VERSION):
        raise ValueError(f"a window of version {found.version}; this driftd reads versions 1 and {_VERSION}")
    compressed = found.version == 1
    waiting = Tally.empty(bins) if found.waiting is None else _thawed_tally(found.waiting, bins, compressed)
    return Window(
        found.segment, found.start_ms, found.end_ms, _thawed_tally(found.tally, bins, compressed), waiting,
        found.n_late, found.index, found.revision,
    )  # fmt: skip


def rows_of(data: bytes) -> tuple[Extents, int]:
    """Where the rows of a frozen window lie, and how many they are; needs no bins."""
    found = _read(data)
    parts = [found.tally] if found.waiting is None else [found.tally, found.waiting]
    return union(*map(_thawed_extents, parts)), sum(part.n_rows for part in parts)


def _read(data: bytes) -> _Window:
    try:
        return msgspec.msgpack.decode(unchecked(data), type=_Window)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a window: {error}") from error


def checked(body: bytes) -> bytes:
    """The bytes with a check sum before them."""
    return zlib.crc32(body).to_bytes(4, "big") + body


def unchecked(data: bytes) -> bytes:
    """The bytes without their check sum. ValueError when it does not match."""
    if len(data) < 4 or zlib.crc32(data[4:]).to_bytes(4, "big") != data[:4]:
        raise ValueError(f"damaged: {len(data)} bytes whose check sum does not match")
    return data[4:]


def _frozen_tally(tally: Tally, level: int) -> _Tally:
    extents = tuple((at.topic, at.number, extent.first, extent.last) for at, extent in sorted(tally.extents.items()))
    counts = pairs = b""
    if tally.panes is not None:
        counts = sparse(tally.panes.counts)
        pairs = tally.panes.pairs.astype("<i8").tobytes()
    return _Tally(
        tally.profile.to_bytes(level), extents, dict(tally.unknown), tally.n_inspected, tally.n_rows, counts, pairs
    )  # fmt: skip


def _thawed_tally(found: _Tally, bins: Bins, compressed: bool) -> Tally:
    """compressed: whether the panes are, as the first version had them."""
    panes = None
    if found.panes:
        flat = np.frombuffer(zlib.decompress(found.panes), "<i4") if compressed else dense(found.panes)[0]
        counts = flat.astype(np.int32).reshape(-1, bins.n_columns, N_CELLS)
        panes = Panes(counts, np.frombuffer(found.pane_pairs, "<i8").reshape(len(counts), -1))
    profile = Profile.from_bytes(bins, found.profile)
    return Tally(profile, _thawed_extents(found), found.unknown, found.n_inspected, panes)


def _thawed_extents(found: _Tally) -> Extents:
    return {Partition(topic, number): Extent(first, last) for topic, number, first, last in found.extents}
