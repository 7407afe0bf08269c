"""What the reference's own windows were like: what the budget's null model is learnt from, for all rows and by segment.

Kept is the profile of the segment's reference rows and, of each of its windows, the few integers per column that the
signals are made of. No rows are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

import msgspec

from detectors import Bins, Profile
from detectors.blocks import Blocks, Cut, Rows, cut_by_rows, cut_by_time, rows_per_window, sorted_by
from detectors.calibration import Material
from detectors.packed import pack, unpack
from detectors.signals import Signals

DEFAULT_ROWS: Final = 1000.0
"""Rows of a window where nothing tells how many there will be."""
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """A segment's reference rows, in windows.

    rows: that a window usually has. blocks: its windows; None where only the profile is known. sorted_by: columns that
    the rows were sorted by, so that their order is not that of time.
    """

    profile: Profile
    cut: Cut
    rows: float = DEFAULT_ROWS
    blocks: Blocks | None = None
    sorted_by: tuple[str, ...] = ()

    @classmethod
    def of(cls, bins: Bins, rows: Rows, cut: Cut, *, pairs: bool) -> Self:
        """The chosen rows in the windows that a log of them would have. pairs: whether pairs of columns are watched."""
        chosen = rows.chosen
        profile = Profile.of(bins, rows.numbers[:, chosen], rows.cells[:, chosen], pairs=pairs)
        usual = rows_per_window(rows.time_ms[chosen], cut)
        size = usual or DEFAULT_ROWS
        signals = Signals.of(profile, size)
        if cut.width_ms and usual:
            return cls(profile, cut, size, cut_by_time(signals, rows, cut.width_ms))
        names = tuple(bins.names[column] for column in sorted_by(rows.cells[:, chosen]))
        blocks = cut_by_rows(signals, rows, size) if chosen.any() else None
        return cls(profile, cut, size, blocks, names)

    def under(self, cut: Cut) -> Past:
        """As far as it tells of windows that are cut in another way: the profile alone, if they are."""
        return self if cut == self.cut else replace(self, cut=cut, rows=float(cut.n_rows) or DEFAULT_ROWS, blocks=None)

    def without_pairs(self) -> Past:
        """The same as a segment has it."""
        return replace(self, profile=replace(self.profile, pairs=self.profile.pairs[:0]))

    def material(self) -> Material:
        """What there is to learn from."""
        signals = Signals.of(self.profile, self.rows)
        why = f"they are sorted by {', '.join(self.sorted_by)}" if self.sorted_by else ""
        whole = signals.read(self.profile)
        if self.blocks is not None and signals.n_told:
            whole = replace(whole, told=self.blocks.windows.told.sum(axis=0))
        return Material(signals, whole, signals.row_variance(self.profile), self.blocks, self.cut.width_ms, why)


Pasts = Mapping[str, Past]
"""By segment, the whole among them."""


class _Past(msgspec.Struct, frozen=True, array_like=True):
    segment: str
    profile: bytes
    width_ms: int
    n_rows: int
    rows: float
    sorted_by: tuple[str, ...]
    blocks: bytes


class _File(msgspec.Struct, frozen=True, array_like=True):
    version: int
    pasts: tuple[_Past, ...]


def freeze(pasts: Pasts) -> bytes:
    """As bytes; equal pasts give equal ones."""
    found = [
        _Past(
            segment, past.profile.to_bytes(), past.cut.width_ms, past.cut.n_rows, past.rows, past.sorted_by,
            b"" if past.blocks is None else pack(*past.blocks.to_arrays(), level=6),
        )
        for segment, past in pasts.items()
    ]  # fmt: skip
    return msgspec.msgpack.encode(_File(_VERSION, tuple(found)))


def thaw(data: bytes, bins: Bins) -> Pasts:
    """Read what `freeze` wrote. ValueError says what is wrong."""
    try:
        found = msgspec.msgpack.decode(data, type=_File)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not the windows of a reference: {error}") from error
    if found.version != _VERSION:
        raise ValueError(f"windows of version {found.version}; this driftd reads version {_VERSION}")
    return {
        past.segment: Past(
            Profile.from_bytes(bins, past.profile), Cut(past.width_ms, past.n_rows), past.rows,
            Blocks.from_arrays(*unpack(past.blocks)) if past.blocks else None, past.sorted_by,
        )
        for past in found.pasts
    }  # fmt: skip


def by_segment(bins: Bins, rows: Rows, cut: Cut, cells: Mapping[str, tuple[int, int]], whole: str) -> Pasts:
    """Of all rows, and of those of each segment that has some; pairs of columns are watched in the whole alone.

    cells: see `Segments`.
    """
    found = {whole: Past.of(bins, rows, cut, pairs=True)}
    for segment, (column, cell) in cells.items():
        chosen = rows.chosen & (rows.cells[column] == cell)
        if chosen.any():
            found[segment] = Past.of(bins, replace(rows, chosen=chosen), cut, pairs=False)
    return found
