"""A real systemd as PID 1 in namespaces of its own, on an overlay of this machine's files that lives in memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

BOOT = Path(__file__).with_name("boot.sh")
SYSTEMD = Path("/lib/systemd/systemd")
TOOLS = ("unshare", "nsenter", "setpriv", "mount", "pivot_root", "ip", "systemctl", "journalctl")
SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_SECONDS = 90.0


class CannotBoot(Exception):
    """This machine does not let us make the namespaces and mounts that a box needs."""


def unavailable() -> str | None:
    """Why no box can be had here; None when nothing speaks against it."""
    if os.geteuid() != 0:
        return "not root"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=SEARCH) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return None if SYSTEMD.exists() else f"no {SYSTEMD}"


class Box:
    """A booted box. pid: of its systemd, as this machine sees it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def path(self, place: str) -> Path:
        """A place inside, as a path that this process can use; links to absolute places lead astray."""
        return Path(f"/proc/{self.pid}/root{place}")

    def write(self, place: str, text: str, mode: int = 0o644) -> None:
        """A file inside, whole at once."""
        file = self.path(place)
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}.new")
        aside.write_text(text)
        aside.chmod(mode)
        aside.replace(file)

    def command(self, *command: str) -> list[str]:
        """What to execute here so that this command runs inside, as root and with nothing else of this environment."""
        inside = ["nsenter", f"--target={self.pid}", "--all", "--root", "--wd"]
        units = "SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/systemd/system"
        return [*inside, "env", "-i", f"PATH={SEARCH}", "HOME=/root", "LANG=C.UTF-8", units, *command]

    def run(self, *command: str, check: bool = True, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run to the end; with `check` a failure is an AssertionError that shows what was printed."""
        done = subprocess.run(
            self.command(*command),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def show(self, unit: str) -> Mapping[str, str]:
        """Everything that systemd knows of a unit."""
        lines = self.run("systemctl", "show", unit).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


@contextmanager
def booted(copies: Mapping[Path, str]) -> Iterator[Box]:
    """Boot; at the end nothing is left. copies: directories to have inside, and where; changes to them stay inside.

    CannotBoot when this machine is at fault, AssertionError when systemd does not come up.
    """
    folder = Path(tempfile.mkdtemp(prefix="driftd-box-"))
    cgroup = _cgroup(folder.name)
    pairs = [f"{source.resolve()}={place}" for source, place in copies.items()]
    namespaces = ["--pid", "--mount", "--cgroup", "--ipc", "--uts", "--net", "--fork", "--kill-child"]
    enter = f'echo $$ >"{cgroup}/cgroup.procs"; exec "$@"'
    # Nobody else would end the box if this process were killed.
    mortal = ["setpriv", "--pdeathsig", "KILL"]
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        unshare = subprocess.Popen(
            ["sh", "-c", enter, "sh", *mortal, "unshare", *namespaces, str(BOOT), str(folder), *pairs],
            stdout=output, stderr=output, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        yield _up(unshare, log)
    finally:
        unshare.kill()
        unshare.wait()
        _remove(cgroup)
        folder.rmdir()
        log.unlink()


def _cgroup(name: str) -> Path:
    hybrid = Path("/sys/fs/cgroup/unified")
    cgroup = (hybrid if hybrid.is_dir() else Path("/sys/fs/cgroup")) / name
    try:
        cgroup.mkdir()
    except OSError as error:
        raise CannotBoot(f"{cgroup}: {error.strerror}") from error
    return cgroup


def _up(unshare: subprocess.Popen[bytes], log: Path) -> Box:
    deadline = time.monotonic() + BOOT_SECONDS
    while "mounted" not in log.read_text(errors="replace"):
        if unshare.poll() is not None:
            raise CannotBoot(log.read_text(errors="replace").strip().replace("\n", "; "))
        assert time.monotonic() < deadline, "the box was not mounted in time"
        time.sleep(0.02)
    (pid,) = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
    box = Box(int(pid))
    while box.run("systemctl", "is-system-running", check=False).stdout.strip() not in ("running", "degraded"):
        assert unshare.poll() is None, f"systemd ended:\n{log.read_text(errors='replace')}"
        assert time.monotonic() < deadline, f"systemd did not come up:\n{log.read_text(errors='replace')}"
        time.sleep(0.05)
    box.run("ip", "link", "set", "lo", "up")
    return box


def _remove(cgroup: Path) -> None:
    """Its processes are dying with the box; a group can go once they are gone."""
    deadline = time.monotonic() + 10
    while cgroup.exists():
        for file in cgroup.rglob("cgroup.procs"):
            for pid in map(int, file.read_text().split()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for folder in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        with suppress(OSError):
            cgroup.rmdir()
        assert time.monotonic() < deadline, f"{cgroup} is still in use"
        time.sleep(0.02)
