"""Windows as bytes: what was written is read, also what the first version wrote."""

from __future__ import annotations

import zlib

import msgspec
import numpy as np
import pytest

from detectors import Bins
from detectors.blocks import N_PANES
from detectors.cells import N_CELLS
from monitor.batch import Batch, Moment, Partition
from monitor.frozen import checked, freeze, thaw, unchecked
from monitor.window import Extras, Segments, Span, TimeWindows, Window

BINS = Bins.of({"x": np.arange(50.0), "y": np.arange(9.0)}, {"w": {"a": 5, "b": 1}})
AT = Partition("t", 0)


def window() -> Window:
    """An open one, with rows in every pane."""
    rng, n = np.random.default_rng(1), 40
    numbers, words = rng.normal(20, 9, (2, n)), rng.integers(3, 5, (1, n)).astype(np.uint8)
    windows = TimeWindows(BINS, Span(100, 0), Segments({}), Extras(panes=True))
    places, times = np.arange(n), np.linspace(0, 99, n).astype(np.int64)
    windows.add(Batch(AT, places, times, numbers, BINS.cells(numbers, words), n))
    windows.settle()
    assert not windows.ready(Moment(0, frozenset({AT})))
    (found,) = windows.open.values()
    return found


def first_version(data: bytes) -> bytes:
    """The same window as driftd wrote it when it compressed the panes."""
    body = msgspec.msgpack.decode(unchecked(data))
    found = thaw(data, BINS).tally.panes
    assert found is not None
    body[0], body[4][5] = 1, zlib.compress(found.counts.astype("<i4").tobytes(), level=1)
    return checked(msgspec.msgpack.encode(body))


@pytest.mark.parametrize("write", [freeze, lambda window: first_version(freeze(window))], ids=["now", "first version"])
def test_an_open_window_is_read_as_it_was(write):
    mine = window()
    again = thaw(write(mine), BINS)
    assert mine.tally.panes is not None
    assert again.tally.panes is not None
    assert again.tally.panes.counts.shape == (N_PANES, 3, N_CELLS)
    assert np.array_equal(again.tally.panes.counts, mine.tally.panes.counts)
    assert mine.tally.panes.counts[:, 0].sum(axis=1).min() > 0
    assert again.tally.profile == mine.tally.profile
    assert freeze(again) == freeze(mine)


def test_a_window_of_an_unknown_version_is_refused():
    body = msgspec.msgpack.decode(unchecked(freeze(window())))
    body[0] = 3
    with pytest.raises(ValueError, match="version 3; this driftd reads versions 1 and 2"):
        thaw(checked(msgspec.msgpack.encode(body)), BINS)
