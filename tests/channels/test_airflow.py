"""Retraining calls to a real Airflow, where one is installed (`make airflow`): one run for each trigger."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from monitor.channels import REGISTRY, Attempt, Channel, Refused, Sent
from monitor.channels.airflow import run_id
from tests.bodies import make_notice, make_retrain
from tests.ports import free_port

PROGRAM = Path(os.environ.get("DRIFTD_AIRFLOW", ""))
USER, PASSWORD = "driftd", "canary-password-of-airflow"
DAG = """
from airflow.sdk import DAG, task

with DAG("retrain", schedule=None):

    @task
    def train():
        pass

    train()
"""
START_SECONDS = 600


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not PROGRAM.is_file():
        pytest.skip("DRIFTD_AIRFLOW names no Airflow; `make airflow` installs one and runs this")
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    (home / "dags" / "retrain.py").write_text(DAG)
    (home / "passwords.json").write_text(json.dumps({USER: PASSWORD}))
    settings = {
        "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
    }  # fmt: skip
    environment = {**os.environ, **settings}
    for words in (["db", "migrate"], ["dags", "reserialize"]):
        subprocess.run([PROGRAM, *words], env=environment, check=True, capture_output=True, timeout=START_SECONDS)
    port = free_port()
    words = ["api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (home / "api.log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, *words], env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready(url):
            assert process.poll() is None, (home / "api.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v2/version", trust_env=False, timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def channel(url: str, dag: str = "retrain", password: str = PASSWORD) -> Channel:
    cls = REGISTRY["airflow"]
    options = {"url": url, "dag": dag, "user": USER, "password_file": "p", "allow_private": True, "timeout": 60.0}
    return cls("dags", cls.Options.model_validate(options), {"password": password})


def runs(url: str) -> dict[str, object]:
    """Every run of the DAG with what it was given, as Airflow itself tells."""
    login = httpx.post(f"{url}/auth/token", json={"username": USER, "password": PASSWORD}, trust_env=False, timeout=60)
    mark = {"authorization": f"Bearer {login.json()['access_token']}"}
    found = httpx.get(f"{url}/api/v2/dags/retrain/dagRuns", headers=mark, trust_env=False, timeout=60).json()
    return {run["dag_run_id"]: run["conf"] for run in found["dag_runs"]}


def test_a_trigger_starts_one_run_that_carries_its_evidence(airflow: str):
    body = make_retrain(trigger="credit-7 é/retrain")
    notice = make_notice(body)
    for attempt in (1, 2):  # the second is refused as a repeat, which counts as done
        assert channel(airflow).send(notice, Attempt(number=attempt)) == Sent(run_id(body.trigger))
    found = runs(airflow)
    assert list(found) == [run_id(body.trigger)]
    conf = found[run_id(body.trigger)]
    assert isinstance(conf, dict)
    assert (conf["trigger"], conf["model"], len(conf["columns"])) == (body.trigger, body.model, len(body.columns))


def test_a_wrong_password_or_name_is_for_a_person_to_mend(airflow: str):
    notice = make_notice(make_retrain(trigger="other"))
    for opened in (channel(airflow, password="wrong"), channel(airflow, dag="no-such-dag")):
        outcome = opened.send(notice, Attempt())
        assert isinstance(outcome, Refused), outcome
    assert "other" not in runs(airflow)
