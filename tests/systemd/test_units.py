"""The units as systemd's own judges see them; nothing is booted."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
EXPOSURE = 11
"""Ten times the highest score on systemd's own scale, where 0 is best and 100 worst."""

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def systemd_version() -> int:
    return int(analyze("--version").stdout.split()[1])


@pytest.fixture(params=["driftd.service", "driftd@.service"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit in a folder of its own, with a program in driftd's place that there is on every machine."""
    file = tmp_path / request.param
    file.write_text((UNITS / request.param).read_text().replace("/opt/driftd/bin/driftd", "/bin/true"))
    return file


def test_verify_says_nothing(unit: Path):
    # Its exit code is 0 for keys that it does not know, so what counts is that it is silent.
    done = analyze("verify", "--man=no", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", sorted(file.name for file in (UNITS / "drop-ins").glob("*.conf")))
def test_drop_ins_say_nothing_either(unit: Path, name: str):
    if name == "notify-reload.conf" and systemd_version() < 253:
        pytest.skip(f"systemd {systemd_version()} does not know Type=notify-reload, which came with 253")
    folder = unit.with_name(f"{unit.name}.d")
    folder.mkdir()
    shutil.copy(UNITS / "drop-ins" / name, folder)
    done = analyze("verify", "--man=no", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_key_that_does_not_exist_would_be_noticed(unit: Path):
    unit.write_text(unit.read_text() + "\n[Service]\nProtectEverything=yes\n")
    assert "ProtectEverything" in analyze("verify", "--man=no", unit).stderr


def test_little_is_exposed(unit: Path):
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    assert done.returncode == 0, done.stdout
    unit.write_text(unit.read_text().replace("PrivateUsers=yes\n", "").replace("ProtectHome=yes\n", ""))
    assert analyze("security", "--offline=true", f"--threshold={EXPOSURE}", unit).returncode == 1


def test_the_template_is_made_from_the_unit():
    made = subprocess.run(
        ["sed", "-f", UNITS / "instance.sed", UNITS / "driftd.service"], capture_output=True, text=True, check=True
    )
    assert (UNITS / "driftd@.service").read_text() == made.stdout, "run make systemd/driftd@.service"
