"""Laws that are drawn: honest whatever the column and the rows, exact where a formula is known, the same every time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
from scipy import stats

from detectors import REGISTRY, Bins, Pair, Profile, law
from detectors.cells import ABOVE, BELOW, N_CELLS
from detectors.detector import Drawn
from detectors.law import SIZES, Laws
from detectors.profile import N_SUMS
from tests.detectors.samples import bins_of, compared, profile

DRAWN = {name: detector for name, detector in REGISTRY.items() if isinstance(detector, Drawn)}
every_drawn = pytest.mark.parametrize("name", DRAWN)

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
COLUMNS: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy tails": lambda rng, shape: rng.standard_t(3, shape),
    "skewed": lambda rng, shape: rng.lognormal(0, 2, shape),
    "counts": lambda rng, shape: rng.poisson(1, shape).astype(float),
    "rarely yes": lambda rng, shape: (rng.random(shape) < 0.05).astype(float),
    "mostly zero": lambda rng, shape: np.where(rng.random(shape) < 0.9, 0.0, rng.lognormal(size=shape)),
}
N_REFERENCES = 150
WINDOWS = (50, 300, 5_000)
NO_WORDS = np.zeros((0, 0), np.uint8)


def counted(bins: Bins, numbers: np.ndarray) -> Profile:
    return Profile.of(bins, numbers, bins.cells(numbers, NO_WORDS))


def counts_only(bins: Bins, counts: np.ndarray) -> Profile:
    return Profile(bins, counts, np.zeros((bins.n_numeric, N_SUMS), np.int64))


@cache
def without_drift(n: int, column: str) -> dict[str, np.ndarray]:
    """p-values of every drawn law, shape (windows of 50, 300 and 5000 rows; references)."""
    draw, rng = COLUMNS[column], np.random.default_rng(n)
    rows = draw(rng, (N_REFERENCES, n))
    bins = Bins.of({str(i): values for i, values in enumerate(rows)}, {})
    laws = Laws.of(counted(bins, rows), n_draws=300)
    found: dict[str, list[np.ndarray]] = {name: [] for name in DRAWN}
    for m in WINDOWS:
        window = counted(bins, draw(rng, (N_REFERENCES, m)))
        for name, detector in DRAWN.items():
            found[name].append(laws.p_value(detector, window))
    return {name: np.array(p_values) for name, p_values in found.items()}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("n", [50, 1_000])
@every_drawn
def test_without_drift_no_column_and_no_window_has_small_p_values_too_often(name: str, n: int, column: str):
    p_values = without_drift(n, column)[name]
    for level in (0.01, 0.05):
        most = stats.binom.isf(1e-4, N_REFERENCES, (1.5 if n == 50 else 1.1) * level)
        assert ((p_values <= level).sum(axis=1) <= most).all(), level


@every_drawn
def test_and_over_all_of_them_p_values_are_uniform_to_a_fifth(name: str):
    p_values = np.concatenate([without_drift(1_000, column)[name].ravel() for column in COLUMNS if "yes" not in column])
    known = p_values[~np.isnan(p_values)]
    assert known.size > 0.9 * p_values.size
    for level in (0.05, 0.1, 0.2, 0.5):
        assert 0.6 * level < np.mean(known <= level) < 1.2 * level
    assert np.mean(known <= 0.01) < 0.015
    assert np.mean(known <= 0.001) < 0.003


@every_drawn
def test_nor_do_a_million_rows_make_anything_significant(name: str):
    rng = np.random.default_rng(1)
    n = m = 1_000_000
    rows = rng.random((8, n))
    bins = Bins.of({str(i): values for i, values in enumerate(rows)}, {})
    laws = Laws.of(counted(bins, rows))
    found = []
    for _ in range(60):
        counts = np.zeros((8, N_CELLS), np.int64)
        for row, column in enumerate(bins.numeric):
            shares = np.diff(np.clip(np.concatenate(([0.0], column.edges, [1.0])), 0, 1))
            counts[row, BELOW : BELOW + shares.size - 1] = 0
            drawn = rng.multinomial(m, shares)
            counts[row, BELOW : BELOW + shares.size - 1] = drawn[:-1]
            counts[row, ABOVE] += drawn[-1]
        found.append(laws.p_value(DRAWN[name], counts_only(bins, counts)))
    p_values = np.array(found)
    assert np.mean(p_values <= 0.05) < 0.09
    assert np.mean(p_values <= 0.01) < 0.025
    assert 0.35 < np.mean(p_values <= 0.5) < 0.65


# Oracles


def of_a_coin(n: int, n_yes: int) -> np.ndarray:
    return np.repeat([0.0, 1.0], [n - n_yes, n_yes])


@pytest.mark.parametrize("z", [0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0])
@pytest.mark.parametrize("name", ["wasserstein", "energy"])
def test_the_law_of_one_large_coin_is_normal_far_into_its_tail_and_never_below(name: str, z: float):
    n, m = 200_000, 100_000
    pair = compared({"x": of_a_coin(n, n // 2)}, {"x": of_a_coin(m, m // 2 + round(z * np.sqrt(m * (1 + m / n)) / 2))})
    found = Laws.of(pair.reference, n_draws=20_000).p_value(DRAWN[name], pair.current)[0]
    wanted = 2 * stats.norm.sf(z)
    assert 0.9 * wanted < found < (1.3 if z < 2 else 4) * wanted


@pytest.mark.parametrize("column", COLUMNS)
@every_drawn
def test_far_into_the_tail_the_law_is_that_of_a_hundred_thousand_windows(name: str, column: str):
    n, m, draws = 1_000, 200, 100_000
    rng = np.random.default_rng(3)
    rows = COLUMNS[column](rng, (1, n))
    bins = Bins.of({"x": rows[0]}, {})
    laws = Laws.of(counted(bins, rows), sizes=(m,))
    groups, detector = laws.groups, DRAWN[name]
    rows_of_groups = groups.shares[0] * n
    rows_of_groups[np.flatnonzero(rows_of_groups)[[0, -1]]] += groups.beyond[0]
    source = rng.standard_gamma(rows_of_groups, (draws, law.N_GROUPS))
    shares = rng.multinomial(m, source / source.sum(axis=1, keepdims=True)) / m
    far = np.sort(detector.distance(groups.shares[0], shares, groups.places[0]))
    size = np.zeros(1, np.intp)
    for level in (0.1, 0.03, 0.01, 1e-3, 1e-4):
        at = far[-int(level * draws)]
        chance = np.mean(far >= at)
        found = np.exp(laws._ln_p(laws.names.index(name), size, at * np.sqrt(np.array([n * m / (n + m)]))))[0]
        assert (0.6 if level > 0.005 else 0.25) * chance < found < (2.5 if level > 0.005 else 6) * chance, level


@pytest.mark.parametrize("m", [40, 200, 3_000, 40_000, 1_000_000])
@every_drawn
def test_between_the_sizes_the_law_is_that_of_the_size_itself(name: str, m: int):
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(1, 5_000))
    bins = Bins.of({"x": rows[0]}, {})
    reference = counted(bins, rows)
    laws, own = Laws.of(reference), Laws.of(reference, sizes=(m,), seed=1)
    for spread in (1.0, 1.02, 1.05, 1.1, 1.3):
        drifted = rng.multinomial(m, np.diff(stats.norm.cdf(bins.numeric[0].edges / spread)), 1)
        counts = np.zeros((1, N_CELLS), np.int64)
        counts[0, BELOW + 1 : BELOW + 1 + drifted.size] = drifted
        window = counts_only(bins, counts)
        found, wanted = (each.p_value(DRAWN[name], window)[0] for each in (laws, own))
        assert found == pytest.approx(wanted, rel=0.35, abs=0.03) or max(found, wanted) < 1e-3


# What they find


def test_a_shift_has_a_small_p_value_and_one_absurd_row_has_none():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=5_000), rng.normal(size=1_000)
    pairs = {
        "still": compared({"x": x}, {"x": y}),
        "absurd": compared({"x": x}, {"x": np.append(y, 1e9)}),
        "moved": compared({"x": x}, {"x": y + 0.3}),
        "wider": compared({"x": x}, {"x": y * 1.3}),
    }
    p = {kind: {name: scored(name, pair) for name in DRAWN} for kind, pair in pairs.items()}
    assert all(p["still"][name] > 0.01 and p["absurd"][name] > 0.01 for name in DRAWN)
    assert p["moved"]["wasserstein"] < 1e-9
    assert p["moved"]["energy"] < 1e-9
    assert p["moved"]["variance"] > 0.01
    assert p["wider"]["variance"] < 1e-9
    assert p["wider"]["wasserstein"] < 1e-3


def scored(name: str, pair: Pair) -> float:
    laws = law.between(pair.reference, pair.current, [name])
    return float(REGISTRY[name].score(Pair(pair.reference, pair.current, laws)).p_value[0])


# The same every time


def table() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(6)
    return {"a": rng.normal(size=400), "b": rng.poisson(2, 400).astype(float), "c": np.full(400, 3.0)}


def test_equal_arguments_give_equal_bytes_and_bytes_give_the_laws_again():
    rows = table()
    reference = profile(bins_of(rows), rows)
    laws = Laws.of(reference)
    data = laws.to_bytes()
    assert Laws.of(reference).to_bytes() == data
    assert Laws.of(reference, seed=1).to_bytes() != data
    again = Laws.from_bytes(reference, data)
    for detector in DRAWN.values():
        np.testing.assert_array_equal(again.p_value(detector, reference), laws.p_value(detector, reference))
    with pytest.raises(ValueError, match="checksum"):
        Laws.from_bytes(reference, data[:-1] + bytes([data[-1] ^ 1]))
    other = profile(bins_of({"a": rows["a"]}), {"a": rows["a"]})
    with pytest.raises(ValueError, match="laws of another reference"):
        Laws.from_bytes(other, data)


@every_drawn
def test_a_columns_law_is_its_own_whatever_stands_beside_it(name: str):
    rows = table()
    turned = {column: rows[column] for column in reversed(rows)}
    p = partial(p_values_of_the_first_half, name)
    assert p(rows) == pytest.approx(p(turned)[::-1], nan_ok=True)
    for row, column in enumerate(rows):
        assert p({column: rows[column]}) == pytest.approx([p(rows)[row]], nan_ok=True)
        bins = bins_of(rows)
        reference = profile(bins, rows)
        half = profile(bins, {k: v[:200] for k, v in rows.items()})
        alone = Pair(reference, half, Laws.of(reference)).only(row)
        assert REGISTRY[name].score(alone).p_value.tolist() == pytest.approx([p(rows)[row]], nan_ok=True)


def p_values_of_the_first_half(name: str, rows: dict[str, np.ndarray]) -> list[float]:
    bins = bins_of(rows)
    reference, half = profile(bins, rows), profile(bins, {k: v[:200] for k, v in rows.items()})
    found: list[float] = REGISTRY[name].score(Pair(reference, half, Laws.of(reference))).p_value.tolist()
    return found


@every_drawn
def test_a_change_of_unit_changes_no_p_value(name: str):
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=800), rng.normal(0.1, 1.2, size=500)
    plain, scaled = (scored(name, compared({"a": x * unit}, {"a": y * unit})) for unit in (1.0, 1024.0))
    assert 0 < plain < 1
    assert scaled == pytest.approx(plain, rel=1e-9)


# Where there is no law


def test_where_no_law_is_known_no_claim_is_made():
    rows = table()
    bins = bins_of(rows)
    reference = profile(bins, rows)
    few = profile(bins, {k: v[: SIZES[0] - 1] for k, v in rows.items()})
    nothing = {k: v[:0] for k, v in rows.items()}
    for name, detector in DRAWN.items():
        assert np.isnan(REGISTRY[name].score(Pair(reference, reference)).p_value).all()  # none was drawn
        laws = Laws.of(reference, [other for other in DRAWN if other != name])
        assert np.isnan(laws.p_value(detector, reference)).all()
        whole = Laws.of(reference)
        assert np.isnan(whole.p_value(detector, few)).all()
        assert np.isnan(whole.p_value(detector, profile(bins, nothing))).all()
        p = REGISTRY[name].score(Pair(reference, reference, whole)).p_value
        assert p[:2].tolist() == [1.0, 1.0]
        assert np.isnan(p[2])  # a constant
        empty = Laws.of(profile(bins, nothing))
        assert np.isnan(empty.p_value(detector, reference)).all()
    assert law.between(reference, reference, ["ks", "psi"]) is None
