"""CPU time to judge one window from its profile with every detector there is.

    python -m benchmarks.score

50 numeric columns and 10 of words, 100,000 reference rows and 50,000 in the window. The other side is a scipy.stats
loop that reads the rows. The reference's profile is the same for every window, the window's is new each time.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from benchmarks.clock import cpu_seconds, line, within
from benchmarks.compare import N_CURRENT, N_REFERENCE, arrays, prepared, profile, scipy_all, table
from detectors import REGISTRY, Pair

GOAL_SECONDS, GOAL_RATIO = 2e-3, 1_000


def main() -> None:
    warnings.simplefilter("ignore")  # SciPy warns of p-values outside its tables
    reference, current = table(N_REFERENCE, 1, 0.0), table(N_CURRENT, 2, 0.05)
    _, bins, normal = prepared(*arrays(reference))
    numeric, words = arrays(current)
    window = profile(bins, [np.sort(x) for x in numeric], words)

    def score() -> None:
        pair = Pair(normal, replace(window))  # a profile keeps what was worked out of it
        for detector in REGISTRY.values():
            detector.score(pair)

    score()
    ours = cpu_seconds(score, repeat=300)
    print(f"{'CPU seconds':56} {'ours':>8} {'other':>8} {'ratio':>8} {'goal':>6}")
    name = f"score {bins.n_columns} columns with {len(REGISTRY)} detectors"
    within(name, ours, GOAL_SECONDS)
    line(f"{name}: scipy.stats on rows", ours, cpu_seconds(lambda: scipy_all(reference, current), 1), GOAL_RATIO)


if __name__ == "__main__":
    main()
