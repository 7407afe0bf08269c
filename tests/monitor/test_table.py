"""Tables: every dtype means what the same values mean as JSON, counted row by row or column by column."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import Bins, Profile
from detectors.cells import INVALID, MISSING
from detectors.columns import CategoricalColumn, NumericColumn
from detectors.profile import count_sorted, count_words
from monitor.batch import NO_TIME
from monitor.table import counted, is_numeric, is_time, numbers, times, word_counts, words


def arrow(values: list[object], kind: pa.DataType) -> pd.Series:
    return pd.Series(values, dtype=pd.ArrowDtype(kind))


NUMBERS = {
    "int8": pd.Series([1, -2], dtype="int8"),
    "uint64": pd.Series([1, 2**64 - 1], dtype="uint64"),
    "float16": pd.Series([0.5, np.nan], dtype="float16"),
    "Int64": pd.Series([1, None], dtype="Int64"),
    "Float32": pd.Series([0.5, None], dtype="Float32"),
    "arrow int": arrow([1, None], pa.int32()),
    "arrow float": arrow([0.5, None], pa.float64()),
    "arrow decimal": arrow([Decimal("1.25"), None], pa.decimal128(9, 2)),
    "decimals": pd.Series([Decimal("1.25"), None]),
    "decimals that are none": pd.Series([Decimal("1.25"), Decimal("NaN")]),
    "objects": pd.Series([1, 2.5, None], dtype=object),
    "big integers": pd.Series([10**30, 1]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_every_dtype_are_numbers(name: str):
    values = NUMBERS[name]
    found, invalid = numbers(values)
    assert is_numeric(values)
    assert (found.dtype, invalid) == (np.float64, None)
    wanted = [np.nan if missing else float(value) for value, missing in zip(values, values.isna(), strict=True)]
    np.testing.assert_array_equal(found, wanted)


WORDS = {
    "text": (pd.Series(["a", None, "b", "a"]), ["a", None, "b", "a"]),
    "string": (pd.Series(["a", None], dtype="string"), ["a", None]),
    "arrow string": (arrow(["a", None], pa.string()), ["a", None]),
    "bool": (pd.Series([True, False]), ["true", "false"]),
    "boolean": (pd.Series([True, None], dtype="boolean"), ["true", None]),
    "category": (pd.Series(["b", None, "a"], dtype="category"), ["b", None, "a"]),
    "category of numbers": (pd.Series([2.0, None, 1.0], dtype="category"), ["2", None, "1"]),
    "whole floats": (pd.Series([2.0, np.nan, 0.5]), ["2", None, "0.5"]),
    "mixed": (pd.Series([1, True, "x", None, 1.0, np.int8(1)]), ["1", "true", "x", None, "1", "1"]),
    "decimals": (pd.Series([Decimal("1.50"), Decimal(2)]), ["1.5", "2"]),
    "days": (pd.Series([dt.date(2024, 2, 29)]), ["2024-02-29"]),
    "times": (pd.Series(pd.to_datetime(["2024-02-29", None])), ["2024-02-29T00:00:00", None]),
}  # fmt: skip


@pytest.mark.parametrize("name", WORDS)
def test_words_of_every_dtype_are_spelled_as_in_json(name: str):
    values, wanted = WORDS[name]
    codes, texts = words(values)
    assert [None if code < 0 else texts[code] for code in codes] == wanted
    assert word_counts(values) == (Counter(text for text in wanted if text is not None), wanted.count(None), 0)


def test_what_is_neither_is_invalid_and_keeps_its_neighbours():
    values = pd.Series(["x", 1, [1], {"a": 1}, None, b"x", 10**400, float("inf"), True], dtype=object)
    found, invalid = numbers(values)
    assert invalid is not None
    assert invalid.tolist() == [True, False, True, True, False, True, True, False, False]
    np.testing.assert_array_equal(found[~invalid], [1, np.nan, np.inf, 1])
    counts, n_missing, n_invalid = word_counts(pd.Series(["x", "x", [1], {"a": 1}, None, b"x"]))
    assert (counts, n_missing, n_invalid) == (Counter({"x": 2}), 1, 3)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pd.Series(np.array(["1970-01-02", "NaT", "9999-01-01"], "M8[us]")), [86_400, np.nan, 253_370_764_800]),
        (pd.Series(pd.to_datetime(["1970-01-01T01:00+01:00", None])), [0, np.nan]),
        (pd.Series(pd.to_timedelta(["1.5s", None])), [1.5, np.nan]),
        (arrow([dt.datetime(9999, 1, 1, tzinfo=dt.UTC), None], pa.timestamp("us", "UTC")), [253_370_764_800, np.nan]),
        (arrow([dt.date(1970, 1, 2), None], pa.date32()), [86_400, np.nan]),
        (arrow([dt.timedelta(1), None], pa.duration("ms")), [86_400, np.nan]),
    ],
)
def test_time_is_seconds(values: pd.Series, wanted: list[float]):
    assert is_time(values)
    assert not is_numeric(values)
    np.testing.assert_array_equal(numbers(values)[0], wanted)


def test_objects_are_numbers_if_nearly_all_of_them_are():
    mixed = pd.Series([1.5] * 95 + ["x"] * 5)
    assert is_numeric(mixed)
    assert not is_numeric(mixed[::-1].reset_index(drop=True)[:40])
    assert not is_numeric(pd.Series([True, False, None]))
    assert not is_numeric(pd.Series([None, None]))
    assert is_numeric(pd.Series([None] * 5_001 + [1] + [None] * 5_000, dtype=object))


FLOATS = st.lists(st.floats(allow_nan=False) | st.integers(-3, 3).map(float), max_size=60)


@given(FLOATS, FLOATS, st.integers(0, 3))
def test_a_sorted_column_counts_like_its_rows(before: list[float], after: list[float], n_missing: int):
    reference = np.array(before)
    column = NumericColumn.of_sorted("x", np.sort(reference[np.isfinite(reference)]))
    bins = Bins.of({"x": reference}, {})
    assert Bins((column,), ()).id == bins.id
    rows = np.append(after, [np.nan] * n_missing)[None]
    profile = Profile.of(bins, rows, bins.cells(rows, np.empty((0, 0), np.uint8)))
    counts, sums = count_sorted(column, np.sort(after))
    counts[MISSING] = n_missing
    np.testing.assert_array_equal(counts, profile.counts[0])
    np.testing.assert_array_equal(sums, profile.sums[0])


def test_sums_of_many_far_values_stay_exact():
    column = NumericColumn.of_sorted("x", np.arange(100.0))
    bins = Bins((column,), ())
    far = np.full((1, 600_001), 1e9)  # squares beyond what a float counts exactly
    profile = Profile.of(bins, far, bins.cells(far, np.empty((0, 0), np.uint8)))
    np.testing.assert_array_equal(count_sorted(column, far[0])[1], profile.sums[0])


@given(
    st.lists(st.sampled_from(["a", "b", "c", "new", None, 5]), min_size=1), st.lists(st.sampled_from(["a", "b", None]))
)
def test_counted_words_count_like_their_rows(after: list[object], before: list[object]):
    column = CategoricalColumn.of("w", word_counts(pd.Series(before, dtype=object))[0])
    frame = pd.DataFrame({"w": pd.Series(after, dtype=object)})
    spelled, n_missing, n_invalid = word_counts(frame["w"])
    counts = count_words(column, spelled)
    counts[[MISSING, INVALID]] = n_missing, n_invalid
    bins = Bins((), (column,))
    np.testing.assert_array_equal(counts, Profile.of(bins, *counted(frame, bins)).counts[0])


def test_objects_are_no_words_and_no_times_however_many_there_are():
    """pandas counts what has no hash in the square of its number: 60,000 rows took an hour."""
    values = pd.Series([{"a": i} for i in range(60_000)])
    assert word_counts(values) == ({}, 0, 60_000)
    assert (times(values) == NO_TIME).all()
