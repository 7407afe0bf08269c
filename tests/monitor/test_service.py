"""The service as a process: on a real broker it says what a replay says, and no kill changes that."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from monitor.cli import read_config
from monitor.database import DATABASE
from monitor.demo.standins import not_json, redirect, status
from monitor.demo.standins.slack import SlackStandIn
from monitor.demo.standins.webhook import WebhookStandIn
from monitor.demo.world import table
from monitor.frozen import thaw
from monitor.reference import kinds_of, seal, unseal
from monitor.replay import Log, replay

TOKEN, SECRET = "xoxb-canary-5f1e", "whsec_c2lnbmluZy1rZXktY2FuYXJ5"
CONFIG = """
[kafka]
bootstrap_servers = {servers}
idle_timeout = "1h"
[state]
directory = "state"
checkpoint = "200ms"
[[model]]
name = "loan"
topics = ["{topic}"]
reference = "../reference"
window = "{window}"
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
channel = "#alerts"
token_env = "TEST_SLACK_TOKEN"
base_url = "{slack}"
allow_private = true
[[channel]]
name = "job"
kind = "webhook"
url = "{ci}/hook"
allow_private = true
secret_file = "../hook_secret"
[[retrain]]
model = "loan"
channel = "job"
mode = "auto"
[http]
listen = "127.0.0.1:0"
"""


@dataclass
class Setting:
    """One state directory with its configuration, a topic, and stand-ins."""

    home: Path
    topic: str
    slack: SlackStandIn
    ci: WebhookStandIn
    producer: Any

    def configure(self, servers: str, window: str, name: str = "one") -> Path:
        """Configurations of any name say the same; each has a folder and a state of its own."""
        file = self.home / name / "driftd.toml"
        file.parent.mkdir()
        text = CONFIG.format(
            servers=json.dumps(servers.split(",")), topic=self.topic, window=window,
            slack=self.slack.api_url, ci=self.ci.url,
        )  # fmt: skip
        file.write_text(text)
        return file

    def produce(self, records: list[dict[str, Any]], partitions: int) -> None:
        for record in records:
            value = json.dumps(record).encode()
            self.producer.produce(self.topic, value, partition=record["id"] % partitions)
        assert self.producer.flush(30) == 0


@pytest.fixture(scope="module")
def log() -> list[dict[str, Any]]:
    own = {"id", "timestamp", "y_pred", "y_pred_proba"}
    return [
        {
            "id": i,
            "timestamp": int(row["timestamp"].timestamp() * 1000),
            "y_pred": row["y_pred"],
            "y_pred_proba": row["y_pred_proba"],
            "features": {name: value for name, value in row.items() if name not in own},
        }
        for i, row in enumerate(table("log").to_dict("records"))
    ]


@pytest.fixture
def setting(real_broker: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Setting]:
    frame = table("reference").drop(columns=["id", "timestamp"])
    seal(frame, kinds_of(frame, {}), tmp_path / "reference")
    (tmp_path / "hook_secret").write_text(SECRET)
    topic = f"service-{request.node.name.replace('[', '-').replace(']', '')}"
    producer = Producer({"bootstrap.servers": real_broker.bootstrap_servers, "compression.type": "lz4", "log_level": 0})
    with SlackStandIn(TOKEN) as slack, WebhookStandIn(SECRET) as ci:
        yield Setting(tmp_path, topic, slack, ci, producer)


@contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    log_file = config.with_suffix(".log").open("ab")
    child = subprocess.Popen(
        [sys.executable, "-m", "monitor", "run", "--config", str(config)],
        stdout=log_file, stderr=log_file, env=os.environ | {"TEST_SLACK_TOKEN": TOKEN},
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        log_file.close()


def query(config: Path, statement: str) -> list[tuple[Any, ...]]:
    """Rows of the daemon's database; none while there is no database yet."""
    file = config.parent / "state" / DATABASE
    if not file.exists():
        return []
    db = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=10)
    try:
        return db.execute(statement).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error) or "unable to open" in str(error):
            return []
        raise
    finally:
        db.close()


def n_read(config: Path) -> int:
    return sum(offset for (offset,) in query(config, "SELECT next_offset FROM offsets"))


def until(done: Callable[[], bool], child: subprocess.Popen[bytes] | None = None, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert child is None or child.poll() is None, "the daemon ended"
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


def settled(config: Path, n_wanted: int) -> bool:
    """Whether all is read and nothing waits, at one moment: what is read last brings notices with it."""
    waiting = "SELECT count(*) FROM outbox WHERE state = 'pending'"
    return query(config, f"SELECT (SELECT sum(next_offset) FROM offsets), ({waiting})") == [(n_wanted, 0)]


def windows(config: Path) -> list[tuple[Any, ...]]:
    """Windows with their content. In how many revisions late rows came is a matter of when they were read."""
    bins = unseal(config.parent.parent / "reference").bins
    bodies = query(config, "SELECT body FROM windows ORDER BY segment, start_ms")
    found = [thaw(body, bins) for (body,) in bodies]
    return [(w.segment, w.index, w.start_ms, w.n_late, w.tally.profile.id, w.tally.extents) for w in found]


def timeless(body: bytes) -> Any:
    """JSON without the times at which something was done."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(inner) for key, inner in value.items() if key != "at_ms" or value.get("body")}
        return [strip(inner) for inner in value] if isinstance(value, list) else value

    return strip(json.loads(body))


def story(config: Path) -> dict[str, list[Any]]:
    """All that a run said, without the times at which it did."""
    changes = query(config, "SELECT incident, n, body FROM changes ORDER BY incident, n")
    triggers = query(config, "SELECT id, step, body FROM triggers ORDER BY id")
    return {
        "windows": windows(config),
        "verdicts": query(config, "SELECT * FROM verdicts"),
        "changes": [(incident, n, timeless(body)) for incident, n, body in changes],
        "triggers": [(identity, step, timeless(body)) for identity, step, body in triggers],
        "notices": query(config, "SELECT id, channel, purpose, body, state FROM outbox ORDER BY id"),
    }


def test_a_real_broker_gives_the_verdicts_of_a_replay(real_broker: Any, setting: Setting, log: list[dict[str, Any]]):
    real_broker.create_topic(setting.topic, partitions=1)
    config = setting.configure(real_broker.bootstrap_servers, "2500 rows")
    setting.produce(log, 1)
    lines = setting.home / "log.jsonl"
    lines.write_text("".join(json.dumps(record) + "\n" for record in log))
    checked = read_config(config)
    replay(checked, checked.model[0], unseal(setting.home / "reference"), Log([lines]), setting.home / "out")
    with running(config) as child:
        until(lambda: settled(config, len(log)), child)
        child.send_signal(signal.SIGTERM)
        assert child.wait(15) == 0
    replayed = [json.loads(line) for line in (setting.home / "out" / "verdicts.jsonl").read_bytes().splitlines()]
    said = [json.loads(body) for (body,) in query(config, "SELECT body FROM verdicts ORDER BY number, position")]
    assert len(said) == len(replayed) == 90
    for live, played in zip(said, replayed, strict=True):
        assert (live["column"], live["outcome"], live["effect"]) == (
            played["column"], played["verdict"], played["effect"],
        )  # fmt: skip
    first = {row["column"]: row["window"] for row in reversed(replayed) if row["verdict"] == "drift"}
    drifting = {"car_value", "loan_length", "salary_range", "repaid_loan_on_prev_car", "y_pred_proba"}
    assert first.keys() == drifting
    assert set(first.values()) <= {5, 6}  # the change is in window 5 from its beginning on


def test_no_kill_changes_windows_verdicts_or_messages(real_broker: Any, setting: Setting, log: list[dict[str, Any]]):
    real_broker.create_topic(setting.topic, partitions=4)
    calm = setting.configure(real_broker.bootstrap_servers, "10d", "calm")
    killed = setting.configure(real_broker.bootstrap_servers, "10d", "killed")
    rng = random.Random(11)
    kills = mid_way = 0
    steps = 22
    for step in range(steps):
        setting.produce(log[step * len(log) // steps : (step + 1) * len(log) // steps], 4)
        wanted = (step + 1) * len(log) // steps
        before = n_read(killed)
        with running(killed) as child:
            if step % 2:  # at any time from its first breath on
                time.sleep(rng.uniform(0.1, 1.2))
            else:  # while it works: something is committed and something is not
                until(lambda before=before: n_read(killed) > before, child)
                time.sleep(rng.uniform(0, 0.05))
            mid_way += child.poll() is None and n_read(killed) < wanted
            child.kill()
            child.wait()
            kills += child.returncode == -signal.SIGKILL
    with running(killed) as child:
        until(lambda: settled(killed, len(log)), child)
    slack, calls = list(setting.slack.messages.values()), dict(setting.ci.runs)
    with running(calm) as child:
        until(lambda: settled(calm, len(log)), child)
        # A picture follows its message; one that waits when the daemon dies is not made.
        until(lambda: any(upload.content.startswith(b"\x89PNG") for upload in setting.slack.uploads.values()), child)
        child.send_signal(signal.SIGTERM)
        assert child.wait(15) == 0
    print(f"kills that hit: {kills}, of them with records read and not committed: {mid_way}")
    assert kills >= 20
    assert mid_way >= 5
    undisturbed, disturbed = story(calm), story(killed)
    assert len(undisturbed["windows"]) > 25
    assert len(undisturbed["notices"]) >= 2
    for part, said in undisturbed.items():
        assert disturbed[part] == said, part
    # A kill between Slack's answer and its being written down repeats nothing: the history is asked.
    assert {message.metadata["event_payload"]["incident"] for message in slack} == {undisturbed["changes"][0][0]}
    assert len(slack) == 1
    assert len(calls) == 1
    assert setting.ci.runs.keys() == calls.keys()


def workers_of(child: subprocess.Popen[bytes]) -> list[int]:
    """Ingest processes of a daemon that is running."""
    found = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    return [int(pid) for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_two_workers_say_what_one_says_though_they_die(real_broker: Any, setting: Setting, log: list[dict[str, Any]]):
    real_broker.create_topic(setting.topic, partitions=4)
    alone = setting.configure(real_broker.bootstrap_servers, "10d", "alone")
    shared = setting.configure(real_broker.bootstrap_servers, "10d", "shared")
    shared.write_text(shared.read_text().replace("[state]", "workers = 2\n[state]", 1))
    steps = 3
    with running(shared) as child:
        for step in range(steps):
            setting.produce(log[step * len(log) // steps : (step + 1) * len(log) // steps], 4)
            until(lambda step=step: n_read(shared) > step * len(log) // steps, child)
            victim = workers_of(child)[step % 2]
            os.kill(victim, signal.SIGKILL)
            until(lambda gone=victim: len(workers_of(child)) == 2 and gone not in workers_of(child), child)
        until(lambda: settled(shared, len(log)), child)
        workers = workers_of(child)
        child.send_signal(signal.SIGTERM)
        assert child.wait(15) == 0
    assert len(workers) == 2
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert "has ended with status -9" in shared.with_suffix(".log").read_text()
    with running(alone) as child:
        until(lambda: settled(alone, len(log)), child)
        child.send_signal(signal.SIGTERM)
        assert child.wait(15) == 0
    one, two = story(alone), story(shared)
    assert len(one["windows"]) > 25
    assert len(one["notices"]) >= 2
    for part, said in one.items():
        assert two[part] == said, part


def test_stop_and_reload(real_broker: Any, setting: Setting, log: list[dict[str, Any]]):
    real_broker.create_topic(setting.topic, partitions=2)
    config = setting.configure(real_broker.bootstrap_servers, "10d")
    good = config.read_text()
    log_file = config.with_suffix(".log")
    setting.produce(log[:2_000], 2)
    with running(config) as child:
        until(lambda: n_read(config) == 2_000, child)
        config.write_text(good.replace("[[model]]", "[[modell]]"))
        child.send_signal(signal.SIGHUP)
        until(lambda: "did you mean 'model'" in log_file.read_text(), child)
        config.write_text(good.replace('window = "10d"', 'window = "10d"\nversion = "9"'))
        child.send_signal(signal.SIGHUP)
        until(lambda: log_file.read_text().count("driftd is running") == 2, child)
        setting.slack.order(not_json(f'{{"error": "{TOKEN}"}}'), status(401))
        setting.ci.order(not_json(SECRET), redirect(f"https://elsewhere.example/{SECRET}"))
        setting.produce(log[2_000:], 2)
        until(lambda: settled(config, len(log)), child)
        began = time.monotonic()
        child.send_signal(signal.SIGTERM)
        assert child.wait(15) == 0
        assert time.monotonic() - began < 5
    (body,) = query(config, "SELECT body FROM outbox WHERE purpose = 'retrain'")[0]
    assert json.loads(body)["version"] == "9"
    assert n_read(config) == len(log)
    written = [file for file in config.parent.rglob("*") if file.is_file() and file.name != config.name]
    assert {DATABASE, log_file.name} <= {file.name for file in written}
    for secret in (TOKEN, SECRET, SECRET.removeprefix("whsec_")):
        assert not any(secret.encode() in file.read_bytes() for file in written)


def test_a_reload_tells_nothing_again_and_the_daily_digest_comes(
    real_broker: Any, setting: Setting, log: list[dict[str, Any]]
):
    real_broker.create_topic(setting.topic, partitions=2)
    config = setting.configure(real_broker.bootstrap_servers, "10d")
    setting.produce(log, 2)
    log_file = config.with_suffix(".log")
    with running(config) as child:
        until(lambda: settled(config, len(log)), child)
        (told,) = setting.slack.messages.values()
        before = (told.text, len(told.edits), len(told.replies), dict(setting.ci.runs))
        at = time.strftime("%H:%M", time.gmtime(time.time() + 75))
        config.write_text(f'{config.read_text()}[alert]\ndigest = "{at}"\n')
        child.send_signal(signal.SIGHUP)
        until(lambda: log_file.read_text().count("driftd is running") == 2, child)
        until(lambda: len(setting.slack.messages) == 2, child, 120)
        until(lambda: settled(config, len(log)), child)
        child.send_signal(signal.SIGTERM)
        assert child.wait(15) == 0
    assert (told.text, len(told.edits), len(told.replies), setting.ci.runs) == before
    (_, digest) = setting.slack.messages.values()
    (incident,) = [identity for (identity,) in query(config, "SELECT id FROM incidents")]
    assert incident in json.dumps(digest.blocks)
    assert query(config, "SELECT channel FROM outbox WHERE purpose = 'digest'") == [("alerts",)]


def test_what_is_missing_stops_the_start_with_78_and_all_of_it(tmp_path: Path):
    config = tmp_path / "driftd.toml"
    config.write_text(
        CONFIG.format(
            servers='["localhost:1"]',
            state="s",
            topic="t",
            window="1h",
            slack="http://localhost:1/",
            ci="http://localhost:1",
        )
    )
    environment = {name: value for name, value in os.environ.items() if name != "TEST_SLACK_TOKEN"}
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "run", "--config", str(config)], capture_output=True, text=True, timeout=60,
        env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    for words in ("driftd reference build", "TEST_SLACK_TOKEN is not set", "hook_secret cannot be read"):
        assert words in done.stderr
    assert not (tmp_path / "state").exists()
