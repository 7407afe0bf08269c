"""CPU time of a piece of work, and one line that says how it compares."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def cpu_seconds(work: Callable[[], object], repeat: int = 5) -> float:
    """Median CPU seconds of this process, all its threads together, over so many runs."""
    taken = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def line(name: str, ours: float, other: float, goal: float) -> bool:
    """Print name, both times, how many times faster ours is, the goal, and whether it is met."""
    ratio = other / ours
    met = ratio >= goal
    print(f"{name:56} {ours:8.4f} {other:8.3f} {ratio:7.1f}x {goal:5.0f}x  {'met' if met else 'MISSED'}", flush=True)
    return met


def within(name: str, ours: float, goal: float) -> bool:
    """Print name, our time, the goal for it, and whether it is met."""
    met = ours <= goal
    print(f"{name:56} {ours:8.4f} {'':>8} {'':>8} {goal:5.3f}s  {'met' if met else 'MISSED'}", flush=True)
    return met
