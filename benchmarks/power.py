"""How soon the budget's decision finds a change, and what the best single-window threshold would find.

    python -m benchmarks.power [--runs 2] [--change "0.2 sd"]

50 columns in hourly windows, a budget of one alarm a week; the change begins in the second day after the reference, at
another hour in every run, and lasts. Printed are the median delay in windows and in rows, and the shares found within
24 and 168 windows. Beside them stand two single-window statistics whose threshold was set with hindsight, on a week of
the same condition in which nothing changes, so that it rings once a week: nobody can know that threshold.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.null import _episodes, _js, _psi
from benchmarks.streams import N_COLUMNS, N_NUMBERS, N_PAIRED, TOGETHER, WEEK, Change, Condition, Line, simulate, watch

BEGINS, AFTER = 24, WEEK
SEASON = Condition("season, 4 weeks timed")
JOINTLY = replace(SEASON, name="... joint", joint=True)
ENTWINED = replace(JOINTLY, entwined=0.4)
CALM = Condition("no season, 4 weeks timed", season=0)
BARE = Condition("no time, quiet, n=1,000", is_timed=False, season=0, wobble=(0, 0), traffic=0, rows=1000)
SMALL = Condition("no time, quiet, n=200", is_timed=False, season=0, wobble=(0, 0), traffic=0, rows=200)


@dataclass(frozen=True, slots=True)
class Question:
    """A change in a stream, and what is asked of it: median, and shares within 24 and 168 windows; None: no goal."""

    condition: Condition
    change: Change
    words: str
    median: float | None = None
    within: float | None = None
    always: float | None = None


QUESTIONS = (
    Question(SEASON, Change("level", 0.1), "0.1 sd in 10"),
    Question(SEASON, Change("level", 0.15), "0.15 sd in 10"),
    Question(SEASON, Change("level", 0.2), "0.2 sd in 10", median=6),
    Question(SEASON, Change("level", 0.2, 1), "0.2 sd in 1", median=6),
    Question(SEASON, Change("level", 0.3), "0.3 sd in 10"),
    Question(SEASON, Change("level", 0.5), "0.5 sd in 10", median=2),
    Question(SEASON, Change("level", 0.5, 1), "0.5 sd in 1", median=2),
    Question(SEASON, Change("level", 0.5, ramp=168), "ramp to 0.5 sd in a week", always=1.0),
    Question(SEASON, Change("new", 0.001), "new category, 0.1 %", median=3),
    Question(SEASON, Change("new", 0.01), "new category, 1 %", median=3),
    Question(SEASON, Change("spread", 0.2), "spread up by a fifth"),
    Question(SEASON, Change("shape", 0.2), "shape alone, 0.2"),
    Question(SEASON, Change("missing", 0.02), "2 % missing"),
    Question(SEASON, Change("level", 0.5, lasts=1), "0.5 sd for one window"),
    Question(SEASON, Change("correlation", 0.2, TOGETHER.size), "correlation only, 0.2 z"),
    Question(SEASON, Change("correlation", 0.3, TOGETHER.size), "correlation only, 0.3 z"),
    Question(ENTWINED, Change("joint", -0.2, 1), "three columns come apart"),
    Question(JOINTLY, Change("joint", 0.4, 1), "three columns come together"),
    Question(CALM, Change("level", 0.2), "0.2 sd in 10", median=6),
    Question(BARE, Change("level", 0.2), "0.2 sd in 10", median=3),
    Question(BARE, Change("level", 0.3), "0.3 sd in 10"),
    Question(BARE, Change("correlation", 0.2, TOGETHER.size), "correlation only, 0.2 z"),
    Question(BARE, Change("correlation", 0.3, TOGETHER.size), "correlation only, 0.3 z"),
    Question(BARE, Change("level", 0.5, ramp=168), "ramp to 0.5 sd in a week", always=1.0),
    Question(SMALL, Change("level", 0.2), "0.2 sd in 10", within=0.9),
)


def moved(change: Change) -> np.ndarray:
    """The columns, or pairs of columns, that change."""
    if change.kind == "correlation":
        first, second = np.triu_indices(N_PAIRED, 1)
        return N_COLUMNS + np.flatnonzero((first % 2 == 0) & (second == first + 1))[: change.n_columns]
    if change.kind == "joint":
        return np.array([N_COLUMNS + N_PAIRED * (N_PAIRED - 1) // 2])
    first_column = N_NUMBERS if change.kind in {"new", "words"} else 0
    return first_column + np.arange(change.n_columns)


def one(question: Question, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Delays of the changed columns in windows, 1 for the very first, inf for never, and in rows; by other statistics.

    The change begins at another hour of the day in every run, since there are more rows in some.
    """
    question = replace(question, change=replace(question.change, begins=BEGINS + seed * 7 % 24))
    stream = simulate(question.condition, question.change.begins + AFTER, seed, question.change)
    alarms = watch([Line(stream)])[0].alarms
    own = _delays(alarms, question.change)
    passed = np.append(stream.live[question.change.begins :, :, 0].sum(axis=(1, 2)).cumsum(), np.inf)
    in_rows = passed[np.where(np.isfinite(own), own - 1, passed.size - 1).astype(int)]
    reference = stream.reference.sum(axis=(0, 1))
    windows = stream.live.sum(axis=1)
    calm = simulate(question.condition, WEEK, seed).live.sum(axis=1)
    others = {
        name: _delays(_widened(score(reference, windows) > _oracle(score(reference, calm))), question.change)
        for name, score in (("JS", _js), ("PSI", _psi))
    }
    return own, in_rows, others


def _widened(flags: np.ndarray) -> np.ndarray:
    """Of single columns: a pair is found when one of its columns is, the joint distribution when any is."""
    members = np.stack(np.triu_indices(N_PAIRED, 1))
    return np.concatenate((flags, flags[:, members].any(axis=1), flags.any(axis=1, keepdims=True)), axis=1)


def _delays(alarms: np.ndarray, change: Change) -> np.ndarray:
    after = alarms[change.begins :, moved(change)]
    return np.where(after.any(axis=0), after.argmax(axis=0) + 1.0, np.inf)


def _oracle(scores: np.ndarray) -> float:
    """The lowest threshold with about one run of flags a week in these windows."""
    allowed = max(len(scores) / WEEK, 1)
    for threshold in np.sort(scores, axis=None)[::-1][:400]:
        if _episodes(scores > threshold) > allowed:
            return float(threshold)
    return float(scores.max())


def words(delays: np.ndarray) -> str:
    """Median, and shares within 24 and 168 windows."""
    middle = np.median(delays)
    shown = "-" if np.isinf(middle) else f"{middle:.0f}"
    return f"{shown:>5} {np.mean(delays <= 24):4.0%} {np.mean(delays <= 168):4.0%}"


def good(question: Question, delays: np.ndarray) -> str:
    """Whether the goal is met, if there is one."""
    met = [
        question.median is None or np.median(delays) <= question.median,
        question.within is None or np.mean(delays <= 24) >= question.within,
        question.always is None or np.mean(np.isfinite(delays)) >= question.always,
    ]
    asked = (question.median, question.within, question.always) != (None, None, None)
    return ("ok" if all(met) else "MISSED") if asked else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2, help="streams per change; 10 for the table in the documentation")
    parser.add_argument("--change", action="append", help="only these, by the beginning of their words")
    parser.add_argument("--workers", type=int, default=2)
    options: Any = parser.parse_args()
    print("median delay in windows, found within 24 and 168 windows; rows: median delay in rows")
    print(
        f"{'stream':26} {'change':26} {'ours':>15} {'rows':>8} {'goal':7} {'JS, hindsight':>15} {'PSI, hindsight':>15}"
    )
    with ProcessPoolExecutor(options.workers) as pool:
        for question in QUESTIONS:
            if options.change and not any(question.words.startswith(name) for name in options.change):
                continue
            found = list(pool.map(partial(one, question), range(5000, 5000 + options.runs)))
            own = np.concatenate([delays for delays, _, _ in found])
            rest = "".join(f" {words(np.concatenate([o[name] for _, _, o in found])):>15}" for name in ("JS", "PSI"))
            rows = np.median(np.concatenate([in_rows for _, in_rows, _ in found]))
            print(
                f"{question.condition.name:26} {question.words:26} {words(own):>15} "
                f"{'-' if np.isinf(rows) else f'{rows:,.0f}':>8} {good(question, own):7}{rest}",
                flush=True,
            )


if __name__ == "__main__":
    main()
