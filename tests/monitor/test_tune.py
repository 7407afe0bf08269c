"""Fitting driftd to its machine: what is measured is written, and only what pays; what else is in the file stays."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.errors import SourceError
from monitor.tune import Trial, write

PAYS = Trial("memory", {"MALLOC_TOP_PAD_": "67108864"}, without=1.0, with_it=0.5)
DOES_NOT = Trial("vectors", {"NPY_DISABLE_CPU_FEATURES": "X86_V4"}, without=1.0, with_it=0.95)


def test_only_what_pays_is_written_and_other_variables_stay(tmp_path: Path):
    file = tmp_path / "driftd.env"
    file.write_text('# mine\nHTTPS_PROXY="http://proxy:3128"\nNPY_DISABLE_CPU_FEATURES="X86_V4"\n')
    file.chmod(0o600)
    write(file, [PAYS, DOES_NOT])
    assert file.read_text() == '# mine\nHTTPS_PROXY="http://proxy:3128"\nMALLOC_TOP_PAD_="67108864"\n'
    assert file.stat().st_mode & 0o777 == 0o600
    write(file, [PAYS, DOES_NOT])
    assert file.read_text().count("MALLOC_TOP_PAD_") == 1


def test_a_directory_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(SourceError, match="nowhere"):
        write(tmp_path / "nowhere" / "driftd.env", [PAYS])


def test_the_command_measures_on_this_machine(tmp_path: Path):
    file = tmp_path / "driftd.env"
    command = [sys.executable, "-m", "monitor", "tune", "--output", str(file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    found = json.loads(done.stdout)
    assert "memory" in {trial["name"] for trial in found}
    assert all(trial["without"] > 0 and trial["with"] > 0 for trial in found)
    written = {line.partition("=")[0] for line in file.read_text().splitlines()}
    assert written == {key for trial in found if trial["taken"] for key in trial["variables"]}
    dry = subprocess.run(
        [*command[:-2], str(tmp_path / "dry"), "--dry-run"], capture_output=True, timeout=200, check=True
    )
    assert not (tmp_path / "dry").exists()
    assert b"nothing was written" in dry.stdout


BURST = """
import ctypes
from pathlib import Path
from monitor.tune import give_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

before = resident()
parts = [b"x" * 100_000 for _ in range(400)]
last = parts.pop()  # lies behind the others, all holes are long filled: the heap does not simply get shorter
full = resident()
parts.clear()
left = resident()
give_back()
print(before, full, left, resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only GNU's C library keeps what is free")
def test_what_a_burst_leaves_free_is_given_back():
    done = subprocess.run([sys.executable, "-c", BURST], capture_output=True, text=True, check=True)
    before, full, left, after = map(int, done.stdout.split())
    assert min(full, left) - before > 30 << 20, "otherwise nothing was kept, and nothing is tried here"
    assert after - before < (full - before) / 4
