"""How far statistics of counts on 256 cells lie from the exact ones on the rows.

    python -m benchmarks.grid

For every shape of column the largest error over changes of 0, 0.02, 0.1 and 0.5 standard deviations, 100,000 reference
rows and 50,000 in the window. KS in parts of its 5 % critical value for these sizes, Wasserstein in standard deviations
of the reference, both against SciPy; PSI and JS against the shares between the reference's deciles, by a search.
A change moves every value, also those of columns that hold whole numbers, which then all lie between their cells: the
worst there is for Wasserstein.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon

from detectors import REGISTRY, Bins, Pair, Profile

N_REFERENCE, N_CURRENT = 100_000, 50_000
CHANGES = (0.0, 0.02, 0.1, 0.5)
CRITICAL = 1.3581 * (1 / N_REFERENCE + 1 / N_CURRENT) ** 0.5
GOALS = (0.05, 1e-9, 1e-9, 0.005)
Floats = NDArray[np.float64]


def shapes(rng: np.random.Generator, n: int) -> dict[str, Floats]:
    x = rng.normal(size=n)
    return {
        "normal": x,
        "lognormal": np.exp(x),
        "uniform": rng.random(n),
        "Student's t, 3 degrees": rng.standard_t(3, n),
        "two humps": np.where(rng.random(n) < 0.3, x - 4, x),
        "Poisson, mean 3": rng.poisson(3, n).astype(float),
        "rounded to tenths": x.round(1),
        "half of all at zero": np.where(rng.random(n) < 0.5, 0.0, x),
        "1e9 and more, by steps of 1": 1e9 + np.round(x),
        "denormals": x * 1e-310,
        "constant": np.full(n, 7.0),
    }


def counted(bins: Bins, values: Floats) -> Profile:
    numbers = values[None]
    return Profile.of(bins, numbers, bins.cells(numbers, np.empty((0, values.size), np.uint8)))


def shares(values: Floats, borders: Floats) -> Floats:
    inside = np.searchsorted(borders[:-1], values)
    return np.bincount(inside, minlength=borders.size) / values.size


def errors(reference: Floats, current: Floats) -> tuple[float, float, float, float]:
    """Errors of KS in critical values, PSI, JS and Wasserstein in standard deviations."""
    bins = Bins.of({"x": reference}, {})
    pair = Pair(counted(bins, reference), counted(bins, current))
    found = {name: float(REGISTRY[name].score(pair).statistic[0]) for name in ("ks", "psi", "js", "wasserstein")}
    groups = [shares(values, bins.numeric[0].deciles) * values.size for values in (reference, current)]
    filled = (groups[0] + groups[1]) > 0
    # PSI as driftd defines it: half a row more on both sides for every group that is not empty.
    p, q = ((counts[filled] + 0.5) / (counts[filled] + 0.5).sum() for counts in groups)
    js = float(jensenshannon(groups[0], groups[1], base=2)) if filled.sum() > 1 else 0.0
    return (
        abs(found["ks"] - float(stats.ks_2samp(reference, current, method="asymp").statistic)) / CRITICAL,
        abs(found["psi"] - float(((q - p) * np.log(q / p)).sum())),
        abs(found["js"] - js),
        abs(found["wasserstein"] - float(stats.wasserstein_distance(reference, current))) / (reference.std() or 1.0),
    )


def main() -> None:
    print(f"{'largest error':28} {'KS':>10} {'PSI':>10} {'JS':>10} {'Wasserstein':>12}")
    worst = np.zeros(4)
    reference = shapes(np.random.default_rng(1), N_REFERENCE)
    current = shapes(np.random.default_rng(2), N_CURRENT)
    for name, normal in reference.items():
        scale = normal.std()
        found = np.array([errors(normal, current[name] + change * scale) for change in CHANGES]).max(axis=0)
        worst = np.maximum(worst, found)
        print(f"{name:28} {found[0]:9.2%} {found[1]:10.1e} {found[2]:10.1e} {found[3]:12.1e}", flush=True)
    for name, found, goal in zip(("KS", "PSI", "JS", "Wasserstein"), worst, GOALS, strict=True):
        print(f"{name}: {found:.2e}, goal <= {goal:g}  {'met' if found <= goal else 'MISSED'}")


if __name__ == "__main__":
    main()
