"""What every detector in the registry keeps to, a new one from the moment its file exists.

Where a detector must differ, a table below names it, and its docstring says why.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from functools import cache, reduce
from operator import add

import numpy as np
import pytest
from scipy import stats

from detectors import REGISTRY, Kind, Pair, Profile, Score
from detectors.cells import INVALID, MISSING
from tests.detectors.samples import Rows, bins_of, compared, frequencies, normal_grid, profile, times

every_detector = pytest.mark.parametrize("name", REGISTRY)

OF_ALL_ROWS = {"missing", "type_error", "row_count"}
"""They judge rows that hold no value, so they need none."""
AGAINST_EXPECTED = {"out_of_range", "unseen"}
"""Their effect is over what even the next row of the same law would bring, so it is below 0 without drift."""
IN_UNITS = {"wasserstein": 1.0, "energy": 0.5, "mean": 1.0}
"""Their statistic is in the column's unit to this power."""
OF_VALUES = {*IN_UNITS, "variance", "constant"}
"""They read the values, not only their order."""


def rng_of(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def words(rng: np.random.Generator, n: int, levels: int) -> np.ndarray:
    return rng.integers(0, levels, n).astype(str)


def table(rng: np.random.Generator, n: int) -> Rows:
    """Columns as they occur: continuous, skewed, few-valued, with missing values, of few and of many words."""
    return {
        "normal": rng.normal(size=n),
        "skewed": rng.lognormal(size=n),
        "counts": rng.poisson(2, n).astype(float),
        "gaps": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
        "plan": np.where(rng.random(n) < 0.05, "", words(rng, n, 4)),
        "city": words(rng, n, 300),
    }


def same(a: Score, b: Score, **tolerance: float) -> bool:
    pairs = ((a.statistic, b.statistic), (a.p_value, b.p_value), (a.effect, b.effect))
    close = all(np.allclose(x, y, rtol=0, atol=0, equal_nan=True, **tolerance) for x, y in pairs)
    return close and (a.n_reference == b.n_reference).all() and (a.n_current == b.n_current).all()


def score(name: str, reference: Rows, current: Rows) -> Score:
    return REGISTRY[name].score(compared(reference, current))


# Shape and order


@every_detector
def test_a_score_has_one_number_per_column_and_knows_its_own_column_only(name: str):
    rng = rng_of("shape")
    reference, current = table(rng, 700), table(rng, 300)
    whole = score(name, reference, current)
    for values in (whole.statistic, whole.p_value, whole.effect):
        assert (values.shape, values.dtype) == ((6,), np.float64)
    assert (whole.n_reference.shape, whole.n_current.shape) == ((6,), (6,))
    for row, column in enumerate(bins_of(reference).names):
        alone = score(name, {column: reference[column]}, {column: current[column]})
        for of_whole, of_one in zip(numbers(whole), numbers(alone), strict=True):
            np.testing.assert_allclose(of_whole[row : row + 1], of_one, rtol=1e-12)


def numbers(found: Score) -> tuple[np.ndarray, ...]:
    return found.statistic, found.p_value, found.effect, found.n_reference, found.n_current


@every_detector
def test_the_order_of_columns_changes_nothing(name: str):
    rng = rng_of("order")
    reference, current = table(rng, 700), table(rng, 300)
    turned = {column: reference[column] for column in reversed(reference)}
    straight, back = score(name, reference, current), score(name, turned, current)
    names, names_back = bins_of(reference).names, bins_of(turned).names
    assert names != names_back
    at = [names_back.index(column) for column in names]
    for one, other in zip(numbers(straight), numbers(back), strict=True):
        np.testing.assert_allclose(one, other[at], rtol=1e-12)


@every_detector
def test_rows_counted_in_pieces_in_any_order_give_the_same_score(name: str):
    rng = rng_of("pieces")
    reference, current = table(rng, 700), table(rng, 300)
    bins = bins_of(reference)
    order = rng.permutation(300)
    pieces = [profile(bins, {k: v[at] for k, v in current.items()}) for at in np.array_split(order, (7, 50, 200))]
    normal, whole = profile(bins, reference), profile(bins, current)
    merged = reduce(add, pieces)
    one_window = Profile(bins, merged.counts, merged.sums, n_windows=1)
    assert same(REGISTRY[name].score(Pair(normal, whole)), REGISTRY[name].score(Pair(normal, one_window)))


# No drift


@every_detector
def test_identical_samples_have_no_effect_no_statistic_and_no_small_p_value(name: str):
    sample = table(rng_of("identical"), 1_000)
    found = score(name, sample, sample)
    p, effect = (values[~np.isnan(found.statistic)] for values in (found.p_value, found.effect))
    assert (np.isnan(p) | (p > 0.3)).all()
    assert (np.abs(effect) < 1e-9).all() if name not in AGAINST_EXPECTED else (effect <= 0).all()
    own_value = {
        "variance": lambda statistic: np.abs(statistic - 1) < 1e-9,
        "cvm": lambda statistic: statistic < 1 / 6,  # the mean without drift
        "ad": lambda statistic: statistic < 0,
        "row_count": lambda statistic: statistic == 1_000,
        "missing": lambda statistic: (statistic == 0) | (np.abs(statistic - 0.08) < 0.04),
    }
    with np.errstate(invalid="ignore"):
        no_statistic = own_value.get(name, lambda statistic: np.abs(statistic) < 1e-9)(found.statistic)
    assert (no_statistic | np.isnan(found.statistic)).all()


LAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy tails": lambda rng, n: rng.standard_t(3, n),
    "skewed": lambda rng, n: rng.lognormal(0, 2, n),
    "counts": lambda rng, n: rng.poisson(1, n).astype(float),
    "rarely yes": lambda rng, n: (rng.random(n) < 0.05).astype(float),
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.9, 0.0, rng.lognormal(size=n)),
    "some missing": lambda rng, n: np.where(rng.random(n) < 0.1, np.nan, rng.random(n)),
    "coin": lambda rng, n: words(rng, n, 2),
    "8 words": lambda rng, n: words(rng, n, 8),
    "60 words": lambda rng, n: words(rng, n, 60),
    "300 words": lambda rng, n: words(rng, n, 300),
    "uneven words": lambda rng, n: rng.geometric(0.3, n).astype(str),
    "very uneven words": lambda rng, n: np.minimum(rng.zipf(1.5, n), 10**6).astype(str),
    "keys": lambda rng, n: words(rng, n, 10**9),
}
DRAWS = 400
SIZES = [(50, 50), (300, 50), (50, 300), (1_000, 1_000), (200, 2_000)]


@cache
def null_p_values(n: int, m: int) -> dict[str, np.ndarray]:
    """p-values of every detector without drift, each of shape (laws, draws): every draw has its own reference."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in REGISTRY}
    for law, draw in LAWS.items():
        rng = rng_of("null", n, m, law)
        reference = {str(i): draw(rng, n) for i in range(DRAWS)}
        current = {column: draw(rng, m) for column in reference}
        if reference["0"].dtype.kind == "f":
            pair = Pair.of_numbers(reference, current)
        else:
            sides = ({column: frequencies(values) for column, values in side.items()} for side in (reference, current))
            pair = Pair.of_words(*sides)
        for name, detector in REGISTRY.items():
            found[name].append(detector.score(pair).p_value)
    return {name: np.array(p_values) for name, p_values in found.items()}


@pytest.mark.parametrize(("n", "m"), SIZES)
@every_detector
def test_without_drift_a_p_value_is_below_a_level_no_oftener_than_the_level_says(name: str, n: int, m: int):
    p_values = null_p_values(n, m)[name]
    for level in (0.01, 0.05):
        with np.errstate(invalid="ignore"):
            below = (p_values <= level).sum(axis=1)  # NaN is no claim
        most = stats.binom.isf(1e-5, DRAWS, 1.1 * level)  # a tenth too many is within what the docstrings allow
        too_often = {law: count / DRAWS for law, count in zip(LAWS, below, strict=True) if count > most}
        assert not too_often, f"level {level}"


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("ks", "normal"),
        ("cvm", "normal"),
        ("ad", "counts"),
        ("mean", "skewed"),
        *itertools.product(["chi2_pooled", "psi", "js"], ["coin", "8 words", "uneven words", "normal", "counts"]),
    ],
)
def test_and_not_far_less_often_where_the_law_is_meant_to_fit(name: str, law: str):
    p_values = null_p_values(1_000, 1_000)[name][list(LAWS).index(law)]
    assert np.mean(p_values <= 0.05) > 0.02
    assert 0.3 < np.mean(p_values <= 0.5) < 0.6


# Where nothing can be said


@every_detector
def test_an_empty_side_gives_nan_and_the_reason_and_no_claim(name: str):
    rng = rng_of("empty")
    rows = table(rng, 100)
    nothing = {column: values[:0] for column, values in rows.items()}
    no_values = {
        column: np.full_like(values, np.nan if values.dtype.kind == "f" else "") for column, values in rows.items()
    }
    kinds = np.array(bins_of(rows).kinds)
    applies = np.isin(kinds, list(REGISTRY[name].kinds))
    for reference, current, words_for_it in (
        (rows, nothing, "no value of this column in the current rows"),
        (rows, no_values, "no value of this column in the current rows"),
        (no_values, rows, "the reference holds no value of this column"),
    ):
        found = score(name, reference, current)
        if name in OF_ALL_ROWS and current is not nothing:
            assert not np.isnan(found.statistic).any()
        elif name == "row_count":
            assert (found.statistic == 0).all()
            assert np.isnan(found.effect).all()
        else:
            assert np.isnan(found.statistic).all()
            assert np.isnan(found.p_value).all()
            assert np.isnan(found.effect).all()
            assert {found.reason(row) for row in np.flatnonzero(applies)} <= {words_for_it}


@every_detector
def test_columns_of_another_kind_are_nan_with_a_reason_and_its_own_are_not(name: str):
    rng = rng_of("kinds")
    reference, current = table(rng, 500), table(rng, 500)
    found = score(name, reference, current)
    for row, kind in enumerate(bins_of(reference).kinds):
        if kind in REGISTRY[name].kinds:
            assert found.reason(row) is None, name
            assert np.isfinite(found.statistic[row])
        else:
            assert found.reason(row) == "not defined for this column"
            assert np.isnan([found.statistic[row], found.p_value[row], found.effect[row]]).all()


NAN, INF = np.nan, np.inf
HOSTILE: dict[str, np.ndarray] = {
    "no rows": np.zeros(0),
    "all missing": np.full(7, NAN),
    "only infinities": np.array([INF, -INF, INF]),
    "only one infinity": np.full(4, INF),
    "constant": np.full(9, 4.0),
    "another constant": np.full(5, 4.5),
    "one row": np.array([1.0]),
    "two rows": np.array([1.0, 2.0]),
    "few values": np.arange(20.0) % 3,
    "ordinary": normal_grid(300),
    "float limits": np.array([1.7e308, -1.7e308, 0.0, 5.0]),
    "denormals": np.array([5e-324, 0.0, 1e-310]),
    "an outlier": np.append(normal_grid(100), 1e6),
    "a constant and an outlier": np.append(np.full(50, 3.0), 1e300),
    "a bit of all": np.array([NAN, INF, -INF, 3.0, 4.0, 4.0]),
    "large and close": 1e15 + np.arange(100.0),
}
HOSTILE_WORDS: dict[str, np.ndarray] = {
    "no rows": np.zeros(0, "U1"),
    "all missing": np.array([""] * 5),
    "one word": np.array(["a"] * 9),
    "one row": np.array(["b"]),
    "two words": np.array(["a", "b"] * 20),
    "a word once": np.array(["a"] * 50 + ["odd"]),
    "keys": np.arange(400).astype(str),
    "many words": np.repeat(np.arange(300).astype(str), 20),
}


def sound(found: Score) -> None:
    for row in range(found.statistic.size):
        statistic, p_value, effect = found.statistic[row], found.p_value[row], found.effect[row]
        assert not np.isinf([statistic, p_value, effect]).any()
        assert np.isnan(p_value) or 0 <= p_value <= 1
        if np.isnan(statistic):
            assert np.isnan([p_value, effect]).all()
            assert found.reason(row)
        else:
            assert found.reason(row) is None


@pytest.mark.parametrize("factor", [1, 2**32], ids=["few rows", "huge counts"])
@every_detector
def test_no_profile_however_hostile_brings_an_error_a_warning_an_infinity_or_a_p_value_out_of_range(
    name: str, factor: int
):
    for samples in (HOSTILE, HOSTILE_WORDS):
        for reference, current in itertools.product(samples.values(), repeat=2):
            pair = compared({"x": reference}, {"x": current})
            sound(REGISTRY[name].score(Pair(times(pair.reference, factor), times(pair.current, factor))))


@every_detector
def test_nor_do_invalid_values_or_tables_of_one_kind_or_of_none(name: str):
    rng = rng_of("invalid")
    rows = table(rng, 60)
    bins = bins_of(rows)
    normal = profile(bins, rows)
    broken = np.zeros_like(normal.counts)
    broken[:, INVALID] = 60
    invalid = Profile(bins, broken, np.zeros_like(normal.sums), n_windows=1)
    for reference, current in ((normal, invalid), (invalid, normal), (invalid, invalid), (normal, Profile.empty(bins))):
        sound(REGISTRY[name].score(Pair(reference, current)))
    for columns in (("normal",), ("plan",), ()):
        few = {column: rows[column] for column in columns}
        found = score(name, few, few)
        assert found.statistic.shape == (len(columns),)
        sound(found)


# Drift


N_GRID = 200


def usual() -> Rows:
    letters = np.resize(np.array(["a", "b", "c", "d"]), N_GRID)
    numeric: Rows = dict.fromkeys(("moved", "spread", "lost", "broken", "stuck"), normal_grid(N_GRID))
    return numeric | {"renamed": letters, "shifted": letters}


def drifted() -> Rows:
    return {
        "moved": normal_grid(N_GRID, 2.0),
        "spread": normal_grid(N_GRID, 0.0, 3.0),
        "lost": np.full(N_GRID, NAN),
        "broken": np.full(N_GRID, NAN),  # and then moved from missing to invalid
        "stuck": np.zeros(N_GRID),
        "renamed": np.array(["new"] * N_GRID),
        "shifted": np.resize(np.array(["a", "a", "a", "b"]), N_GRID),
    }


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"row_count"}))
def test_the_effect_grows_with_the_share_of_drifted_rows(name: str):
    bins = bins_of(usual())
    normal, changed = profile(bins, usual()), profile(bins, drifted())
    broken = bins.names.index("broken")
    changed.counts[broken, [MISSING, INVALID]] = changed.counts[broken, [INVALID, MISSING]]
    detector, reference = REGISTRY[name], times(normal, 8)
    mixed = [times(normal, 8 - step) + times(changed, step) for step in range(9)]
    effects = np.array([detector.score(Pair(reference, side)).effect for side in mixed])
    if name not in AGAINST_EXPECTED:
        effects = np.abs(effects)
    steps = np.diff(effects, axis=0)
    if name == "variance":  # of a mixture of two places it is largest half way
        steps = np.delete(steps, bins.names.index("moved"), axis=1)
    assert (np.isnan(steps) | (steps >= -1e-9)).all()
    assert np.nanmax(np.nanmax(effects, axis=0, initial=-1.0) - effects[0]) > 0.1, "nothing in all this drift moves it"


def test_the_effect_of_more_rows_grows_with_them():
    bins = bins_of(usual())
    normal = profile(bins, usual())
    sides = [Profile(bins, normal.counts * factor, normal.sums * factor, n_windows=1) for factor in (1, 2, 3)]
    effects = [REGISTRY["row_count"].score(Pair(normal, side)).effect[0] for side in sides]
    assert effects == pytest.approx(np.log([1, 2, 3]))


# Transformations


@pytest.mark.parametrize("transform", [np.exp, np.arctan, lambda x: x**3 + x], ids=["exp", "arctan", "cubic"])
@pytest.mark.parametrize("name", sorted(set(REGISTRY) - OF_VALUES))
def test_what_reads_only_the_order_of_numbers_is_unchanged_by_any_increasing_transformation(
    name: str, transform: Callable[[np.ndarray], np.ndarray]
):
    rng = rng_of("transform")
    reference = {"a": rng.normal(size=800), "b": rng.poisson(3, 800).astype(float)}
    current = {"a": rng.normal(0.3, 1.2, size=500), "b": rng.poisson(3.5, 500).astype(float)}
    plain = score(name, reference, current)
    bent = score(name, *({k: transform(v) for k, v in side.items()} for side in (reference, current)))
    assert same(plain, bent)


@every_detector
def test_a_change_of_unit_changes_no_effect_and_no_p_value(name: str):
    rng = rng_of("unit")
    reference, current = {"a": rng.normal(size=800)}, {"a": rng.normal(0.3, 1.2, size=500)}
    plain = score(name, reference, current)
    scaled = score(name, *({k: v * 1024 for k, v in side.items()} for side in (reference, current)))
    np.testing.assert_allclose(scaled.effect, plain.effect, rtol=1e-9)
    np.testing.assert_allclose(scaled.p_value, plain.p_value, rtol=1e-9)
    factor = 1024.0 ** IN_UNITS.get(name, 0.0)
    np.testing.assert_allclose(scaled.statistic, plain.statistic * factor, rtol=1e-9)


@pytest.mark.parametrize("kind", Kind)
def test_there_are_detectors_for_every_kind(kind: Kind):
    assert sum(kind in detector.kinds for detector in REGISTRY.values()) > 10
