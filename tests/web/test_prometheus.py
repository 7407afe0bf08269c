"""A real Prometheus scrapes the service, and what is shipped for it works on what it scraped."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.test_observability import FOLDER, NAME, expressions
from tests.waiting import until
from tests.web.world import TOKEN, World

CONFIG = """
global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: driftd
    authorization: {{credentials_file: "{token}"}}
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """Prometheus' own API, at an address."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=10, trust_env=False)

    def ask(self, path: str, **query: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=query).json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]

    def close(self) -> None:
        self._client.close()

    def is_up(self) -> bool:
        try:
            if self._client.get("/-/ready").status_code != 200:
                return False
            return bool(self.ask("query", query='up{job="driftd"} == 1')["result"])
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def prometheus(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has scraped the service."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus, of Debian's package of that name, is not here")
    home = tmp_path_factory.mktemp("prometheus")
    (home / "token").write_text(TOKEN)
    target = world.url.removeprefix("http://")
    (home / "prometheus.yml").write_text(
        CONFIG.format(rules=FOLDER.resolve() / "rules.yml", token=home / "token", target=target)
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [program, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/tsdb"]
    with (home / "log").open("wb") as said:
        process = subprocess.Popen([*command, f"--web.listen-address={listen}"], stdout=said, stderr=said)
    found = Prometheus(f"http://{listen}")
    try:
        until(found.is_up, 30)
        yield found
    finally:
        found.close()
        process.terminate()
        process.wait(20)
    assert "err=" not in (home / "log").read_text()


def scraped(world: World) -> str:
    with world.client() as client:
        return client.get("/metrics").text


def test_every_metric_that_is_used_is_in_a_live_scrape(world: World):
    there = set(NAME.findall(scraped(world)))
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    assert used <= there, used - there


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Debian's package prometheus, is not here")
def test_promtool_has_nothing_to_say_of_a_live_scrape(world: World):
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=scraped(world).encode(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_prometheus_counts_what_the_service_counted(world: World, prometheus: Prometheus):
    with world.history() as history:
        wanted = {model.model: model.counts.rows for model in history.status().models}
    found = prometheus.ask("query", query="driftd_rows_total")["result"]
    assert {sample["metric"]["model"]: float(sample["value"][1]) for sample in found} == wanted
    progress = prometheus.ask("query", query="time() - driftd_loop_last_progress_timestamp_seconds")["result"]
    assert float(progress[0]["value"][1]) < 60


def test_the_rules_are_taken_and_nothing_is_wrong_with_a_service_that_is_well(prometheus: Prometheus):
    def evaluated() -> Any:
        (group,) = prometheus.ask("rules")["groups"]
        return group["rules"] if all(rule["health"] != "unknown" for rule in group["rules"]) else None

    for rule in until(evaluated, 30):
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]
    firing = prometheus.ask("query", query='ALERTS{alertstate="firing"}')["result"]
    assert firing == []


def test_every_panel_of_the_dashboard_is_a_question_that_prometheus_answers(prometheus: Prometheus):
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for panel in panels:
        prometheus.ask("query", query=panel.replace("$model", ".*"))


def test_a_scrape_without_the_token_is_refused_where_others_ask(world: World):
    with world.client() as client:
        assert client.get("/metrics", headers={"Host": "driftd.example"}).status_code == 401
        assert client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
