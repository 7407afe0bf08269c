"""Laws of cells and profiles: exact addition in any split, closed intervals, bytes that refuse to lie."""

from __future__ import annotations

import struct
import warnings
import zlib
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detectors import Bins, Pair, Profile
from detectors.bins import Q_LIMIT
from detectors.cells import ABOVE, BELOW, FIRST, INVALID, MISSING, N_REGULAR, RARE, UNSEEN
from detectors.profile import INFINITE, SHIFTS, SQUARES, SUM

laws = settings(max_examples=60, derandomize=True, deadline=None)
any_float = st.floats(allow_nan=True, allow_infinity=True, width=64)
NO_WORDS = np.zeros((0, 0), np.uint8)


def profile_of(bins: Bins, values: np.ndarray, words: np.ndarray | None = None) -> Profile:
    cells = np.zeros((0, values.shape[-1]), np.uint8) if words is None else words
    numbers = np.atleast_2d(values)
    return Profile.of(bins, numbers, bins.cells(numbers, cells))


def one_column(values: np.ndarray) -> Bins:
    return Bins.of({"x": values}, {})


@laws
@given(arrays(np.float64, st.integers(1, 200), elements=any_float), arrays(np.float64, 60, elements=any_float))
def test_every_value_lies_in_exactly_the_cell_whose_interval_holds_it(reference: np.ndarray, current: np.ndarray):
    bins = one_column(reference)
    edges = bins.numeric[0].edges
    for value, cell in zip(current, bins.cells(current[None], NO_WORDS)[0], strict=True):
        if np.isnan(value):
            assert cell == MISSING
        elif edges.size == 0:
            assert cell in (BELOW, ABOVE)
        elif cell == BELOW:
            assert value <= edges[0]
        elif cell == ABOVE:
            assert value > edges[-1]
        else:
            assert edges[cell - FIRST] < value <= edges[cell - FIRST + 1]


@laws
@given(arrays(np.float64, st.integers(1, 300), elements=any_float))
def test_the_reference_itself_never_leaves_its_range_unless_infinite(reference: np.ndarray):
    cells = one_column(reference).cells(reference[None], NO_WORDS)[0]
    assert not np.isin(cells[np.isfinite(reference)], (MISSING, INVALID, BELOW, ABOVE)).any()


@laws
@given(
    arrays(np.float64, (2, 80), elements=any_float),
    st.lists(st.integers(0, 80), max_size=6),
    st.randoms(use_true_random=False),
)
def test_any_split_in_any_order_gives_the_same_bytes(values: np.ndarray, cuts: list[int], shuffle):
    bins = Bins.of({"a": values[0], "b": np.arange(50.0)}, {"w": {"x": 3, "y": 1}})
    words = np.resize(np.array([MISSING, UNSEEN, FIRST, FIRST + 1, RARE], np.uint8), (1, 80))
    whole = profile_of(bins, values, words)
    borders = [0, *sorted(cuts), 80]
    parts = [profile_of(bins, values[:, a:b], words[:, a:b]) for a, b in pairwise(borders)]
    shuffle.shuffle(parts)
    assert reduce(add, parts, Profile.empty(bins)).to_bytes() == whole.to_bytes()
    assert Profile.from_bytes(bins, whole.to_bytes()) == whole
    assert whole.n_rows == 80


def test_the_sums_are_moments_of_the_rows_in_the_columns_own_units():
    rng = np.random.default_rng(3)
    reference, current = rng.normal(1e9, 1, 20_000), rng.normal(1e9 + 0.5, 2, 5_000)
    bins = one_column(reference)
    column, sums = bins.numeric[0], profile_of(bins, current).sums[0]
    mean = column.centre + column.unit * sums[SUM] / current.size
    variance = column.unit**2 * (sums[SQUARES] / current.size - (sums[SUM] / current.size) ** 2)
    assert mean - current.mean() == pytest.approx(0, abs=1e-3)
    assert variance == pytest.approx(current.var(), rel=1e-3)
    beyond = np.maximum(current - reference.max(), 0).sum()
    beneath = np.maximum(reference.min() - current, 0).sum()
    assert column.unit * sums[SHIFTS + ABOVE] == pytest.approx(beyond, rel=1e-2)
    assert column.unit * -sums[SHIFTS + BELOW] == pytest.approx(beneath, rel=1e-2)


def test_infinities_are_ordered_values_and_counted_apart():
    bins = one_column(np.arange(100.0))
    profile = profile_of(bins, np.array([np.inf, -np.inf, 5.0, np.nan]))
    assert profile.counts[0, [ABOVE, BELOW, MISSING]].tolist() == [1, 1, 1]
    assert profile.sums[0, INFINITE] == 2
    assert profile.sums[0, [SHIFTS + ABOVE, SHIFTS + BELOW]].tolist() == [0, 0]


@laws
@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-50, 50)), st.floats(-1, 1))
def test_a_place_is_the_mean_of_the_rows_in_its_cell(reference: np.ndarray, shift: float):
    bins = one_column(reference)
    column, current = bins.numeric[0], reference + shift
    profile = profile_of(bins, current)
    cells = bins.cells(current[None], NO_WORDS)[0]
    near = np.abs(current - column.centre) < column.unit * Q_LIMIT  # further away, all that is known is the cell
    for cell in set(cells[near].tolist()) - {BELOW, ABOVE} - set(cells[~near].tolist()):
        assert profile.places[0, cell - FIRST] == pytest.approx(current[cells == cell].mean(), abs=1.01 * column.unit)


def first_version(profile: Profile) -> bytes:
    """The profile as driftd wrote it before it knew where in their cells the rows lie."""
    sums = profile.sums
    old = np.stack((sums[:, SUM], sums[:, SQUARES], -sums[:, SHIFTS + BELOW], sums[:, SHIFTS + ABOVE]), axis=1)
    body = profile.counts.tobytes() + np.append(old, sums[:, INFINITE, None], axis=1).tobytes()
    head = struct.pack("<4sH32sIIQ", b"DRPF", 1, bytes.fromhex(profile.bins.id), len(profile.counts), len(old), 1)
    packed = zlib.compress(body, level=1)
    return head + packed + struct.pack("<I", zlib.crc32(head + packed))


def test_profiles_of_the_first_version_are_read_and_add_to_new_ones():
    rng = np.random.default_rng(8)
    bins = Bins.of({"a": rng.normal(size=500), "b": rng.poisson(3, 500).astype(float)}, {"w": {"x": 3}})
    words = np.full((1, 300), FIRST, np.uint8)
    window = profile_of(bins, np.vstack((rng.normal(0, 3, 300), rng.poisson(3, 300) + 0.2)), words)
    old = Profile.from_bytes(bins, first_version(window))
    assert (old.counts == window.counts).all()
    known = [SUM, SQUARES, INFINITE, SHIFTS + BELOW, SHIFTS + ABOVE]
    assert (old.sums[:, known] == window.sums[:, known]).all()
    assert (old.places == bins.middles).all()
    both = old + window
    assert both.n_rows == 600
    assert Profile.from_bytes(bins, both.to_bytes()) == both


def second_version(profile: Profile) -> bytes:
    """The profile as driftd wrote it when it compressed all numbers, those that are 0 too: here in 8 bytes each."""
    parts = (profile.counts, profile.sums[:, :SHIFTS], profile.sums[:, SHIFTS:], profile.pairs)
    body = b"".join(b"\x08" + part.astype("<i8").tobytes() for part in parts)
    sizes = (len(profile.counts), len(profile.sums), profile.n_windows)
    head = struct.pack("<4sH32sIIQ", b"DRPF", 2, bytes.fromhex(profile.bins.id), *sizes)
    packed = zlib.compress(body, level=1)
    return head + packed + struct.pack("<I", zlib.crc32(head + packed))


def test_profiles_of_the_second_version_are_read_as_they_were():
    rng = np.random.default_rng(8)
    window = profile_of(one_column(rng.normal(size=500)), rng.normal(0, 3, 300))
    assert Profile.from_bytes(window.bins, second_version(window)) == window


@pytest.mark.parametrize("level", [0, 1])
def test_a_profile_is_the_same_however_it_was_compressed(level: int):
    window = profile_of(one_column(np.arange(50.0)), np.arange(40.0) * 1.5)
    assert Profile.from_bytes(window.bins, window.to_bytes(level)) == window


def test_a_profile_of_an_unknown_version_says_which_ones_are_read():
    data = bytearray(profile_of(one_column(np.arange(9.0)), np.arange(5.0)).to_bytes())
    data[4] = 9
    data[-4:] = struct.pack("<I", zlib.crc32(data[:-4]))
    with pytest.raises(ValueError, match="version 9; this driftd reads versions 1 to 3"):
        Profile.from_bytes(one_column(np.arange(9.0)), bytes(data))


def test_invalid_values_have_a_cell_of_their_own():
    bins = one_column(np.arange(10.0))
    numbers = np.array([[3.0, np.nan, np.nan]])
    cells = bins.cells(numbers, np.zeros((0, 3), np.uint8), np.array([[False, True, False]]))
    assert cells[0].tolist()[1:] == [INVALID, MISSING]
    assert Profile.of(bins, numbers, cells).n_valid.tolist() == [1]


@pytest.mark.parametrize("heavy", [0.0, 7.0])
def test_a_heavy_value_owns_its_cell_and_its_neighbours_do_not_join_it(heavy: float):
    rng = np.random.default_rng(1)
    bins = one_column(np.concatenate((rng.exponential(size=5_000), np.full(1_000, heavy))))
    beside = np.array([np.nextafter(heavy, -np.inf), heavy, np.nextafter(heavy, np.inf)])
    assert len(set(bins.cells(beside[None], NO_WORDS)[0].tolist())) == 3


def test_integers_moved_off_their_atoms_do_not_keep_their_cells():
    counts = np.random.default_rng(2).poisson(4, 10_000).astype(float)
    bins = one_column(counts)
    same, moved = profile_of(bins, counts), profile_of(bins, counts + 0.5)
    occupied = (same.counts[0] > 0) & (moved.counts[0] > 0)
    assert moved.counts[0][occupied].sum() < 0.01 * counts.size  # values rarer than five rows share a cell


def test_deciles_of_a_continuous_column_hold_a_tenth_each():
    reference = np.random.default_rng(5).normal(size=10_000)
    profile = profile_of(one_column(reference), reference)
    (numeric, _), _ = Pair(profile, profile).groups
    assert numeric[0].tolist() == [1_000] * 10


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(0),
        np.full(5, np.nan),
        np.array([np.inf, -np.inf]),
        np.full(9, 4.0),
        np.array([-1e308, 1e308, 0.0]),
        np.array([5e-324, 1e-310, 0.0]),
        np.array([1e300] * 50 + [-1e300]),
    ],
    ids=["empty", "all missing", "only infinities", "constant", "float limits", "denormals", "huge"],
)
def test_hostile_references_give_cells_without_error_or_warning(values: np.ndarray):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bins = one_column(values)
        profile = profile_of(bins, np.array([0.0, 1e308, -1e308, np.inf, np.nan, 4.0]))
        assert bins.numeric[0].n_regular <= N_REGULAR
        assert profile.counts[0].sum() == 6
        assert Bins.from_json(bins.to_json()).id == bins.id


def test_many_words_spill_into_rare_and_a_singleton_share_remains():
    words = {f"w{i}": 2 for i in range(N_REGULAR)} | {f"rare{i}": 1 for i in range(100)}
    column = Bins.of({}, {"w": words}).categorical[0]
    codes = column.codes()
    assert len(column.vocabulary) == N_REGULAR
    assert codes["rare7"] == RARE
    assert column.singleton_share == pytest.approx(100 / (2 * N_REGULAR + 100))


@pytest.mark.parametrize("at", [0, 5, 60, -1])
def test_damaged_bytes_are_refused_with_a_reason(at: int):
    bins = one_column(np.arange(100.0))
    data = bytearray(profile_of(bins, np.arange(50.0)).to_bytes())
    data[at] ^= 0x40
    with pytest.raises(ValueError, match="profile"):
        Profile.from_bytes(bins, bytes(data))


def test_profiles_of_other_references_neither_add_nor_compare_nor_load():
    first, second = one_column(np.arange(100.0)), one_column(np.arange(101.0))
    a, b = profile_of(first, np.arange(5.0)), profile_of(second, np.arange(5.0))
    with pytest.raises(ValueError, match="do not add"):
        a + b
    with pytest.raises(ValueError, match="different cells"):
        Pair(a, b)
    with pytest.raises(ValueError, match="another reference"):
        Profile.from_bytes(second, a.to_bytes())
