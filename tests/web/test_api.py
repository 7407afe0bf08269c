"""The JSON API on a service as it runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitor.channels.webhook import keys, mistrust, signed
from monitor.config import Config
from monitor.decision import Outcome
from monitor.errors import ConfigError
from monitor.page import door
from tests.waiting import until
from tests.web.world import CALLBACK, MODELS, NAMES, SECRET, TOKEN, World

ROOT = Path(__file__).parents[2]
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def call_back(client: httpx.Client, trigger: str, body: dict[str, Any], **changes: Any) -> httpx.Response:
    """A job's signed call-back."""
    content = json.dumps(body).encode()
    secret, at = changes.get("secret", CALLBACK), changes.get("at", int(time.time()))
    headers = signed(keys(secret), changes.get("message", trigger), at, content) | {"content-type": "application/json"}
    return client.post(f"/api/triggers/{trigger}", content=changes.get("sent", content), headers=headers)


def test_what_is_read_is_what_the_history_says(world: World):
    with world.client() as client, world.history() as history:
        status = client.get("/api/status").json()
        assert [model["model"] for model in status["models"]] == [*MODELS] == client.get("/api/models").json()
        assert status["models"][0]["counts"]["rejected"] == {"not_json": 10}
        incident = client.get(f"/api/incidents/{world.incident()}").json()
        assert incident["incident"]["columns"] == list(history.explain(world.incident()).incident.columns)
        assert {entry["model"] for entry in client.get("/api/incidents").json()} == set(MODELS)
        assert client.get("/api/models/segmented/segments").json()[:2] == ["all", "size_of_downpayment=0%"]
        assert len(client.get("/api/dead-letters").json()["letters"]) == 20
        assert "<html>" in client.get("/api/dead-letters").json()["letters"][0]["head"]


def test_what_is_told_at_a_glance_is_what_the_windows_say(world: World):
    with world.history() as history:
        assert len(history.status().models) == len(MODELS)
        for model in history.status().models:
            windows = [window for window in history.windows(model.model) if window.index >= 0]
            told = [tuple(window.outcomes.get(outcome, 0) for outcome in Outcome) for window in windows]
            assert model.last_window == (windows[-1] if windows else None)
            assert history.outcomes(model.model, 3) == told[-3:]
            assert history.outcomes(model.model, 1_000) == told


def test_windows_come_in_pages(world: World):
    with world.client() as client, world.history() as history:
        seen, before = [], None
        while True:
            query = {"limit": 7} | ({"before": before} if before is not None else {})
            page = client.get("/api/models/car-loan/windows", params=query).json()
            seen = [window["index"] for window in page["windows"]] + seen
            before = page["before"]
            if before is None:
                break
        assert seen == [window.index for window in history.windows("car-loan")] == list(range(len(seen)))


@pytest.mark.parametrize("name", NAMES)
def test_a_column_of_any_name_has_its_history(world: World, name: str):
    with world.client() as client:
        found = client.get("/api/models/odd/history", params={"column": name}).json()
    assert found["column"] == name
    assert len(found["points"]) == 15
    assert len(found["reference"]) == len(found["labels"]) == 5
    assert any(point["outcome"] == "drift" for point in found["points"]) is (name != NAMES[-1])


def test_verdicts_of_a_window(world: World):
    with world.client() as client:
        verdicts = client.get("/api/models/odd/windows/10/verdicts").json()
        assert [verdict["column"] for verdict in verdicts] == list(NAMES)
        assert client.get("/api/models/odd/windows/1000/verdicts").status_code == 404


def test_what_is_not_there_is_404_and_says_so(world: World):
    with world.client() as client:
        for path in ("/api/incidents/none", "/api/triggers/none", "/api/models/odd/history?column=none", "/api/none"):
            answer = client.get(path)
            assert answer.status_code == 404, path
            assert answer.json()["detail"]


def test_reading_needs_the_token_where_others_may_ask(world: World):
    with world.client() as client:
        for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "203.0.113.9"}):
            assert client.get("/api/status", headers=headers).status_code == 401
            assert client.get("/api/schema/openapi.json", headers=headers).status_code == 401
            assert client.get("/metrics", headers=headers).status_code == 401
            assert client.get("/api/status", headers=headers | BEARER).status_code == 200
            health = client.get("/readyz", headers=headers)
            assert (health.status_code, set(health.json()["checks"].values())) == (200, {"ok"})


def test_changing_needs_the_token(fresh: World):
    path = f"/api/incidents/{fresh.incident()}/acknowledge"
    with fresh.client() as client:
        assert client.post(path, json={"by": "ana"}).status_code == 401
        assert client.post(path, json={"by": "ana"}, headers={"Authorization": "Bearer no"}).status_code == 401
        assert client.post(path, json={"by": " "}, headers=BEARER).status_code == 400
        answer = client.post(path, json={"by": "ana"}, headers=BEARER)
        assert (answer.status_code, answer.json()["done"]) == (200, True)
        with fresh.history() as history:
            change = history.explain(fresh.incident()).changes[-1]
        assert (change.change, change.episode.acknowledged.by) == ("acknowledged", "ana")
        for _ in range(9):
            client.post(path, json={"by": "ana"}, headers={"Authorization": "Bearer no"})
        flooded = client.post(path, json={"by": "ana"}, headers={"Authorization": "Bearer no"})
        assert flooded.status_code == 429
        assert int(flooded.headers["retry-after"]) > 0
        assert client.get("/api/status").status_code == 200


def test_an_incidents_whole_life(fresh: World):
    incident = fresh.incident("odd")
    with fresh.client(headers=BEARER) as client:
        assert client.post(f"/api/incidents/{incident}/snooze", json={"by": "ana", "hours": 2}).json()["done"]
        made = client.post("/api/silences", json={"by": "ana", "comment": "known", "hours": 1, "model": "odd"}).json()
        assert made == {"done": True, "words": "s1"}
        assert [silence["comment"] for silence in client.get("/api/silences").json()] == ["known"]
        assert client.post("/api/silences/s1/expire", json={"by": "bo"}).json()["done"]
        assert client.get("/api/silences").json() == []
        again = client.post("/api/silences/s1/expire", json={"by": "bo"})
        assert (again.status_code, again.json()["done"]) == (409, False)
        assert client.post(f"/api/incidents/{incident}/resolve", json={"by": "ana", "note": "new"}).json()["done"]
        assert client.get(f"/api/incidents/{incident}").json()["incident"]["state"] == "resolved"
        assert client.post(f"/api/incidents/{incident}/acknowledge", json={"by": "ana"}).status_code == 409


def test_the_retraining_loop_over_http(fresh: World):
    with fresh.client() as client:
        (trigger,) = client.get("/api/triggers").json()
        path = trigger["id"]
        assert trigger["step"] == "awaits_approval"
        assert call_back(client, path, {"status": "started"}).status_code == 409
        approved = client.post(f"/api/triggers/{path}/approve", json={"by": "ana"}, headers=BEARER)
        assert approved.json() == {"done": True, "words": "retrain-job is called"}
        until(lambda: path in fresh.hook.runs)
        assert call_back(client, path, {"status": "started"}).json()["words"] == "noted: started"
        for unfit in ("../../etc", "/etc", "references", "references/none", "references/\0"):
            refused = call_back(client, path, {"status": "succeeded", "version": "2", "reference": unfit})
            assert (refused.status_code, refused.json()["done"]) == (409, False), unfit
        done = call_back(client, path, {"status": "succeeded", "version": "2", "reference": "references/car-loan"})
        assert done.status_code == 200
        steps = [step["step"] for step in client.get(f"/api/triggers/{path}").json()["history"]]
        assert steps == ["awaits_approval", "called", "started", "succeeded"]


def test_the_step_of_a_job_that_the_documentation_shows_calls_back(fresh: World):
    (step,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "retraining.md").read_text(), re.DOTALL)
    with fresh.client() as client:
        trigger = client.get("/api/triggers").json()[0]["id"]
        client.post(f"/api/triggers/{trigger}/approve", json={"by": "ana"}, headers=BEARER)
        given = {"DRIFTD_URL": str(client.base_url).rstrip("/"), "DRIFTD_SECRET": CALLBACK, "TRIGGER_ID": trigger}
        words = ["bash", "-euo", "pipefail", "-c", step.replace("references/credit-4", "references/car-loan")]
        subprocess.run(words, env=os.environ | given | {"no_proxy": "*"}, check=True, timeout=60)
        found = client.get(f"/api/triggers/{trigger}").json()
        assert [step["step"] for step in found["history"]][-2:] == ["started", "succeeded"]
        assert (found["version"], found["reference"]) == ("4", "references/car-loan")


@pytest.mark.parametrize("kind", ["webhook", "log"])
def test_a_job_of_any_kind_has_a_key_of_its_own_or_that_of_its_webhook(tmp_path: Path, kind: str):
    (tmp_path / "own").write_text("of-the-job")
    (tmp_path / "hook").write_text("of-the-hook")
    more = {"url": "https://ci.example.com", "secret_file": "hook"} if kind == "webhook" else {}
    document: dict[str, Any] = {
        "model": [{"name": "m", "reference": "r"}],
        "channel": [{"name": "job", "kind": kind, **more}],
        "retrain": [{"model": "m", "channel": "job"}],
    }
    without = door(Config.model_validate(document), tmp_path).job_keys
    assert without == ({("m", "job"): (b"of-the-hook",)} if kind == "webhook" else {})
    document["retrain"][0]["callback_secret_file"] = "own"
    assert door(Config.model_validate(document), tmp_path).job_keys == {("m", "job"): (b"of-the-job",)}
    document["retrain"][0]["callback_secret_file"] = "none"
    with pytest.raises(ConfigError, match="callback_secret_file"):
        door(Config.model_validate(document), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": "whsec_YW5vdGhlciBzZWNyZXQgYWx0b2dldGhlcg=="},
        {"secret": SECRET},
        {"sent": b'{"status": "succeeded"}'},
        {"at": int(time.time()) - 3_600},
        {"at": int(time.time()) + 3_600},
    ],
)
def test_a_call_back_that_is_not_signed_by_the_job_is_refused(world: World, changes: dict[str, Any]):
    with world.client() as client:
        trigger = client.get("/api/triggers").json()[0]["id"]
        assert call_back(client, trigger, {"status": "failed"}, **changes).status_code == 401
        assert call_back(client, "none", {"status": "failed"}).status_code == 401
        assert client.post(f"/api/triggers/{trigger}", json={"status": "failed"}).status_code == 401
        assert client.get(f"/api/triggers/{trigger}").json()["step"] == "awaits_approval"


def test_a_call_back_for_one_trigger_is_none_for_another(world: World):
    with world.client() as client:
        trigger = client.get("/api/triggers").json()[0]["id"]
        for message in ("msg-1", f"{trigger}0", f"{trigger}.1", f"0/{trigger}", trigger[:-1], f"{trigger}-x/1"):
            refused = call_back(client, trigger, {"status": "started"}, message=message)
            assert (refused.status_code, "webhook-id" in refused.text) == (401, True), message
        for message in (trigger, f"{trigger}/started-1"):  # believed, but nobody has called the job yet
            assert call_back(client, trigger, {"status": "started"}, message=message).status_code == 409


@pytest.mark.parametrize("timestamp", ["", "-5", "1e9", "٣", "9" * 40])
def test_a_strange_timestamp_is_no_signature(timestamp: str):
    headers = {"webhook-id": "a", "webhook-timestamp": timestamp, "webhook-signature": "v1,x"}
    assert mistrust(keys(SECRET), headers, b"", 1e9)


def test_a_key_that_is_being_replaced_is_good_beside_the_new_one():
    headers = signed(keys("one"), "a", 1_000, b"x")
    assert mistrust(keys("two one"), headers, b"x", 1_000) == ""
    assert mistrust((), headers, b"x", 1_000)


def test_a_dead_notice_is_tried_again_or_dropped(fresh: World):
    with fresh.client(headers=BEARER) as client:
        sent = client.get("/api/outbox", params={"state": "sent"}).json()[0]["id"]
        assert client.post("/api/outbox/replay", json={"by": "ana", "notice": sent}).status_code == 409
        assert client.post("/api/outbox/drop", json={"by": "ana", "notice": "none"}).status_code == 409
        from monitor.demo.standins import status

        fresh.hook.order(status(400), status(400))
        client.post(f"/api/incidents/{fresh.incident()}/acknowledge", json={"by": "ana"})
        dead = until(lambda: client.get("/api/outbox", params={"state": "dead"}).json())[0]
        assert dead["reason"] == "HTTP 400"
        assert client.post("/api/outbox/replay", json={"by": "ana", "notice": dead["id"]}).json()["done"]
        dead = until(lambda: client.get("/api/outbox", params={"state": "dead"}).json())[0]
        assert client.post("/api/outbox/drop", json={"by": "ana", "notice": dead["id"]}).json()["done"]
        dropped = client.get("/api/outbox", params={"state": "dropped"}).json()
        assert [(one["id"], one["reason"]) for one in dropped] == [(dead["id"], "dropped by ana")]


def test_a_body_too_large_and_a_method_unknown(world: World):
    with world.client(headers=BEARER) as client:
        large = client.post("/api/silences", content=b"{" + b" " * 100_000 + b"}")
        assert large.status_code == 413
        assert client.put("/api/status").status_code == 405


def test_every_answer_makes_browsers_careful(world: World):
    with world.client() as client:
        for path in ("/api/status", "/none", "/healthz"):
            headers = client.get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers


def test_metrics_and_health(world: World):
    with world.client() as client:
        assert "driftd_windows_closed_total" in client.get("/metrics").text
        for path in ("/healthz", "/readyz", "/-/healthy", "/-/ready"):
            assert client.get(path).json()["ok"] is True
            assert client.head(path).status_code == 200
        assert client.post("/-/reload").status_code == 401
        assert client.post("/-/reload", headers=BEARER).status_code == 200
