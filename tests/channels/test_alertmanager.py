"""Alerts in a real Alertmanager, where one is installed: labels, severity, resolution; repeats change nothing."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitor.batch import Severity
from monitor.channels import REGISTRY, Attempt, Sent
from monitor.message import AlertBody
from tests.bodies import make_alert, make_notice
from tests.ports import free_port

PROGRAM = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if PROGRAM is None:
        pytest.skip("no Alertmanager is installed (Debian: prometheus-alertmanager)")
    home: Path = tmp_path_factory.mktemp("alertmanager")
    (home / "config.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    url = f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [PROGRAM, f"--config.file={home}/config.yml", f"--storage.path={home}", "--cluster.listen-address=",
         f"--web.listen-address={url.removeprefix('http://')}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not is_ready(url):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def firing(url: str, incident: str) -> list[dict[str, Any]]:
    """The alerts that the real one holds active about an incident."""
    found = httpx.get(f"{url}/api/v2/alerts", params={"filter": f'incident="{incident}"'}, trust_env=False).json()
    return [alert for alert in found if alert["status"]["state"] == "active"]


def test_an_incident_lives_and_ends_in_a_real_alertmanager(alertmanager: str) -> None:
    cls = REGISTRY["alertmanager"]
    channel = cls("ops", cls.Options(url=alertmanager, allow_private=True, labels={"team": "ml"}), {})

    def send(**changes: Any) -> list[dict[str, Any]]:
        body: AlertBody = make_alert(incident="credit-7", **changes)
        for _ in range(2):  # a repeat changes nothing
            assert channel.send(make_notice(body), Attempt()) == Sent()
        return firing(alertmanager, "credit-7")

    (opened,) = send()
    assert opened["labels"] == {
        "alertname": "ModelDrift", "model": "fraud", "incident": "credit-7", "severity": "warning", "team": "ml",
    }  # fmt: skip
    assert opened["startsAt"].startswith("2026-03-01T07:00:00")
    assert "amount" in opened["annotations"]["description"]
    (graver,) = send(severity=Severity.CRITICAL, change="updated")
    assert graver["labels"]["severity"] == "critical"
    assert send(severity=Severity.CRITICAL, state="resolved", change="resolved") == []


def test_the_largest_evidence_is_taken_by_a_real_alertmanager(alertmanager: str) -> None:
    cls = REGISTRY["alertmanager"]
    channel = cls("ops", cls.Options(url=alertmanager, allow_private=True), {})
    wild = '"\\&<>\x00\u202eä𝄞\n' * 3_000
    body = make_alert(incident="credit-8", summary=wild, title=wild, retraining=wild, version=wild, segment=wild)
    assert channel.send(make_notice(body), Attempt()) == Sent()
    assert len(firing(alertmanager, "credit-8")) == 1
