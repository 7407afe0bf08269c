"""`driftd doctor`: what works says so, what does not is named, and nothing but marked tests goes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.demo.standins import status
from monitor.demo.standins.slack import SlackStandIn
from monitor.demo.standins.webhook import WebhookStandIn
from monitor.demo.world import table
from monitor.reference import kinds_of, seal
from tests.monitor.command import driftd
from tests.monitor.test_service import CONFIG, SECRET, TOKEN


@pytest.fixture
def place(
    embedded_broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, SlackStandIn, WebhookStandIn]]:
    frame = table("reference").drop(columns=["id", "timestamp"])
    seal(frame, kinds_of(frame, {}), tmp_path / "reference")
    (tmp_path / "hook_secret").write_text(SECRET)
    (tmp_path / "c").mkdir()
    monkeypatch.setenv("TEST_SLACK_TOKEN", TOKEN)
    embedded_broker.create_topic("doctor")
    servers = json.dumps(embedded_broker.bootstrap_servers) + "\napi_version = [2, 0]"
    with SlackStandIn(TOKEN) as slack, WebhookStandIn(SECRET) as ci:
        text = CONFIG.format(servers=servers, topic="doctor", window="1h", slack=slack.api_url, ci=ci.url)
        file = tmp_path / "c" / "driftd.toml"
        file.write_text(text)
        yield file, slack, ci


def test_the_whole_way_works_and_every_hop_has_its_time(place: tuple[Path, SlackStandIn, WebhookStandIn]):
    file, slack, ci = place
    done = driftd("doctor", "--config", file, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    hops = json.loads(done.stdout)
    assert all(hop["milliseconds"] > 0 for hop in hops)
    assert any(hop["name"].startswith("Kafka") and "doctor: 4 partitions" in hop["words"] for hop in hops)
    (message,) = slack.messages.values()
    assert "TEST" in message.text
    assert ci.runs == {}
    assert not (file.parent / "state").exists()


def test_what_does_not_work_is_named(place: tuple[Path, SlackStandIn, WebhookStandIn]):
    file, slack, _ = place
    slack.order(status(503))
    done = driftd("doctor", "--config", file)
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    file.write_text(file.read_text().replace('topics = ["doctor"]', 'topics = ["doctor"]\nformat = "json"'))
    (file.parent.parent / "hook_secret").unlink()
    done = driftd("doctor", "--config", file, "--no-send")
    assert done.returncode == 1
    assert "hook_secret cannot be read" in done.stdout
