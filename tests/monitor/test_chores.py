"""Housekeeping of a configuration: references on the disk are looked at, signs of life given while all is well."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from detectors import Kind
from monitor import schedule
from monitor.channels import Tools
from monitor.chores import Estate, Place, housekeeping, look_at
from monitor.config import Config
from monitor.config import Heartbeat as Table
from monitor.daemon import Outside
from monitor.demo.standins import Answer, Received, StandIn, drop_after_receipt, redirect, status
from monitor.errors import HeartbeatFault
from monitor.heartbeat import Heartbeat
from monitor.reference import seal
from monitor.store import Store
from tests.monitor.test_metrics import values

URL = "canary-2f6e"


class Watcher(StandIn):
    def _apply(self, request: Received) -> Answer:
        return Answer(200)


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    with Watcher() as standin:
        yield standin


def sealed(directory: Path, n_rows: int) -> str:
    return seal(pd.DataFrame({"x": range(n_rows)}), {"x": Kind.NUMERIC}, directory).id


def test_a_reference_that_was_built_anew_or_is_damaged_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = Outside()
    places = {name: Place(tmp_path / name, sealed(tmp_path / name, 100)) for name in ("a", "b", "c", "d")}

    def look() -> dict[str, float]:
        caplog.clear()
        look_at(places, outside)
        found = values(outside.metrics)
        return {name[1]: value for name, value in found.items() if name[0] == "driftd_reference_outdated"}

    assert set(look().values()) == {0}
    assert not caplog.records
    other = sealed(tmp_path / "b", 200)
    (tmp_path / "c" / "profile.bin").write_bytes(b"damaged")
    (tmp_path / "d" / "reference.json").unlink()
    assert look() == {"a": 0, "b": 1, "c": 1, "d": 1}
    told = {record.model: record.getMessage() for record in caplog.records}
    assert {record.event for record in caplog.records} == {"reference.outdated"}
    assert other[:12] in told["b"]
    assert "the next reload or start will fail" in told["c"]
    assert "reference build" in told["d"]
    sealed(tmp_path / "b", 100)
    assert look()["b"] == 0


def heart(url: str) -> Heartbeat:
    return Heartbeat(Table(url_file="beat", every="10s", allow_private=True), {"url": url})


def test_a_heartbeat_is_a_post_and_one_that_is_not_taken_is_a_fault_without_its_address(watcher: Watcher) -> None:
    own = heart(f"{watcher.url}/{URL}")
    own.beat()
    (request,) = watcher.requests
    assert (request.method, request.path, request.body) == ("POST", f"/{URL}", b"")
    for fault in (status(503), status(404), redirect("http://169.254.169.254/"), drop_after_receipt()):
        watcher.order(fault)
        with pytest.raises(HeartbeatFault) as told:
            own.beat()
        assert URL not in str(told.value)
    forbidden = Tools(resolve=lambda _: ["169.254.169.254"])
    table = Table(url_file="beat", every="10s")
    with pytest.raises(HeartbeatFault):
        Heartbeat(table, {"url": "https://beats.example/x"}, forbidden).beat()
    for wrong in (f"http://10.0.0.1/{URL}", f"https://beats.example:{URL}", URL):
        with pytest.raises(ValueError, match="will not be called") as unfit:
            Heartbeat(table, {"url": wrong})
        assert URL not in str(unfit.value)


def test_hearts_beat_only_while_the_service_is_ready(
    watcher: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "SOON_SECONDS", 0.05)
    outside, store = Outside(), Store(tmp_path / "state")
    own = heart(watcher.url)
    own.every_ms = 50
    keeper = housekeeping(Estate(Config.model_construct(), tmp_path / "state", {}, own), store, outside)
    keeper.start()
    try:
        time.sleep(0.5)
        assert not watcher.requests
        outside.health.came_round(1, True)
        deadline = time.monotonic() + 30
        while len(watcher.requests) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        keeper.stop()
    while not outside.inbox.chores.empty():
        outside.inbox.chores.get()(None, store)  # type: ignore[arg-type]
    assert {"heartbeat", "references", "memory", "retention", "backup"} <= store.jobs().keys()
    store.close()
