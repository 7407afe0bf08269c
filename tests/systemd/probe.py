"""Run under the unit in place of driftd: tries what the unit refuses and what it allows, and writes down what came."""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path


def came_of(work: Callable[[], object]) -> str:
    """ "done", or the name of the error."""
    try:
        work()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return "done"


def written(place: str) -> str:
    return came_of(lambda: (Path(place) / "probe").write_text("x"))


def listed(place: str) -> str:
    return came_of(lambda: list(Path(place).iterdir()))


def connected(address: str) -> str:
    with socket.socket() as channel:
        channel.settimeout(1)
        return came_of(lambda: channel.connect((address, 9)))


def signalled(pid: str) -> str:
    return came_of(lambda: os.kill(int(pid), 0))


def called(name: str, *arguments: int) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    return "done" if getattr(libc, name)(*arguments) >= 0 else errno.errorcode[ctypes.get_errno()]


def refused() -> dict[str, str]:
    """What nobody who broke into the service should be able to do."""
    return {
        "setuid": came_of(lambda: os.setuid(0)),
        "chown": came_of(lambda: os.chown("/tmp", 12345, 12345)),
        "packet socket": came_of(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        "netlink socket": came_of(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
        "writable code": came_of(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
        "namespace": called("unshare", 0x10000000),
        "ptrace": called("ptrace", 16, os.getppid(), 0, 0),
        "mount": called("mount", 0, 0, 0, 0, 0),
    }


def works() -> list[str]:
    """Everything heavy that driftd imports; an ImportError or worse is the answer."""
    names = (
        "numpy",
        "scipy.special",
        "pandas",
        "pyarrow.parquet",
        "kafka",
        "confluent_kafka",
        "sqlite3",
        "httpcore",
        "ssl",
    )
    return [importlib.import_module(name).__name__ for name in names]


def reported() -> int:
    """The size of a report of the latest incident of the state that the service left."""
    from monitor.history import History
    from monitor.report import make

    state = Path(os.environ["STATE_DIRECTORY"])
    (incident,) = History(state).incidents(everything=True, limit=1)
    return make(state, incident.id).stat().st_size


def main(*orders: str) -> None:
    found: dict[str, object] = {"uid": os.getuid(), "state": os.environ["STATE_DIRECTORY"]}
    for order in orders:
        verb, _, rest = order.partition(":")
        if verb in ("written", "listed", "connected", "signalled"):
            work = {"written": written, "listed": listed, "connected": connected, "signalled": signalled}[verb]
            found[verb] = {word: work(word) for word in rest.split(",")}
        else:
            found[verb] = {"refused": refused, "works": works, "reported": reported}[verb]()
    Path(os.environ["STATE_DIRECTORY"], "probe.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
