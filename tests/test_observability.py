"""The shipped alert rules and dashboard: Prometheus' own tool passes them, and every metric they use exists."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.monitor.test_metrics import lived

FOLDER = Path(__file__).parents[1] / "observability"
NAME = re.compile(r"\bdriftd_[a-z_]+")


def expressions() -> list[str]:
    rules = re.findall(r"expr: (.*)", (FOLDER / "rules.yml").read_text())
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return rules + panels + [variable["query"] for variable in dashboard["templating"]["list"]]


def test_every_metric_that_is_used_exists():
    there = set(NAME.findall(lived().text().decode()))
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(used) > 15
    assert used <= there, used - there


def test_the_page_lists_every_metric_as_it_is():
    written = runpy.run_path(str(FOLDER.parent / "docs" / "metrics.py"))["page"]()
    assert (FOLDER.parent / "docs" / "operate.md").read_text() == written, "run python docs/metrics.py"
    listed = set(re.findall(r"(?m)^\| `(driftd_[a-z_]+)`", written))
    scraped = set(re.findall(r"(?m)^# TYPE (driftd_[a-z_]+) ", lived().text().decode()))
    assert {name for name in scraped if not name.endswith("_created")} == listed


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Debian's package prometheus, is not here")
@pytest.mark.parametrize("words", [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")])
def test_promtool_passes_the_rules_and_their_tests(words: tuple[str, ...]):
    done = subprocess.run(["promtool", *words], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
