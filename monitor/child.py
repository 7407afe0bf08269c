"""Work too large, too slow or too foreign for the service, in a process of its own that ends with the work.

The process has limits on its time, its memory and what it writes, none of driftd's secrets, and no life beyond that of
the service. The work is a function `in_child(given: bytes) -> bytes` of the module that is named; nothing else goes in
or comes out.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Final

from monitor.errors import ChildFault, DriftdError

PR_SET_PDEATHSIG: Final = 1
"""As in sys/prctl.h."""
_lock: Final = threading.Lock()
_at_work: Final[set[subprocess.Popen[bytes]]] = set()


@dataclass(frozen=True, slots=True)
class Limits:
    """seconds: of work; twice that may pass. n_bytes: of memory and of what it writes, each."""

    seconds: int
    n_bytes: int


def run(work: str, given: bytes, limits: Limits) -> bytes:
    """What the module's `in_child` makes of what is given. ChildFault says why it made nothing."""
    try:
        with TemporaryDirectory(prefix="driftd-") as folder, TemporaryFile() as asked:
            asked.write(given)
            asked.seek(0)
            return _made(work, asked, folder, limits)
    except subprocess.TimeoutExpired:
        raise ChildFault(f"it took more than {2 * limits.seconds} s and was given up") from None
    except OSError as error:
        raise ChildFault(f"no process could be started for it: {error}") from error


def end_all() -> None:
    """End what is at work, so that nothing of it is left; whoever waits for it gets a ChildFault."""
    with _lock:
        ended = list(_at_work)
    for process in ended:
        process.kill()
    for process in ended:
        process.wait()


def _made(work: str, asked: IO[bytes], folder: str, limits: Limits) -> bytes:
    command = [sys.executable, "-I", "-m", "monitor.child", work, str(limits.seconds), str(limits.n_bytes)]
    alone = {
        "PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LC_ALL": "C.UTF-8", "DO_NOT_TRACK": "1",
        "MPLCONFIGDIR": os.environ.get("CACHE_DIRECTORY", folder),
        "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with TemporaryFile() as made, TemporaryFile() as said:  # files, since they are bounded and pipes are not
        # Ourselves, without a shell.
        process = subprocess.Popen(command, env=alone, stdin=asked, stdout=made, stderr=said)  # noqa: S603
        with process, _noted(process):
            code = process.wait(2 * limits.seconds)
        if code:
            within = f"within {limits.seconds} s of work and {limits.n_bytes >> 20} MiB"
            raise ChildFault(f"it could not be made {within}: {_last(said) or f'ended with {code}'}")
        made.seek(0)
        return made.read()


@contextlib.contextmanager
def _noted(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Known as at work, and ended with the context."""
    with _lock:
        _at_work.add(process)
    try:
        yield
    finally:
        with _lock:
            _at_work.discard(process)
        process.kill()


def _last(said: IO[bytes]) -> str:
    """The last line of a file."""
    said.seek(max(0, said.seek(0, os.SEEK_END) - 4096))
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def _main(work: str, seconds: int, n_bytes: int) -> None:
    for limit, most in (
        (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, n_bytes), (resource.RLIMIT_FSIZE, n_bytes),
        (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        resource.setrlimit(limit, (most, most))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nothing outlives a service that was killed, either
    # What libraries print is no part of what was made.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as to:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        to.write(importlib.import_module(work).in_child(sys.stdin.buffer.read()))


if __name__ == "__main__":
    try:
        _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except DriftdError as fault:
        raise SystemExit(str(fault)) from None
