"""Planted secrets turn up nowhere: database, logs, messages, metrics, pages, API, commands, reports."""

from __future__ import annotations

import base64
import html
import logging
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from typer.testing import CliRunner

from monitor.cli import app
from monitor.demo.standins import redirect
from monitor.logs import Objects
from tests.waiting import until
from tests.web.test_act import configured
from tests.web.test_api import BEARER, call_back
from tests.web.world import CALLBACK, CONFIG, SECRET, TOKEN, World, read_up, running

SECRETS = (TOKEN, SECRET, SECRET.removeprefix("whsec_"), CALLBACK, "canary-of-kafka", "canary-of-slack")
N_PAGES = 150
MORE = """
[[channel]]
name = "chat"
kind = "slack"
channel = "#a"
token_env = "TEST_CANARY_SLACK"
base_url = "http://127.0.0.1:9"
allow_private = true
"""


def forms(secret: str) -> set[bytes]:
    """A secret as it may be written."""
    plain = secret.encode()
    coded = base64.b64encode(plain).decode().rstrip("=")
    return {plain, quote(secret, safe="").encode(), coded.encode(), plain.hex().encode()}


def found_in(places: Iterator[tuple[str, bytes]]) -> tuple[list[str], list[str]]:
    """Where a secret stands, and every place that was searched."""
    searched, wrong = [], []
    for place, content in places:
        searched.append(place)
        wrong += [f"{place}: {form!r}" for secret in SECRETS for form in forms(secret) if form in content]
    return wrong, searched


def pages(client: httpx.Client) -> Iterator[tuple[str, bytes]]:
    """Every page that the overview leads to, as somebody sees it who has logged in."""
    client.post("/login", data={"name": "ana", "token": TOKEN, "next": "/"})
    todo, known = deque(["/"]), {"/"}
    while todo:
        place = todo.popleft()
        answer = client.get(place)
        assert answer.status_code == 200, place
        yield f"page {place}", answer.content + str(answer.headers).encode()
        for link in map(html.unescape, re.findall(r'href="(/[^"#]*)', answer.text)):
            if link not in known and "logout" not in link and len(known) < N_PAGES:
                known.add(link)
                todo.append(link)


def api(client: httpx.Client) -> Iterator[tuple[str, bytes]]:
    for place in ("status", "models", "incidents", "triggers", "outbox", "silences", "dead-letters"):
        yield f"api {place}", client.get(f"/api/{place}", headers=BEARER).content
    for place in ("/metrics", "/healthz", "/readyz", "/api/schema/openapi.json"):
        yield place, client.get(place).content


def commands(world: World) -> Iterator[tuple[str, bytes]]:
    file = str(configured(world))
    incident = world.incident()
    for words in (
        ["check-config", file], ["status", "--config", file, "--json"], ["alerts", "--config", file, "--all"],
        ["explain", incident, "--config", file, "--json"], ["triggers", "--config", file, "--json"],
        ["outbox", "list", "--config", file, "--json"],
        ["test-trigger", "retrain-job", "--config", file, "--dry-run"], ["test-alert", "chat", "--config", file],
    ):  # fmt: skip
        result = CliRunner().invoke(app, words)
        yield f"command {words[0]}", (result.output + repr(result.exception)).encode()


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in folder.rglob("*"):
        if file.is_file():
            yield f"file {file.name}", file.read_bytes()


def test_no_secret_is_seen_anywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEST_CANARY_SLACK", "xoxb-canary-of-slack")
    monkeypatch.setenv("TEST_CANARY_KAFKA", "canary-of-kafka")
    kafka = 'sasl_plain_password_env = "TEST_CANARY_KAFKA"\nsasl_plain_username = "driftd"\n[state]'
    monkeypatch.setattr("tests.web.world.CONFIG", CONFIG.replace("[state]", kafka, 1))
    seen: list[tuple[str, bytes]] = []
    with running(tmp_path, MORE) as world:
        until(lambda: read_up(world))
        with world.client() as client:
            trigger = client.get("/api/triggers").json()[0]["id"]
            # The job's own answer shows what it was sent, and leads elsewhere with it.
            world.hook.order(*[redirect(f"https://elsewhere.example/{secret}") for secret in SECRETS[:1]])
            client.post(f"/api/triggers/{trigger}/approve", json={"by": "ana"}, headers=BEARER)
            until(lambda: client.get("/api/outbox?state=dead").json())
            client.post("/api/outbox/replay", json={"notice": trigger, "by": "ana"}, headers=BEARER)
            until(lambda: trigger in world.hook.runs)
            assert call_back(client, trigger, {"status": "started"}, secret=SECRET).status_code == 401
            assert call_back(client, trigger, {"status": "started"}).status_code == 200
            client.get("/api/status", headers={"Authorization": f"Bearer {TOKEN}x"})
            client.post(f"/incidents/{world.incident()}/report/new", headers=BEARER)
            seen += [*pages(client), *api(client)]
        seen += commands(world)
        seen += [(f"message {i}", request.body) for i, request in enumerate(world.hook.requests)]
    seen += files(tmp_path / "state")
    seen += [("log", Objects(journal=False).format(record).encode()) for record in caplog.records]
    wrong, searched = found_in(iter(seen))
    assert wrong == []
    kinds = {place.split(" ")[0] for place in searched}
    assert kinds >= {"page", "api", "command", "message", "file", "log", "/metrics"}
    assert sum(place.startswith("page") for place in searched) > 20


def test_a_secret_that_is_written_would_be_found():
    for secret in SECRETS:
        for form in forms(secret):
            wrong, _ = found_in(iter([("here", b"x" + form + b"y")]))
            assert wrong
