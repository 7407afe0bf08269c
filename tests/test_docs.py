"""Every `driftd` command that the documentation shows does what it says, in the order in which it is shown."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest

from monitor.demo.standins.slack import SlackStandIn
from monitor.sources.embedded import EmbeddedBroker

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOKEN: Final = "xoxb-docs-1234"
BEGIN: Final = datetime(2026, 3, 1, tzinfo=UTC)
HOURS: Final = 9
SHIFTED_FROM: Final = 4
ROWS: Final = 400
"""An hour."""


def shown(page: Path) -> list[list[str]]:
    """The commands of a page: lines of its code that begin with the name of the program. Shells are not run."""
    code = re.findall(r"(?m)^(?:    )(driftd .*)$", page.read_text())
    return [shlex.split(line, comments=True)[1:] for line in code]


def block(page: Path, containing: str) -> str:
    """The TOML example of a page that has these words in it."""
    (found,) = (one for one in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL) if containing in one)
    return found


def rows(rng: np.random.Generator, count: int, shift: float = 0.0) -> pd.DataFrame:
    income = rng.lognormal(10.5, 0.4, count) * (1 + shift)
    age, plan = rng.integers(18, 90, count), rng.choice(["free", "paid"], count, p=[0.7, 0.3])
    return pd.DataFrame({"age": age, "plan": plan, "income": income, "score": rng.beta(2, 5, count)})


def record(i: int, row: dict[str, Any], at: datetime) -> bytes:
    score = row.pop("score")
    return json.dumps({"id": f"r-{i}", "ts": at.isoformat(), "score": score, "features": row}).encode()


def driftd(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitor", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def serve(folder: Path, words: Sequence[str], until: Any) -> None:
    """The service, asked to end as soon as `until` says so."""
    with (folder / "driftd.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "monitor", *words], cwd=folder, stderr=log, stdout=log)
        try:
            deadline = time.monotonic() + 120
            while not until():
                said = (folder / "driftd.log").read_text()[-2_000:]
                assert process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


@pytest.fixture(scope="module")
def folder(embedded_broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder after the walk of the README: its configuration, data, a sealed reference, and a state."""
    made = tmp_path_factory.mktemp("docs")
    rng = np.random.default_rng(7)
    for name in ("validation", "today"):
        rows(rng, 5_000).to_parquet(made / f"{name}.parquet")
    log = [
        record(hour * ROWS + i, row, BEGIN + timedelta(hours=hour, seconds=i * 3600 / ROWS))
        for hour in range(HOURS)
        for i, row in enumerate(rows(rng, ROWS, 0.8 if hour >= SHIFTED_FROM else 0.0).to_dict("records"))
    ]
    (made / "yesterday.jsonl").write_bytes(b"\n".join(log))
    embedded_broker.create_topic("predictions")
    producer = embedded_broker.producer()
    for i, value in enumerate(log):
        producer.produce("predictions", value, partition=i % 4)
    producer.flush()
    (made / "slack_token").write_text(TOKEN)
    (made / "alerts.test.toml").write_text(block(ROOT / "docs" / "alerts.md", "[[test]]"))
    with SlackStandIn(TOKEN) as slack:
        config = block(ROOT / "README.md", "[[model]]").replace(
            '["localhost:9092"]', f"{json.dumps(embedded_broker.bootstrap_servers)}\napi_version = [2, 0]"
        )
        config = config.replace('kind = "slack"', f'kind = "slack"\nbase_url = "{slack.api_url}"\nallow_private = true')
        (made / "driftd.toml").write_text(f'{config}\n[http]\nlisten = ""\n')
        done = driftd(made, "reference", "build", "--config", "driftd.toml", "--model", "credit", "validation.parquet")
        assert done.returncode == 0, done.stderr
        serve(made, ["run", "--config", "driftd.toml"], lambda: slack.messages)
        yield made


@pytest.mark.parametrize("page", [page for page in PAGES if shown(page)], ids=lambda page: page.stem)
def test_every_command_that_is_shown_works(page: Path, folder: Path):
    (incident, *_) = json.loads(driftd(folder, "alerts", "--config", "driftd.toml", "--json").stdout)
    stands_for = {"ID": incident["id"], "CHANNEL": "ml-alerts", "/etc/driftd/driftd.toml": "driftd.toml"}
    for command in shown(page):
        words = [stands_for.get(word, word) for word in command]
        if words[0] == "run":
            serve(folder, words, lambda: "driftd is running" in (folder / "driftd.log").read_text())
            continue
        done = driftd(folder, *words)
        assert done.returncode == 0, f"driftd {' '.join(words)}\n{done.stdout}\n{done.stderr}"


def test_every_page_is_reached_from_another_and_links_to_what_exists():
    linked = set()
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            file = (page.parent / target).resolve()
            assert file.exists(), f"{page.name} links to {target}"
            linked.add(file)
    assert not {page.name for page in PAGES[1:]} - {file.name for file in linked}


def test_every_threat_names_tests_that_there_are():
    rows = re.findall(r"(?m)^\| (?!threat |---)(.*?) \|.*\| (.*?) \|$", (ROOT / "docs" / "security.md").read_text())
    assert len(rows) > 20
    for threat, held_by in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", held_by)
        assert named, f"{threat}: no test holds it"
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(), f"{threat}: {file} has no {test}"
