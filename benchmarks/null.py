"""False alarms of streams in which nothing drifts: the budget's own, and those of rules in use elsewhere.

    python -m benchmarks.null [--weeks 200] [--condition iid] [--workers 2] [--others] [--peers FOLDER]
      [--package evidently] [--hours 24]

50 columns in hourly windows, a budget of one alarm a week. A run learns a reference and watches 8 weeks after it; 25
runs make 200 weeks. Printed are pages (windows that tell something new) and alarms of columns a week, with a 95 %
interval from the scatter between runs, which is wider than Poisson's where runs differ.

--others adds rules on the same counts and cells, against the whole reference; what is counted are columns' runs of
flags. --peers asks the packages themselves, at their own defaults, on rows drawn from the counts of a day, or of other
--hours, after a week of reference; each is installed into an environment of its own in FOLDER. Where one cannot be had,
its reason is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from benchmarks import _peers
from benchmarks.streams import N_COLUMNS, N_NUMBERS, VALUE_CELLS, WEEK, Condition, Line, Stream, simulate, watch

WEEKS = 8
TOGETHER = 5
"""Streams that are watched side by side: more of them save time and take memory."""
C = Condition
CONDITIONS = (
    C("iid", season=0, wobble=(0, 0), traffic=0),
    C("daily cycle, n=200", rows=200),
    C("daily cycle, n=2,000"),
    C("daily cycle, n=20,000", rows=20_000),
    C("heavy tails", heavy=True),
    C("weekend effect", weekend=0.2),
    C("rho .95", rho=0.95),
    C("nightly batch", batch=0.5),
    C("spike windows", spikes=0.5),
    C("traffic x5", jump=5),
    C("traffic x20", jump=20),
    C("traffic x0.05", jump=0.05),
    C("1 week of reference", weeks=1),
    C("2 weeks of reference", weeks=2),
    C("no time, iid", is_timed=False, season=0, wobble=(0, 0), traffic=0),
    C("no time, wobble .02-.08", is_timed=False, season=0),
    C("no time, wobble .2/.95", is_timed=False, season=0, wobble=(0.2, 0.2), rho=0.95, rows=1000),
    C("joint, iid", joint=True, season=0, wobble=(0, 0), traffic=0),
    C("joint, daily cycle", joint=True),
    C("random walk", walk=0.004),
)
HARD = {"no time, wobble .2/.95", "random walk"}
PEER_CONDITIONS = ("iid", "daily cycle, n=200", "daily cycle, n=2,000")
GOAL, GOAL_MEAN, GOAL_HARD = 1.5, 1.0, 3.0


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one stream. columns: pages of each column; others: episodes a week, by rule."""

    pages: int
    alarms: int
    columns: np.ndarray
    raised: float
    off: int
    others: Mapping[str, float]


def several(condition: Condition, others: bool, seeds: Sequence[int]) -> list[Run]:
    """Some streams, watched side by side."""
    lines, found = [], []
    for seed in seeds:
        stream = simulate(condition, WEEKS * WEEK, seed)
        lines.append(Line(stream))
        found.append(elsewhere(stream) if others else {})
    return [
        Run(
            int(watched.pages.sum()), int(watched.alarms.sum()), watched.opened.sum(axis=0),
            float(np.exp(line.calibration.ln_factor)), len(line.calibration.off), elsewhere_too,
        )
        for line, watched, elsewhere_too in zip(lines, watch(lines), found, strict=True)
    ]  # fmt: skip


def peers(folder: Path, packages: Sequence[str], hours: int, asked: Callable[[Condition], bool]) -> None:
    """What other packages flag by their own defaults, in columns' runs of flags a week."""
    print(f"{hours} hourly windows of {N_COLUMNS} columns per condition, after a week of reference")
    print(f"{'package, at its defaults':26} {'condition':22} {'flags a week':>12} {'flagged':>8}")
    for condition in (each for each in CONDITIONS if each.name in PEER_CONDITIONS and asked(each)):
        stream = simulate(replace(condition, weeks=1), hours, 1000)
        rows = _peers.rows_of(stream.reference.sum(axis=1), stream.live.sum(axis=1), N_NUMBERS, 1000)
        for package in packages:
            flags = _peers.flags(package, folder, rows)
            told = flags
            if not isinstance(flags, str):
                told = f"{_episodes(flags) * WEEK / len(flags):12,.0f} {flags.mean():8.1%}"
            print(f"{package:26} {condition.name:22} {told}", flush=True)
    print('"flagged": of all columns in all windows')


def elsewhere(stream: Stream) -> dict[str, float]:
    """Runs of flags a week, over all columns."""
    reference = stream.reference.sum(axis=(0, 1))
    windows, own = stream.live.sum(axis=1), stream.reference.sum(axis=1)
    p_value = _p_values(reference, windows)
    ordered = np.sort(p_value, axis=1)
    limit = 0.05 * np.arange(1, N_COLUMNS + 1) / N_COLUMNS
    reached = (ordered <= limit) * limit
    js, js_own = _js(reference, windows), _js(reference, own)
    flags = {
        "KS/chi2 p < .05": p_value < 0.05,
        "Bonferroni": p_value < 0.05 / N_COLUMNS,
        "BH": p_value <= reached.max(axis=1, keepdims=True),
        "PSI > .2": _psi(reference, windows) > 0.2,
        "W1/JS > .1 (Evidently)": _wasserstein_or_js(reference, windows, js) > 0.1,
        "JS > mean + 3 sd (NannyML)": js > js_own.mean(axis=0) + 3 * js_own.std(axis=0),
    }
    weeks = len(windows) / WEEK
    return {name: _episodes(flag) / weeks for name, flag in flags.items()}


def _episodes(flags: np.ndarray) -> int:
    """Columns' runs of flags."""
    return int((flags & ~np.vstack((np.zeros_like(flags[:1]), flags[:-1]))).sum())


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)


def _p_values(reference: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Kolmogorov-Smirnov for numbers, chi-squared for words, shape (windows, columns)."""
    n, m = reference.sum(axis=-1), windows.sum(axis=-1)
    gap = np.abs(_shares(reference).cumsum(axis=-1) - _shares(windows).cumsum(axis=-1)).max(axis=-1)
    root = np.sqrt(n * m / np.maximum(n + m, 1))
    p_value = special.kolmogorov(root * gap)
    both = reference + windows
    expected = both * (m / (n + m))[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = np.where(
            both > 0, (windows - expected) ** 2 / expected + (expected - windows) ** 2 / (both - expected), 0
        )
    used = (both > 0).sum(axis=-1) - 1
    p_value[:, N_NUMBERS:] = special.chdtrc(used, terms.sum(axis=-1))[:, N_NUMBERS:]
    return p_value


def _psi(reference: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """On ten quantile cells of numbers and on the words, empty cells as a ten-thousandth."""
    p, q = (_coarse(_shares(side)) for side in (reference, windows))
    p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    return np.where((p > 1e-4) | (q > 1e-4), (q - p) * np.log(q / p), 0).sum(axis=-1)


def _coarse(share: np.ndarray) -> np.ndarray:
    numbers = share[..., :N_NUMBERS, VALUE_CELLS]
    tenth = np.arange(numbers.shape[-1]) * 10 // numbers.shape[-1]
    found = np.zeros((*share.shape[:-1], share.shape[-1]))
    found[..., N_NUMBERS:, :] = share[..., N_NUMBERS:, :]
    for cell in range(10):
        found[..., :N_NUMBERS, cell] = numbers[..., tenth == cell].sum(axis=-1)
    return found


def _js(reference: np.ndarray, windows: np.ndarray) -> np.ndarray:
    p, q = _shares(reference), _shares(windows)
    middle = (p + q) / 2
    entropy = sum(special.rel_entr(side, middle).sum(axis=-1) for side in (p, q))
    return np.sqrt(np.maximum(entropy, 0) / 2 / np.log(2))


def _wasserstein_or_js(reference: np.ndarray, windows: np.ndarray, js: np.ndarray) -> np.ndarray:
    values = special.ndtri((np.arange(VALUE_CELLS.stop - 1) + 0.5) / (VALUE_CELLS.stop - 1))
    gap = np.abs(_shares(reference).cumsum(axis=-1) - _shares(windows).cumsum(axis=-1))[..., VALUE_CELLS][..., :-1]
    found = js.copy()
    found[:, :N_NUMBERS] = (gap * np.diff(values)).sum(axis=-1)[:, :N_NUMBERS]
    return found


def interval(counts: np.ndarray) -> tuple[float, float]:
    """A 95 % interval of the mean count: by the scatter between runs, and no narrower than Poisson's."""
    mean, total = counts.mean(), counts.sum()
    wide = 1.96 * counts.std(ddof=1) / np.sqrt(counts.size) if counts.size > 1 else 0.0
    low = special.gammaincinv(total, 0.025) / counts.size if total else 0.0
    high = special.gammaincinv(total + 1, 0.975) / counts.size
    return max(min(low, mean - wide), 0.0), max(high, mean + wide)


def measured(condition: Condition, runs: int, ask: Callable[..., Any], others: bool) -> float:
    """One line of the table; returns pages a week."""
    seeds = range(1000, 1000 + runs)
    parts = [seeds[i : i + TOGETHER] for i in range(0, runs, TOGETHER)]
    found: list[Run] = [run for part in ask(partial(several, condition, others), parts) for run in part]
    pages = np.array([run.pages for run in found]) / WEEKS
    alarms = np.array([run.alarms for run in found]).mean() / WEEKS
    low, high = (edge / WEEKS for edge in interval(np.array([run.pages for run in found])))
    most = max(float(run.columns.max()) for run in found) / (WEEKS / 4)
    goal = most <= GOAL_HARD if condition.name in HARD else pages.mean() <= GOAL
    rest = "".join(f" {np.mean([run.others[name] for run in found]):8.1f}" for name in found[0].others)
    print(
        f"{condition.name:26} {pages.mean():6.2f} ({low:.2f}-{high:.2f}) {alarms:7.2f} {most:6.1f} "
        f"{np.mean([run.raised for run in found]):6.2f} {np.mean([run.off for run in found]):5.1f} "
        f"{'ok' if goal else 'ABOVE':6}{rest}",
        flush=True,
    )
    return float(pages.mean())


def own(runs: int, workers: int, asked: Callable[[Condition], bool], others: bool) -> None:
    """The budget's table."""
    print(f"{runs * WEEKS} weeks per condition, budget 1 a week over {N_COLUMNS} columns")
    names = "".join(f" {name.split(' ')[0]:>8}" for name in ("KS", "Bonf.", "BH", "PSI", "Evid.", "NannyML"))
    print(
        f"{'condition':26} {'pages a week (95 %)':>19} {'alarms':>7} {'column':>6} {'raised':>6} {'off':>5} "
        f"{'goal':6}{names if others else ''}"
    )
    means = []
    with ProcessPoolExecutor(workers) as pool:
        for condition in filter(asked, CONDITIONS):
            mean = measured(condition, runs, pool.map, others)
            means += [] if condition.name in HARD else [mean]
    if means:
        good = "ok" if np.mean(means) <= GOAL_MEAN else "ABOVE"
        print(f"mean over conditions, the two hard ones apart: {np.mean(means):.2f} pages a week ({good})")
    print('"column": most pages of one column in 4 weeks; "raised": factor of the bar; "off": columns off paging')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weeks", type=int, default=200, help="of each condition, in streams of 8; 0: none")
    parser.add_argument("--condition", action="append", help="only these, by the beginning of their names")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--others", action="store_true", help="other rules too, on the same counts")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="other packages too; their environments lie there")
    parser.add_argument("--package", action="append", choices=tuple(_peers.PACKAGES), help="only these packages")
    parser.add_argument("--hours", type=int, default=24, help="windows that packages are asked about")
    options: Any = parser.parse_args()

    def asked(condition: Condition) -> bool:
        return not options.condition or any(condition.name.startswith(name) for name in options.condition)

    if options.weeks:
        own(-(-options.weeks // WEEKS), options.workers, asked, options.others)
    if options.peers:
        peers(options.peers, options.package or tuple(_peers.PACKAGES), options.hours, asked)


if __name__ == "__main__":
    main()
