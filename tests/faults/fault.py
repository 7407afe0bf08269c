"""What a fault is, and the list of all. Every file of the catalogue adds its own; no other list names them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faults.scene import Scene


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    run: drives a scene to its end and answers how often the fault really hit. kind: the file it stands in. quick: part
    of every test run. may_repeat: one of the documented cases in which a message may reach its receiver twice.
    settings: of the scene, before it is configured. needs: why it cannot be had on this machine, or "".
    """

    name: str
    kind: str
    run: Callable[[Scene], int]
    quick: bool
    may_repeat: bool
    settings: dict[str, Any]
    needs: Callable[[], str]

    @property
    def what(self) -> str:
        """One sentence about it."""
        return " ".join((self.run.__doc__ or "").split())


FAULTS: dict[str, Fault] = {}


def fault(
    *, quick: bool = False, may_repeat: bool = False, needs: Callable[[], str] = lambda: "", **settings: Any
) -> Callable[[Callable[[Scene], int]], Callable[[Scene], int]]:
    """Adds a function to the list; its name is the fault's, its docstring says what happens."""

    def add(run: Callable[[Scene], int]) -> Callable[[Scene], int]:
        name, kind = run.__name__.replace("_", " "), run.__module__.rpartition(".")[2]
        assert name not in FAULTS, f"two faults are called {name}"
        FAULTS[name] = Fault(name, kind, run, quick, may_repeat, settings, needs)
        return run

    return add


def catalogue() -> dict[str, Fault]:
    """All faults by name."""
    package = importlib.import_module("faults.catalogue")
    for file in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{file.name}")
    return FAULTS
