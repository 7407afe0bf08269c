"""A booted box with driftd installed in it, as a user would, from the source tree that is tested."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.demo.world import ID, TIME, table
from monitor.reference import kinds_of, seal
from systemd.box import Box, CannotBoot, booted, unavailable
from systemd.unit import Unit

ROOT = Path(__file__).parents[2]
TOKEN = "xoxb-canary-7d31"
CREDENTIAL = "slack_token:/etc/driftd/secrets/slack_token"
CONFIG = """
[kafka]
bootstrap_servers = {servers}
api_version = [2, 0]
idle_timeout = "1h"
[state]
directory = "{state}"
checkpoint = "200ms"
[http]
listen = "127.0.0.1:{port}"
[[model]]
name = "loan"
topics = ["predictions"]
reference = "reference"
window = "10d"
lateness = "1d"
[model.fields]
id = "id"
timestamp = "timestamp"
prediction = "y_pred"
score = "y_pred_proba"
features = "features"
[[channel]]
name = "alerts"
kind = "slack"
allow_private = true
channel = "#alerts"
token_file = "slack_token"
base_url = "{slack}"
"""


class World:
    """A broker and a stand-in for Slack inside the box."""

    def __init__(self, box: Box) -> None:
        command = box.command("/opt/driftd/bin/python", "/opt/tests/world.py", "predictions", TOKEN)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addresses: dict[str, Any] = json.loads(self._process.stdout.readline())

    def order(self, **order: Any) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(20)

    def config(self, state: str = "/var/lib/driftd", port: int = 9464) -> str:
        servers = json.dumps(self.addresses["servers"])
        return CONFIG.format(servers=servers, slack=self.addresses["slack"], state=state, port=port)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def box(wheel: Path) -> Iterator[Box]:
    if (reason := unavailable()) is not None:
        pytest.skip(f"no systemd can be booted here: {reason}")
    if sys.prefix == sys.base_prefix:
        pytest.skip("the tests do not run in a virtual environment that a box could use")
    # A service must not see /root and /home, where some Pythons are.
    python = Path(sys.base_prefix)
    copies = {Path(sys.prefix): "/opt/driftd", wheel.parent: "/opt/dist", ROOT / "tests" / "systemd": "/opt/tests"}
    copies |= {ROOT / "systemd": "/opt/units"}
    if python.parts[1] in ("root", "home"):
        copies[python] = "/opt/python"
        python = Path("/opt/python")
    try:
        with booted(copies) as made:
            _install(made, python)
            yield made
    except CannotBoot as reason:
        pytest.skip(f"no systemd can be booted here: {reason}")


@pytest.fixture(scope="session")
def world(box: Box) -> Iterator[World]:
    made = World(box)
    yield made
    made.close()


@pytest.fixture
def unit(box: Box, world: World) -> Unit:
    """driftd with a configuration and a credential, not started and without a past."""
    made = Unit(box)
    made.clean(LoadCredential=CREDENTIAL)
    made.box.write(made.config, world.config())
    return made


def _install(box: Box, python: Path) -> None:
    """The test's own environment with the wheel in it, under a Python that a service may see."""
    executable = f"{python}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    box.run("sh", "-c", f"echo {python}/lib >/etc/ld.so.conf.d/python.conf && ldconfig")
    box.run("ln", "-sfn", executable, "/opt/driftd/bin/python3")
    box.run("sed", "-i", f"s:^home = .*:home = {python}/bin:", "/opt/driftd/pyvenv.cfg")
    pip = ["/opt/driftd/bin/python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall"]
    box.run("sh", "-c", f"{' '.join(pip)} /opt/dist/*.whl")
    box.run("sh", "-c", "cp /opt/units/*.service /etc/systemd/system/ && systemctl daemon-reload")
    box.write("/etc/driftd/secrets/slack_token", TOKEN, mode=0o600)
    box.path("/etc/driftd/secrets").chmod(0o700)
    frame = table("reference").drop(columns=[ID, TIME])
    seal(frame, kinds_of(frame, {}), box.path("/etc/driftd/reference"))
