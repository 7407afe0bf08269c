"""The release's script puts the service into a machine and takes it away; packages aside, which need a network."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from systemd.box import Box, CannotBoot, booted, unavailable

ROOT = Path(__file__).parents[2]
INSTALL = "/opt/release/systemd/install.sh"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """One with an unpacked release, and with /opt/driftd brought about in another way."""
    if (reason := unavailable()) is not None:
        pytest.skip(f"no systemd can be booted here: {reason}")
    release = tmp_path_factory.mktemp("release")
    shutil.copytree(ROOT / "systemd", release / "systemd")
    for name in ("config.example.toml", "requirements.lock"):
        shutil.copy(ROOT / name, release)
    try:
        with booted({release: "/opt/release", Path(sys.prefix): "/opt/driftd"}) as box:
            yield box
    except CannotBoot as reason:
        pytest.skip(f"no systemd can be booted here: {reason}")


def test_what_is_installed_is_known_to_systemd_and_secrets_are_shut(machine: Box):
    said = machine.run(INSTALL, "--no-packages").stdout
    assert "systemctl enable --now driftd" in said
    for unit in ("driftd.service", "driftd@one.service"):
        assert machine.show(unit)["LoadState"] == "loaded"
    assert machine.path("/etc/driftd/secrets").stat().st_mode & 0o777 == 0o700
    assert machine.path("/etc/driftd/driftd.toml.example").read_text() == (ROOT / "config.example.toml").read_text()


def test_removal_leaves_configuration_and_state_unless_told_otherwise(machine: Box):
    machine.run(INSTALL, "--no-packages")
    machine.write("/etc/driftd/driftd.toml", "# mine")
    machine.write("/var/lib/driftd/driftd.db", "state")
    machine.run("systemctl", "enable", "driftd")
    machine.run(INSTALL, "--uninstall")
    assert machine.show("driftd.service")["LoadState"] == "not-found"
    assert not machine.path("/etc/systemd/system/multi-user.target.wants/driftd.service").is_symlink()
    assert machine.path("/etc/driftd/driftd.toml").exists()
    assert machine.path("/var/lib/driftd/driftd.db").exists()
    machine.run(INSTALL, "--uninstall", "--purge")
    assert not machine.path("/etc/driftd").exists()
    assert not machine.path("/var/lib/driftd").exists()
    assert machine.path("/opt/driftd").is_dir(), "brought about in another way, so not the script's to remove"


def test_what_is_not_of_its_making_is_not_overwritten(machine: Box):
    machine.run("touch", "/opt/release/driftd-9.9-py3-none-any.whl")
    done = machine.run(INSTALL, check=False)
    assert done.returncode == 1
    assert "/opt/driftd is not of this script's making" in done.stderr
