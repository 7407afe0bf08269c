"""A service as it runs, with its page: all parts real but Kafka, whose records come from lists."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pandas as pd
import pytest

from monitor import assembly
from monitor.batch import NO_TIME, Partition, Records
from monitor.cli import read_config
from monitor.daemon import Outside
from monitor.demo.standins.webhook import WebhookStandIn
from monitor.demo.world import _record, table
from monitor.history import History
from monitor.page import Page
from monitor.reference import kinds_of, seal
from monitor.store import Store
from tests.monitor.stand_in import Silent

TOKEN = "a-token-of-thirty-two-characters"
CALLBACK = "signing-key-of-the-job"
SECRET = "whsec_c2lnbmluZy1rZXktY2FuYXJ5LW9mLTI0"
NAMES = ("<script>alert(1)</script>", "a'b&c > d", "x/../y?z#w%2F", "", "größe 📈")
"""Columns of the model `odd`: each is a name that some page could stumble over."""
MODELS = {"car-loan": "loans", "odd": "odd", "segmented": "loans"}
"""Models and their topics."""
CONFIG = """
[kafka]
bootstrap_servers = ["localhost:1"]
idle_timeout = "10h"
[state]
directory = "state"
checkpoint = "200ms"
[[model]]
name = "car-loan"
version = "1"
topics = ["loans"]
reference = "references/car-loan"
window = "10d"
lateness = "1d"
[model.fields]
id = "id"
timestamp = "timestamp"
prediction = "y_pred"
score = "y_pred_proba"
features = "features"
[[model]]
name = "segmented"
topics = ["loans"]
reference = "references/car-loan"
window = "60d"
segments = ["size_of_downpayment"]
[model.fields]
id = "id"
timestamp = "timestamp"
prediction = "y_pred"
score = "y_pred_proba"
features = "features"
[[model]]
name = "odd"
topics = ["odd"]
reference = "references/odd"
window = "200 rows"
[model.fields]
features = "features"
[[channel]]
name = "people"
kind = "log"
[[channel]]
name = "hook"
kind = "webhook"
allow_private = true
url = "{hook}/alerts"
secret_file = "secret"
[[channel]]
name = "retrain-job"
kind = "webhook"
allow_private = true
url = "{hook}/retrain"
secret_file = "secret"
[[route]]
channels = ["people", "hook"]
[[retrain]]
model = "car-loan"
channel = "retrain-job"
mode = "approve"
callback_within = "1h"
callback_secret_file = "callback_secret"
[http]
listen = "127.0.0.1:0"
token_file = "token"
"""


class ListSource(Silent):
    """Records from lists, in chunks."""

    logs: Mapping[Partition, list[bytes]] = {}
    path = "batch"

    def __init__(self, topics: Sequence[str], options: Any, **_: Any) -> None:
        self._at = {at: 0 for at in self.logs if at.topic in topics}
        super().__init__(*self._at)

    def poll(self, timeout_seconds: float) -> Sequence[Records]:
        found = []
        for at, offset in self._at.items():
            values = self.logs[at][offset : offset + 2_000]
            if values:
                offsets = np.arange(offset, offset + len(values), dtype=np.int64)
                times = np.full(len(values), NO_TIME)
                found.append(Records(at, offsets, times, values, offset + len(values)))
                self._at[at] = offset + len(values)
        if not found:
            time.sleep(min(timeout_seconds, 0.02))
        return found

    def caught_up(self) -> frozenset[Partition]:
        return frozenset(at for at, offset in self._at.items() if offset == len(self.logs[at]))

    def lag(self) -> Mapping[Partition, int]:
        return {at: len(self.logs[at]) - offset for at, offset in self._at.items()}

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        self._at.update({at: offset for at, offset in offsets.items() if at in self._at})


def odd_rows(n_rows: int, drift_from: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    numbers = rng.normal(size=(n_rows, len(NAMES)))
    numbers[drift_from:, :4] += 1.0
    return [dict(zip(NAMES, row, strict=True)) for row in numbers.tolist()]


def loan_records() -> list[bytes]:
    """The demo's log, with some records that cannot be read and some with a column that nobody expects."""
    records = []
    for i, row in enumerate(table("log").to_dict("records")):
        record = _record(row)
        if i % 10 == 0:
            record["features"]["campaign <b>"] = "spring"
        records.append(msgspec.json.encode(record))
        if i % 2_500 == 7:
            records.append(b'{"id": 7, "features": <html>')
    return records


@dataclass
class World:
    """home: of the configuration; url: of the page; hook: what receives alerts and retraining calls."""

    home: Path
    url: str
    hook: WebhookStandIn
    daemon: threading.Thread
    outside: Any

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def config_file(self) -> Path:
        return self.home / "driftd.toml"

    @contextmanager
    def history(self) -> Iterator[History]:
        history = History(self.state)
        yield history
        history.close()

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **options)

    def incident(self, model: str = "car-loan") -> str:
        with self.history() as history:
            return history.incidents(everything=True, model=model)[0].id


@contextmanager
def running(home: Path, more: str = "") -> Iterator[World]:
    """What `monitor.assembly` makes at work in a thread, until the context is left. more: tables of configuration."""
    frame = table("reference").drop(columns=["id", "timestamp"])
    seal(frame, kinds_of(frame, {}), home / "references" / "car-loan")
    odd = pd.DataFrame(odd_rows(4_000, 4_000))
    seal(odd, kinds_of(odd, {}), home / "references" / "odd")
    (home / "token").write_text(TOKEN)
    (home / "secret").write_text(SECRET)
    (home / "callback_secret").write_text(f"{CALLBACK}\n")
    odd_log = [msgspec.json.encode({"features": row}) for row in odd_rows(3_000, 1_400)]
    logs = {Partition("loans", 0): loan_records(), Partition("odd", 0): odd_log}
    with WebhookStandIn(SECRET) as hook, pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "KafkaSource", ListSource)
        patch.setattr(ListSource, "logs", logs)
        (home / "driftd.toml").write_text(CONFIG.format(hook=hook.url) + more)
        prepared = assembly.prepare(home / "driftd.toml", read_config(home / "driftd.toml"))
        outside = Outside()
        page = Page(outside, lambda: None)
        page.listen(prepared.config)
        store = Store(prepared.directory)
        daemon = assembly.assemble(prepared, store, outside)
        page.show(prepared.config, prepared.folder, prepared.directory, prepared.door)
        stop = threading.Event()
        thread = threading.Thread(target=daemon.run, args=(lambda: not stop.is_set(), lambda _: None))
        thread.start()
        host, port = page._server.address
        world = World(home, f"http://{host}:{port}", hook, thread, outside)
        try:
            yield world
        finally:
            stop.set()
            thread.join(20)
            page.close()
            store.close()


def read_up(world: World) -> bool:
    """Whether all records are read and committed, and the outbox has been tried."""
    with world.history() as history:
        status = history.status()
        logs = ListSource.logs
        wanted = sum(len(logs[at]) for at in logs for model in MODELS if MODELS[model] == at.topic)
        read = sum(model.counts.rows + sum(model.counts.rejected.values()) for model in status.models)
        return len(status.models) == len(MODELS) and read == wanted and not status.outbox.get("pending")
