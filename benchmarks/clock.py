"""CPU time of a piece of work, and one line that says how it compares.

The least of several runs counts: a machine that is shared runs at half its speed for seconds at a time, and never
above it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def cpu_seconds(work: Callable[[], object], repeat: int = 7) -> float:
    """Least CPU seconds of this process, all its threads together, over so many runs."""

    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return min(once() for _ in range(repeat))


def in_turn(works: Mapping[Key, Callable[[], float]], rounds: int = 9) -> dict[Key, float]:
    """The least that each work says of itself over so many rounds, in which all of them have their turn."""
    taken = [{key: work() for key, work in works.items()} for _ in range(rounds)]
    return {key: min(found[key] for found in taken) for key in works}


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
