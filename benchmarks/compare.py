"""CPU seconds of `driftd compare` and its kernels against a scipy.stats loop and Evidently doing the same.

    python -m benchmarks.compare [--without-evidently]

100,000 reference rows, 50,000 current rows; 50 numeric columns (normal, lognormal, Poisson, rounded, with missing
values) and 10 of words. Everything of ours is exact on the rows and runs on one thread. NumPy's AVX-512 sort is slow on
some processors; where it sorts much faster without, all is measured a second time in a process that starts with it off.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.spatial.distance import jensenshannon

from benchmarks.clock import cpu_seconds, line
from detectors import REGISTRY, Bins, Pair, Profile
from detectors.columns import CategoricalColumn, NumericColumn
from detectors.profile import N_SUMS, count_sorted, count_words
from detectors.rows import score_rows
from monitor.compare import compare

N_REFERENCE, N_CURRENT = 100_000, 50_000
LIKE_EVIDENTLY = ("ks", "wasserstein", "psi", "js", "chi2", "missing")
Arrays = list[np.ndarray]


def table(rows: int, seed: int, shift: float) -> pd.DataFrame:
    """Rows as they come out of a Parquet file; every third column moves by `shift` standard deviations."""
    rng = np.random.default_rng(seed)
    laws: list[Callable[[], np.ndarray]] = [
        *[lambda: rng.normal(size=rows)] * 30,
        *[lambda: rng.lognormal(size=rows)] * 8,
        *[lambda: rng.poisson(5, rows).astype(float)] * 4,
        *[lambda: rng.normal(size=rows).round(2)] * 4,
        *[lambda: np.where(rng.random(rows) < 0.05, np.nan, rng.normal(size=rows))] * 4,
    ]
    columns: dict[str, np.ndarray] = {f"x{i}": law() + shift * (i % 3 == 0) for i, law in enumerate(laws)}
    for i, levels in enumerate((2, 3, 5, 8, 12, 20, 35, 60, 100, 200)):
        words = np.array([f"word {level}" for level in range(levels)], object)
        columns[f"w{i}"] = words[np.minimum(rng.geometric(2 / levels, rows) - 1, levels - 1)]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "rows.parquet")
        pd.DataFrame(columns).to_parquet(file)
        return pd.read_parquet(file)


def arrays(frame: pd.DataFrame) -> tuple[Arrays, Arrays]:
    """Numeric columns without missing values; columns of words as codes."""
    numeric = [frame[name].dropna().to_numpy() for name in map(str, frame) if name[0] == "x"]
    return numeric, [pd.Categorical(frame[name]).codes.astype(np.int64) for name in map(str, frame) if name[0] == "w"]


def prepared(numeric: Arrays, words: Arrays) -> tuple[Arrays, Bins, Profile]:
    """The reference's side of our kernels."""
    ordered = [np.sort(x) for x in numeric]
    names = [{str(code): count for code, count in enumerate(np.bincount(codes).tolist())} for codes in words]
    bins = Bins(
        tuple(NumericColumn.of_sorted(f"x{i}", x) for i, x in enumerate(ordered)),
        tuple(CategoricalColumn.of(f"w{i}", counts) for i, counts in enumerate(names)),
    )
    return ordered, bins, profile(bins, ordered, words)


def profile(bins: Bins, ordered: Arrays, words: Arrays) -> Profile:
    counted = [count_sorted(column, x) for column, x in zip(bins.numeric, ordered, strict=True)]
    spelled = [{str(code): count for code, count in enumerate(np.bincount(codes).tolist())} for codes in words]
    of_words = [count_words(column, counts) for column, counts in zip(bins.categorical, spelled, strict=True)]
    sums = np.array([sums for _, sums in counted]).reshape(-1, N_SUMS)
    return Profile(bins, np.array([*(counts for counts, _ in counted), *of_words]), sums, n_windows=1)


def our_kernels(reference: tuple[Arrays, Bins, Profile], numeric: Arrays, words: Arrays) -> list[float]:
    """KS and Wasserstein with p-values, exact; PSI, JS and chi-square of every column. Returns every KS statistic."""
    ordered, bins, normal = reference
    current = [np.sort(y) for y in numeric]
    found = [score_rows(x, y, ("ks", "wasserstein")) for x, y in zip(ordered, current, strict=True)]
    pair = Pair(normal, profile(bins, current, words))
    for name in ("psi", "js", "chi2"):
        REGISTRY[name].score(pair)
    return [scores["ks"].statistic for scores in found]


def scipy_kernels(reference: tuple[Arrays, Arrays], current: tuple[Arrays, Arrays]) -> list[float]:
    """The same with scipy.stats, a column at a time."""
    found = []
    for x, y in zip(reference[0], current[0], strict=True):
        found.append(float(stats.ks_2samp(x, y).statistic))
        stats.wasserstein_distance(x, y)
        divergences(*deciles(x, y))
    for p, q in zip(reference[1], current[1], strict=True):
        size = int(max(p.max(), q.max())) + 1
        divergences(np.bincount(p, minlength=size), np.bincount(q, minlength=size))
    return found


def deciles(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edges = np.unique(np.quantile(x, np.linspace(0.1, 0.9, 9), method="inverted_cdf"))
    size = edges.size + 1
    of_x, of_y = (np.bincount(np.searchsorted(edges, side), minlength=size) for side in (x, y))
    return of_x, of_y


def divergences(p: np.ndarray, q: np.ndarray) -> None:
    occupied = p + q > 0
    p, q = p[occupied] + 0.5, q[occupied] + 0.5
    shares_p, shares_q = p / p.sum(), q / q.sum()
    np.sum((shares_q - shares_p) * np.log(shares_q / shares_p))
    jensenshannon(p, q, 2)
    stats.chi2_contingency(np.stack((p - 0.5, q - 0.5)), correction=False)


def scipy_all(reference: pd.DataFrame, current: pd.DataFrame) -> None:
    """What `compare` computes, as far as SciPy, pandas and NumPy have it ready made."""
    for name in map(str, reference):
        p, q = reference[name], current[name]
        p.isna().mean(), q.isna().mean()
        if name[0] == "x":
            x, y = p.dropna().to_numpy(), q.dropna().to_numpy()
            stats.ks_2samp(x, y), stats.cramervonmises_2samp(x, y), stats.anderson_ksamp([x, y], variant="midrank")
            stats.wasserstein_distance(x, y), stats.energy_distance(x, y)
            stats.ttest_ind(x, y, equal_var=False), np.var(y) / np.var(x)
            ((y < x.min()) | (y > x.max())).mean()
            counts = deciles(x, y)
        else:
            words, others = p.value_counts(), q.value_counts()
            union = words.index.union(others.index)
            counts = words.reindex(union, fill_value=0).to_numpy(), others.reindex(union, fill_value=0).to_numpy()
        divergences(*counts)
        stats.entropy(counts[1] + 0.5, counts[0] + 0.5)
        stats.chi2_contingency(np.stack(counts), correction=False, lambda_="log-likelihood")


def evidently(reference: pd.DataFrame, current: pd.DataFrame) -> Callable[[], object]:
    """Evidently's report of the same statistics, ready to run: import and data sets are not counted."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import MissingValueCount, ValueDrift

    numeric, words = ([name for name in map(str, reference) if name[0] == kind] for kind in "xw")
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=words)
    sides = [Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference)]
    wanted = [(numeric, ("ks", "wasserstein", "psi", "jensenshannon")), (words, ("chisquare", "psi", "jensenshannon"))]
    metrics = [ValueDrift(column=name, method=test) for names, tests in wanted for name in names for test in tests]
    report = Report([*metrics, *(MissingValueCount(column=name) for name in (*numeric, *words))])
    return lambda: report.run(*sides).dict()


def measure(*, with_evidently: bool) -> None:
    reference, current = table(N_REFERENCE, 1, 0.0), table(N_CURRENT, 2, 0.05)
    raw, now = arrays(reference), arrays(current)
    ready = prepared(*raw)
    print(f"np.sort: {sort_ns():.1f} ns per float64")
    print(f"{'CPU seconds':56} {'ours':>8} {'other':>8} {'ratio':>8} {'goal':>6}")
    assert np.allclose(our_kernels(ready, *now), scipy_kernels(raw, now)), "not the same statistics"
    loop = cpu_seconds(lambda: scipy_kernels(raw, now), 3)
    both = cpu_seconds(lambda: our_kernels(prepared(*raw), *now))
    line("kernels, reference prepared once: scipy.stats loop", cpu_seconds(lambda: our_kernels(ready, *now)), loop, 25)
    line("kernels, both sides raw: scipy.stats loop", both, loop, 25)
    everything = cpu_seconds(lambda: compare(reference, current, REGISTRY))
    line(f"compare, all {len(REGISTRY)} detectors: scipy.stats loop", everything,
         cpu_seconds(lambda: scipy_all(reference, current), 1), 25)  # fmt: skip
    if with_evidently:
        same = cpu_seconds(lambda: compare(reference, current, LIKE_EVIDENTLY))
        line("compare, Evidently's statistics: Evidently", same, cpu_seconds(evidently(reference, current), 1), 100)


def sort_ns() -> float:
    values = np.random.default_rng(0).normal(size=(10, N_REFERENCE))
    return cpu_seconds(lambda: [np.sort(row) for row in values]) / values.size * 1e9


def without_avx512() -> dict[str, str]:
    """The environment in which NumPy starts without AVX-512."""
    inner: Any = importlib.import_module("numpy._core._multiarray_umath")  # no public name for them
    features, dispatched = inner.__cpu_features__, inner.__cpu_dispatch__
    names = [name for name in dispatched if features[name] and (name.startswith("AVX512") or name == "X86_V4")]
    return {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(names)}


def main() -> None:
    if sys.argv[1:] == ["--sort"]:
        print(sort_ns())
        return
    warnings.simplefilter("ignore")  # SciPy and Evidently warn of p-values and dtypes
    measure(with_evidently="--without-evidently" not in sys.argv)
    if "NPY_DISABLE_CPU_FEATURES" in os.environ:
        return
    again = [sys.executable, "-m", "benchmarks.compare"]
    other = subprocess.run([*again, "--sort"], env=without_avx512(), capture_output=True, text=True, check=True)
    if float(other.stdout) < 0.7 * sort_ns():
        print(f"\nthe same with NPY_DISABLE_CPU_FEATURES={without_avx512()['NPY_DISABLE_CPU_FEATURES']!r}, all sides")
        subprocess.run([*again, *sys.argv[1:]], env=without_avx512(), check=True)


if __name__ == "__main__":
    main()
