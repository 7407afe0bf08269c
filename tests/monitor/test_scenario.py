"""`driftd test`: stories on a clock of our own, tolerance zero."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monitor.demo.world import table
from monitor.reference import kinds_of, seal
from tests.monitor.command import driftd

CONFIG = """
[[model]]
name = "loan"
reference = "reference"
window = "1h"
lateness = "10m"
decision = "family"
[[channel]]
name = "alerts"
kind = "log"
[[channel]]
name = "job"
kind = "log"
[[retrain]]
model = "loan"
channel = "job"
mode = "auto"
max_age = "5h"
"""
SCRIPT = """
config = "driftd.toml"

[[test]]
name = "a shift is told once its window has closed, and resolved after two calm ones"
model = "loan"
feed = [
  {until = "3h", rows_per_hour = 2000},
  {at = "3h", until = "5h", rows_per_hour = 2000, shift = {car_value = 0.5}},
  {at = "5h", until = "9h", rows_per_hour = 2000},
]
expect = [
  {between = ["0m", "4h9m"], absent = true},
  {between = ["4h10m", "4h10m"], channel = "alerts", change = "opened", columns = ["car_value"]},
  {between = ["4h10m", "4h10m"], channel = "job", change = "retrain"},
  {between = ["7h10m", "7h10m"], channel = "alerts", change = "resolved"},
]

[[test]]
name = "a model that becomes too old is retrained though nothing drifts, once"
model = "loan"
feed = [{until = "12h", rows_per_hour = 2000}]
expect = [
  {between = ["0m", "6h9m"], absent = true},
  {between = ["6h10m", "6h10m"], channel = "job", change = "retrain"},
  {between = ["6h10m", "6h10m"], channel = "alerts", change = "opened"},
  {between = ["6h11m", "12h"], absent = true},
]

[[test]]
name = "a silence holds it back"
model = "loan"
feed = [{until = "6h", missing = {driver_tenure = 0.5}}]
order = [{at = "0m", silence = "4h"}]
expect = [
  {between = ["0m", "3h59m"], absent = true},
  {between = ["4h", "4h"], channel = "alerts", change = "opened", columns = ["driver_tenure"]},
  {between = ["0m", "6h"], channel = "job", absent = true},
]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenario")
    frame = table("reference").drop(columns=["id", "timestamp"])
    seal(frame, kinds_of(frame, {}), folder / "reference")
    (folder / "driftd.toml").write_text(CONFIG)
    return folder


def played(home: Path, script: str, *words: str):
    (home / "alerts.test.toml").write_text(script)
    return driftd("test", home / "alerts.test.toml", *words)


def test_stories_that_come_true_pass(home: Path):
    done = played(home, SCRIPT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed  ") == 3


def test_a_message_a_minute_too_late_fails_and_what_came_is_shown(home: Path):
    done = played(
        home, SCRIPT.replace('["4h10m", "4h10m"], channel = "alerts"', '["4h9m", "4h9m"], channel = "alerts"')
    )
    assert done.returncode == 1
    assert "FAILED  a shift is told" in done.stdout
    assert "4h10m alerts: opened (car_value)" in done.stdout
    results = json.loads(played(home, SCRIPT, "--json").stdout)
    assert [result["passed"] for result in results] == [True] * 3
    assert results[2]["messages"] == ["4h alerts: opened (driver_tenure)"]


def test_names_that_do_not_exist_are_named_at_once(home: Path):
    script = SCRIPT.replace("car_value = 0.5", "car_valu = 0.5, salary_range = 1.0").replace(
        '"loan"\nfeed = [{', '"lone"\nfeed = [{'
    )
    done = played(home, script)
    assert done.returncode == 78
    for words in ("no column 'car_valu'", "'salary_range', which is not numeric", "no model 'lone'"):
        assert words in done.stderr
    assert played(home, "config = 1").returncode == 78
