"""CPU time of the budget: a closed window's update, and learning and replaying a reference.

    python -m benchmarks.watch

The update is what one closed window costs once it is counted: evidence, filter, trail and alarms of all columns, for
windows of one pane and of four. Beside it stands what counting the window's rows costs, what the sums of joint scores
add to that, and what a classifier of 300 of the rows adds to a window. Four weeks of hourly windows of 50 columns are
what is calibrated.
"""

from __future__ import annotations

import numpy as np

from benchmarks.clock import cpu_seconds, within
from benchmarks.streams import Condition, Line, simulate
from detectors import Bins, Profile
from detectors.alarm import Terms
from detectors.calibration import Allowance
from detectors.cells import ABOVE, BELOW, FIRST
from detectors.domain import Classifier
from detectors.joint import choose
from detectors.null import prior
from detectors.profile import N_SUMS
from detectors.signals import Reading, Signals
from detectors.vigil import Sight, Vigil

N_ROWS = 2_000
FEWER = 1_000
GOALS = {FEWER: 1e-3, 10_000: 0.150}
N_WARM = 40


def main() -> None:
    print(f"{'CPU seconds':56} {'ours':>8} {'goal':>8}")
    for n_columns, goal in GOALS.items():
        for n_panes in (1, 4):
            seconds = update(n_columns, n_panes)
            within(f"a window of {n_columns:,} columns, {n_panes} panes", seconds, goal)
            if n_columns == FEWER:
                share = seconds / counting(n_columns)
                print(f"{f'... of what counting its {N_ROWS:,} rows costs':56} {share:8.1%}", flush=True)
    together = jointly(25)
    told = f"{together / N_ROWS * 1e6:.2f} us a row, {together / counting(25):.0%} of counting"
    print(f"{'joint scores of 25 columns':56} {told}", flush=True)
    for n_columns in (8, 25):
        print(f"{f'a classifier of whole rows of {n_columns} columns':56} {apart(n_columns) * 1e3:.1f} ms", flush=True)
    stream = simulate(Condition("four weeks"), 1, 0)
    line = Line(stream)
    from detectors.calibration import calibrate

    within("calibrate 50 columns, 672 windows", cpu_seconds(lambda: calibrate(line.material, line.allowance), 2), 5.0)


def counting(n_columns: int) -> float:
    """Seconds to find the cells of one window's rows, and to count them."""
    bins = Bins.of({f"x{i}": np.arange(250.0) for i in range(n_columns)}, {})
    numbers = np.random.default_rng(0).integers(0, 250, (n_columns, N_ROWS)).astype(np.float64)
    words = np.zeros((0, N_ROWS), np.uint8)
    return cpu_seconds(lambda: Profile.of(bins, numbers, bins.cells(numbers, words)), 9)


def jointly(n_columns: int) -> float:
    """Seconds for the sums of joint scores of one window's rows."""
    cells = np.random.default_rng(0).integers(FIRST, ABOVE, (n_columns, N_ROWS)).astype(np.uint8)
    share = np.full(ABOVE - BELOW + 1, 1 / (ABOVE - FIRST))
    share[[0, -1]] = 0
    joint = choose([share] * n_columns, n_columns, cells, BELOW)
    return cpu_seconds(lambda: joint.sums(cells), 9)


def apart(n_columns: int) -> float:
    """Seconds to tell 300 rows of a window from 1,000 of the reference."""
    numbers = np.random.default_rng(0).normal(size=(n_columns, N_ROWS))
    bins, words = Bins.of({f"x{i}": row for i, row in enumerate(numbers)}, {}), np.zeros((0, N_ROWS), np.uint8)
    cells = bins.cells(numbers, words)
    classifier = Classifier.of(Profile.of(bins, numbers, cells), cells[:, :1_000])
    return cpu_seconds(lambda: classifier.tell(cells[:, 1_000:1_300]), 9)


def update(n_columns: int, n_panes: int) -> float:
    """Seconds for one window of numeric columns."""
    values = np.arange(250.0)
    bins = Bins.of({f"x{i}": values for i in range(n_columns)}, {})
    counts = np.zeros((n_columns, 256), np.int64)
    counts[:, 3:253] = 400
    reference = Profile(bins, counts, np.zeros((n_columns, N_SUMS), np.int64))
    layout = Signals.of(reference, N_ROWS)
    null = prior(layout, layout.read(reference), layout.row_variance(reference), None)
    allowance = Allowance(1.0, 168.0, np.full(n_columns, 1 / n_columns))
    terms = Terms(allowance.ln_bar, 168.0, 1.0, 12.0, np.zeros(n_columns, np.bool_))
    rng = np.random.default_rng(0)
    window = np.zeros((n_panes, n_columns, 256), np.int64)
    window[:, :, 3:253] = rng.multinomial(N_ROWS // n_panes, np.full(250, 1 / 250), (n_panes, n_columns))
    reading: Reading = layout.read_counts(window)
    vigil = Vigil.begin(layout, null, terms)
    for _ in range(N_WARM):
        vigil, _ = vigil.after(layout, null, terms, Sight(reading))
    return cpu_seconds(lambda: vigil.after(layout, null, terms, Sight(reading)), repeat=max(20_000 // n_columns, 3))


if __name__ == "__main__":
    main()
