"""driftd's unit in a box: started, looked at, disturbed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from systemd.box import Box

PATIENCE = 60.0
"""Seconds; what has not come by then, on however busy a machine, does not come."""
QUERY = """
import json, sqlite3, sys
db = sqlite3.connect(f"file:{sys.argv[1]}/driftd.db?mode=ro", uri=True, timeout=10)
print(json.dumps(db.execute(sys.argv[2]).fetchall()))
"""


def until(done: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What `done` gives once it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return found


class Unit:
    """One unit with its configuration. name: without .service."""

    def __init__(self, box: Box, name: str = "driftd") -> None:
        self.box = box
        self.name = name
        template, _, instance = name.partition("@")
        self.config = f"/etc/driftd/{instance or name}.toml"
        self.state = f"/var/lib/private/{template}-{instance}" if instance else f"/var/lib/private/{name}"

    def systemctl(self, verb: str, *options: str, check: bool = True) -> int:
        return self.box.run("systemctl", verb, *options, self.name, check=check).returncode

    def show(self, key: str) -> str:
        return self.box.run("systemctl", "show", "--value", f"--property={key}", self.name).stdout.strip()

    @property
    def pid(self) -> str:
        return self.show("MainPID")

    def is_active(self) -> bool:
        return self.show("ActiveState") == "active"

    def drop_in(self, **settings: str) -> None:
        """Settings of [Service], as `systemctl edit` would add them; several of one name separated by newlines."""
        lines = [f"{key}={value}" for key, values in settings.items() for value in values.split("\n")]
        self.box.write(f"/etc/systemd/system/{self.name}.service.d/test.conf", "\n".join(["[Service]", *lines, ""]))
        self.box.run("systemctl", "daemon-reload")

    def entries(self, **fields: str) -> list[dict[str, Any]]:
        """What is in the journal of this unit, of its present start if no other is asked for."""
        self.box.run("journalctl", "--sync")
        matches = [f"{key}={value}" for key, value in fields.items()]
        found = self.box.run("journalctl", "--output=json", f"_SYSTEMD_UNIT={self.name}.service", *matches, check=False)
        return [json.loads(line) for line in found.stdout.splitlines()]

    def said(self, pid: str) -> list[dict[str, Any]]:
        """driftd's own lines in the journal, decoded, each with its PRIORITY."""
        entries = self.entries(_PID=pid)
        lines = [(entry["MESSAGE"], int(entry["PRIORITY"])) for entry in entries if entry["MESSAGE"].startswith("{")]
        return [json.loads(message) | {"PRIORITY": priority} for message, priority in lines]

    def rows(self, statement: str) -> list[list[Any]]:
        """Rows of the daemon's database; none while there is none. From inside: SQLite resolves links by itself."""
        if not self.box.path(f"{self.state}/driftd.db").exists():
            return []
        return json.loads(self.box.run("/opt/driftd/bin/python", "-c", QUERY, self.state, statement).stdout)

    def status(self) -> dict[str, Any]:
        """What `driftd status` says."""
        return json.loads(self.box.run("/opt/driftd/bin/driftd", "status", "--json", "--config", self.config).stdout)

    def n_read(self) -> int:
        return sum(offset for (offset,) in self.rows("SELECT next_offset FROM offsets"))

    def clean(self, **settings: str) -> None:
        """As if it had never run; settings: as in `drop_in`."""
        name, drop_ins = self.name, f"/etc/systemd/system/{self.name}.service.d"
        ended = f"systemctl kill --signal=KILL {name}; systemctl stop {name}; systemctl reset-failed {name}"
        self.box.run("sh", "-c", f"{ended}; rm -rf {self.state} {drop_ins}")
        self.drop_in(**settings)


class Pipe:
    """A file of the box in whose place there is a pipe: whoever opens it hangs, until it is fed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._content = file.read_bytes()
        self._good = file.with_name(f"{file.name}.good")
        file.rename(self._good)
        os.mkfifo(file, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """The file is there again for who opens it from now on; who hangs still hangs."""
        if self._good.exists():
            self._good.replace(self._file)

    def feed(self) -> None:
        """Who hangs reads the file's content and goes on."""
        pipe = os.open(self._file, os.O_WRONLY)
        self.restore()
        os.write(pipe, self._content)
        os.close(pipe)
