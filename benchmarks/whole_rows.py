"""False alarms and power of the classifier of whole rows, on rows that are drawn one by one.

    python -m benchmarks.whole_rows [--weeks 32] [--condition heavy] [--change three] [--workers 2]

Eight columns of numbers, two of them correlated, in hourly windows of about 600 rows, of which 300 are shown. A run
learns from four weeks and watches eight; the classifier has the whole budget of one alarm a week for itself, which is
many times what it has among columns. Printed are its pages a week, with a 95 % interval; for changes the median delay
in windows and the share found within 24 and 168 windows, and how often a column or a correlation rang instead.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from benchmarks.null import interval
from benchmarks.streams import WEEK
from detectors import Bins, Profile
from detectors.blocks import Rows, cut_by_rows, cut_by_time
from detectors.calibration import Allowance, Calibration, Material, calibrate
from detectors.correlation import watched
from detectors.domain import Classifier
from detectors.season import HOUR_MS, MONDAY_MS, Season
from detectors.signals import Reading, Signals
from detectors.vigil import Sight, Vigil

N_COLUMNS: Final = 8
N_SHOWN: Final = 300
N_TAUGHT: Final = 1_000
WEEKS: Final = 8
BEGINS: Final = 24
OTHERS: Final = 1e-6
"""What all columns and correlations together have of the budget, so that they ring for nothing but a real change."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What windows are like while nothing drifts: as in `benchmarks.streams`, but for the rows. change, size: what
    happens from the 25th hour on."""

    name: str
    season: float = 0.3
    wobble: tuple[float, float] = (0.02, 0.08)
    rho: float = 0.7
    heavy: bool = False
    spikes: float = 0.0
    jump: float = 1.0
    weeks: int = 4
    is_timed: bool = True
    n_rows: int = 600
    change: str = ""
    size: float = 0.0


C = Condition
CALM = (
    C("independent rows", season=0, wobble=(0, 0)),
    C("daily cycle, wobble"),
    C("heavy tails", heavy=True),
    C("spike windows", spikes=0.5),
    C("rho .95", rho=0.95),
    C("wobble .1-.2, rho .95", wobble=(0.1, 0.2), rho=0.95),
    C("traffic x5", jump=5),
    C("1 week of reference", weeks=1),
    C("2 weeks of reference", weeks=2),
    C("no time, independent rows", season=0, wobble=(0, 0), is_timed=False, n_rows=1_000),
    C("no time, wobble .02-.08", season=0, is_timed=False, n_rows=1_000),
)
CHANGES = (
    C("three columns go together, 40 %", change="three", size=0.4),
    C("three columns go together, 20 %", change="three", size=0.2),
    C("two as far from the middle, 30 %", change="far", size=0.3),
    C("two as far from the middle, 15 %", change="far", size=0.15),
    C("all columns by 0.1 sd", change="all", size=0.1),
    C("all columns by 0.15 sd", change="all", size=0.15),
)


def latent(condition: Condition, rng: np.random.Generator, hours: int) -> np.ndarray:
    """The shift of every column at every hour, shape (hours, columns)."""
    hour = np.arange(hours)[:, None]
    amplitude, phase = rng.uniform(0, condition.season, N_COLUMNS), rng.uniform(0, 24, N_COLUMNS)
    shift = amplitude * np.sin(2 * np.pi * (hour - phase) / 24)
    shape = (hours, N_COLUMNS + 1)
    shocks = rng.standard_t(4, shape) / np.sqrt(2) if condition.heavy else rng.standard_normal(shape)
    wobble = np.empty(shape)
    wobble[0] = shocks[0]
    for t in range(1, hours):
        wobble[t] = condition.rho * wobble[t - 1] + np.sqrt(1 - condition.rho**2) * shocks[t]
    shared = wobble[:, -1:] * rng.choice([-1, 1], N_COLUMNS)
    shift += (np.sqrt(0.7) * wobble[:, :-1] + np.sqrt(0.3) * shared) * rng.uniform(*condition.wobble, N_COLUMNS)
    struck = rng.random((hours, N_COLUMNS)) < 0.01
    return np.asarray(shift + struck * rng.choice([-1, 1], (hours, N_COLUMNS)) * condition.spikes)


def drawn(condition: Condition, rng: np.random.Generator, shift: np.ndarray, n_rows: int, size: float) -> np.ndarray:
    """Rows of one window, shape (columns, rows). size: of the change by now."""
    x = rng.standard_normal((N_COLUMNS, n_rows))
    x[1] = (x[0] + np.sqrt(3) * x[1]) / 2
    mine = rng.random(n_rows) < size
    if condition.change == "three":
        x[4, mine] = (np.abs(x[4]) * np.sign(x[2] * x[3]))[mine]
    if condition.change == "far":
        x[3, mine] = (np.sign(x[3]) * np.abs(x[2]))[mine]
    if condition.change == "all":
        x += size
    return np.asarray(x + shift[:, None])


class Line:
    """A stream and a watch that was learnt from its beginning."""

    def __init__(self, condition: Condition, seed: int) -> None:
        self._condition, self._rng = condition, np.random.default_rng(seed)
        self._first = condition.weeks * WEEK
        self._shift = latent(condition, self._rng, self._first + WEEKS * WEEK)
        n_rows = self._rng.poisson(self._traffic(np.arange(self._first)))
        if not condition.is_timed:
            n_rows = np.array([20_000])
        shifts = self._shift if condition.is_timed else np.zeros((1, N_COLUMNS))
        numbers = np.concatenate(
            [drawn(condition, self._rng, *each, 0.0) for each in zip(shifts, n_rows.tolist(), strict=False)], axis=1
        )
        self._learn(numbers, np.repeat(MONDAY_MS + np.arange(n_rows.size) * HOUR_MS, n_rows))

    def _learn(self, numbers: np.ndarray, times: np.ndarray) -> None:
        n_all, timed = numbers.shape[1], self._condition.is_timed
        bins = Bins.of({f"x{i}": row for i, row in enumerate(numbers)}, {})
        cells = bins.cells(numbers, np.zeros((0, n_all), np.uint8))
        pairs = watched(Profile.of(bins, numbers, cells), cells, np.ones(N_COLUMNS), N_COLUMNS, joint=False)
        self.bins = replace(bins, pairs=replace(pairs, n_shown=N_SHOWN))
        profile = Profile.of(self.bins, numbers, cells)
        order = self._rng.permutation(n_all)
        self.classifier = Classifier.of(profile, cells[:, np.argsort(order)[:N_TAUGHT]])
        self.signals = Signals.of(profile, self._condition.n_rows)
        rows = Rows(numbers, cells, times, np.ones(n_all, np.bool_), order, self.classifier)
        cut = cut_by_time(self.signals, rows, HOUR_MS) if timed else cut_by_rows(self.signals, rows, N_TAUGHT)
        self.classifier = replace(self.classifier, steadiness=cut.steadiness)
        whole = replace(self.signals.read(profile), told=cut.windows.told.sum(axis=0))
        variance = self.signals.row_variance(profile)
        shares = np.full(self.signals.n_columns, OTHERS / self.signals.n_columns)
        shares[-1] = 1.0
        self.allowance = Allowance(1.0, float(WEEK), shares)
        material = Material(self.signals, whole, variance, cut, HOUR_MS * timed)
        self.calibration: Calibration = calibrate(material, self.allowance)

    def _traffic(self, hour: np.ndarray) -> np.ndarray:
        return np.asarray(self._condition.n_rows * (1 + 0.5 * np.sin(2 * np.pi * (hour - 9) / 24)))

    def watch(self) -> tuple[np.ndarray, np.ndarray]:
        """What opened, and what alarmed, shape (windows, columns)."""
        null, terms = self.calibration.null, self.calibration.terms(self.allowance)
        vigil, opened, alarms = Vigil.begin(self.signals, null, terms), [], []
        hours = self._first + np.arange(WEEKS * WEEK)
        season = Season.of(HOUR_MS).cells(MONDAY_MS + hours * HOUR_MS) if len(null.season) > 1 else 0 * hours
        n_rows = self._rng.poisson(self._traffic(hours) * self._condition.jump)
        for hour, (shift, n, cell) in enumerate(zip(self._shift[self._first :], n_rows, season, strict=True)):
            size = self._condition.size if hour >= BEGINS else 0.0
            window = drawn(self._condition, self._rng, shift, int(n), size)
            vigil, seen = vigil.after(self.signals, null, terms, Sight(self._read(window), 0.0, int(cell)))
            opened.append(seen.opened)
            alarms.append(seen.alarm.loud)
        return np.array(opened), np.array(alarms)

    def _read(self, window: np.ndarray) -> Reading:
        n = window.shape[1]
        cells = self.bins.cells(window, np.zeros((0, n), np.uint8))
        found = self.signals.read_rows(cells, np.arange(n) * 2 // n, 2)
        told = self.classifier.tell(cells[:, :N_SHOWN]) if n >= N_SHOWN else None
        if told is not None:
            found.told[-1] = told.reading
        return found


@dataclass(frozen=True, slots=True)
class Run:
    """pages: of the classifier; others: of columns and correlations. delay: windows until its first alarm after the
    change, infinite where there is none. raised: of the bar; off: whether it went off paging."""

    pages: int
    others: int
    delay: float
    raised: float
    off: bool


def one(condition: Condition, seed: int) -> Run:
    line = Line(condition, seed)
    opened, alarms = line.watch()
    after = np.flatnonzero(alarms[BEGINS:, -1])
    calibration = line.calibration
    return Run(
        int(opened[:, -1].sum()), int(opened[:, :-1].any(axis=1).sum()), float(after[0] + 1) if after.size else np.inf,
        float(np.exp(calibration.ln_factor)), line.signals.n_columns - 1 in calibration.off,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=32)
    parser.add_argument("--condition", nargs="*", help="beginnings of names")
    parser.add_argument("--change", nargs="*", help="beginnings of names")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    runs, everything = max(options.weeks // WEEKS, 2), options.condition is None and options.change is None

    def asked(condition: Condition, names: list[str] | None) -> bool:
        return everything or any(condition.name.startswith(name) for name in names or ())

    with ProcessPoolExecutor(options.workers) as pool:
        print(f"{'nothing changes':34} {'weeks':>5} {'pages a week (95 %)':>22} {'raised':>7} {'off':>4}")
        for condition in (each for each in CALM if asked(each, options.condition)):
            found = list(pool.map(partial(one, condition), range(1000, 1000 + runs)))
            pages = np.array([run.pages for run in found])
            low, high = (edge / WEEKS for edge in interval(pages))
            told = f"{pages.mean() / WEEKS:.2f} ({low:.2f}-{high:.2f})"
            raised, off = np.mean([run.raised for run in found]), sum(run.off for run in found)
            print(f"{condition.name:34} {runs * WEEKS:5} {told:>22} {raised:7.1f} {off:4}", flush=True)
        print(f"{'from the 25th window on':34} {'runs':>5} {'windows':>8} {'24':>6} {'168':>6} {'others':>7}")
        for condition in (each for each in CHANGES if asked(each, options.change)):
            found = list(pool.map(partial(one, condition), range(2000, 2000 + runs)))
            delay = np.array([run.delay for run in found])
            middle = f"{np.median(delay):.0f}" if np.isfinite(np.median(delay)) else "-"
            shares = " ".join(f"{np.mean(delay <= limit):6.0%}" for limit in (24, 168))
            others = np.mean([run.others for run in found])
            print(f"{condition.name:34} {runs:5} {middle:>8} {shares} {others:7.1f}", flush=True)


if __name__ == "__main__":
    main()
