"""What suits this machine: settings that must stand in the environment before driftd starts, each tried against none.

A setting is taken when the work that it is about needs a tenth less CPU with it. The service reads what was found from
an environment file (see `EnvironmentFile=` in the unit).
"""

from __future__ import annotations

import ctypes
import gc
import os
import stat
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from detectors import Bins
from monitor.errors import SourceError

ENOUGH: Final = 0.9
"""CPU with a setting over CPU without it, at most, for it to be taken."""
PAIRS: Final = 5
COLLECT_AFTER: Final = 20_000
MEBIBYTE: Final = 1 << 20
M_ARENA_MAX: Final = -8
"""As in malloc.h."""

_MEMORY: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(256 * MEBIBYTE),
    "MALLOC_TRIM_THRESHOLD_": str(1024 * MEBIBYTE),
    "MALLOC_TOP_PAD_": str(64 * MEBIBYTE),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting and what came of it: CPU seconds of the same work without and with it."""

    name: str
    variables: Mapping[str, str]
    without: float
    with_it: float

    @property
    def taken(self) -> bool:
        return self.with_it <= ENOUGH * self.without


def settle() -> None:
    """For the start of a process that reads records.

    Cyclic garbage is looked for seldom, and never again among what is here now: views of records are many and no
    cycles; a fifth of the CPU goes to such searches otherwise. All threads take their memory from one arena: from those
    of their own GNU's C library gives little back.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Give the machine back what a burst has left free. The C library keeps it otherwise, and each larger burst adds.

    Nothing happens where the C library is not GNU's.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def trials() -> list[Trial]:
    """Try every setting that this machine has; takes some seconds."""
    settings = {"memory": _MEMORY}
    if wide := _wide_vectors():
        settings["vectors"] = {"NPY_DISABLE_CPU_FEATURES": " ".join(wide)}
    return [_try(name, variables) for name, variables in settings.items()]


def write(file: Path, found: Sequence[Trial]) -> None:
    """Put what was found into an environment file; its other variables stay. SourceError when it cannot be written."""
    ours = {key for trial in found for key in trial.variables}
    taken = {key: value for trial in found if trial.taken for key, value in trial.variables.items()}
    try:
        before = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        kept = [line for line in before if line.partition("=")[0].strip() not in ours]
        fresh = file.with_name(f".{file.name}.new")
        fresh.touch(mode=stat.S_IMODE(file.stat().st_mode) if file.exists() else 0o644)
        fresh.write_text("".join(f"{line}\n" for line in [*kept, *lines(taken)]), encoding="utf-8")
        fresh.replace(file)
    except OSError as error:
        raise SourceError(f"{file}: cannot be written: {error.strerror or error}") from error


def lines(variables: Mapping[str, str]) -> list[str]:
    """Variables as the lines of an environment file."""
    return [f'{key}="{value}"' for key, value in variables.items()]


def _wide_vectors() -> list[str]:
    """The AVX-512 features that NumPy has found here; sorting with them is slower than without on some processors."""
    found = np.show_config(mode="dicts") or {}
    names = found.get("SIMD Extensions", {}).get("found", [])
    return [name for name in names if name.startswith(("AVX512", "X86_V4"))]


def _try(name: str, variables: Mapping[str, str]) -> Trial:
    plain = {key: value for key, value in os.environ.items() if key not in variables}
    taken: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(PAIRS):
        for setting in (False, True):
            taken[setting].append(_in_a_child(name, {**plain, **(variables if setting else {})}))
    return Trial(name, variables, statistics.median(taken[False]), statistics.median(taken[True]))


def _in_a_child(name: str, environment: Mapping[str, str]) -> float:
    command = [sys.executable, "-m", __name__, name]
    # Ourselves, without a shell.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    return float(done.stdout)


def _move_memory() -> None:
    """What becomes of the bytes of a fetch on their way to the decoder: copies of a mebibyte, a few kept at a time."""
    kept: list[bytes] = []
    for _ in range(200):
        whole = bytearray(MEBIBYTE)
        whole[:] = b"".join([bytes(MEBIBYTE // 4)] * 4)
        kept = [*kept[-3:], bytes(whole)]


def _count_numbers() -> None:
    """Sorting, as for exact statistics, and counting into cells."""
    values = np.random.default_rng(0).normal(size=(8, 50_000))
    bins = Bins.of({f"{i}": row[:5_000] for i, row in enumerate(values)}, {})
    for _ in range(3):
        np.sort(values, axis=1)
        bins.cells(values, np.empty((0, values.shape[1]), np.uint8))


WORK: Final[Mapping[str, Callable[[], None]]] = {"memory": _move_memory, "vectors": _count_numbers}


def _cpu_seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    sys.stdout.write(f"{_cpu_seconds(WORK[sys.argv[1]])}\n")
