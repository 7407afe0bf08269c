"""Schemas from outside the records: a registry over HTTP, a file, and what becomes of records while it is away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from detectors import Bins, Profile
from detectors.columns import Kind
from monitor.assembly import prepare
from monitor.batch import NO_TIME, Partition, Records
from monitor.check import Reference
from monitor.config import Config
from monitor.daemon import Daemon, Outside, Pace
from monitor.engine import Engine
from monitor.errors import ConfigError, SourceError
from monitor.line import Line, Saved
from monitor.outbox import Courier
from monitor.reference import seal
from monitor.sources.registry import Registry, SchemaFile
from monitor.store import Store
from tests.monitor.stand_in import Silent
from tests.monitor.test_decode_formats import SCHEMA, avro, row

ANSWERS: dict[str, tuple[int, Any]] = {
    "/schemas/ids/7": (200, {"schema": json.dumps(SCHEMA)}),
    "/schemas/ids/8": (404, {"error_code": 40403}),
    "/schemas/ids/9": (200, {"schema": "syntax", "schemaType": "PROTOBUF"}),
    "/schemas/ids/10": (200, {"schema": "{}", "references": [{"name": "other"}]}),
    "/schemas/ids/11": (200, []),
    "/schemas/ids/12": (503, {}),
    "/schemas/ids/13": (200, b"[" * 200_000),
    "/schemas/ids/14": (200, b"<html>welcome to the proxy</html>"),
}


class Stand(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body = ANSWERS[self.path]
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def stand() -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Stand,), {"asked": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", handler.asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_registry_gives_schemas_by_number(stand: tuple[str, list[str]]):
    assert json.loads(Registry(stand[0])(7)) == SCHEMA


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (8, "none of this number"),
        (9, "PROTOBUF"),
        (10, "references"),
        (11, "no schema"),
        (13, "no schema"),
        (14, "no schema"),
    ],
)
def test_what_a_registry_does_not_have(stand: tuple[str, list[str]], number: int, words: str):
    with pytest.raises(LookupError, match=words):
        Registry(stand[0])(number)


def test_an_unknown_number_is_not_asked_for_again_at_once(stand: tuple[str, list[str]]):
    registry = Registry(stand[0])
    for _ in range(3):
        with pytest.raises(LookupError):
            registry(8)
    assert stand[1] == ["/schemas/ids/8"]


def test_a_registry_that_is_away_is_no_fault_of_the_records(stand: tuple[str, list[str]]):
    with pytest.raises(SourceError, match="503"):
        Registry(stand[0])(12)
    with pytest.raises(SourceError, match="does not answer"):
        Registry("http://127.0.0.1:9")(7)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('format = "avro"', "neither"),
        ('format = "avro"\nschema_file = "s.avsc"\nschema_registry = "http://r"', "both"),
        ('format = "avro"\nschema_file = "absent.avsc"', "cannot be used"),
        ('format = "avro"\nschema_registry = "ftp://r"', "http"),
        ('schema_file = "s.avsc"', "no use for it"),
        ('segments = ["plam"]', "found none of that name"),
    ],
)
def test_wrong_configurations_are_told_before_anything_starts(tmp_path: Path, lines: str, words: str):
    from monitor.cli import read_config

    seal(pd.DataFrame({"age": np.arange(100.0)}), {"age": Kind.NUMERIC}, tmp_path / "ref")
    (tmp_path / "s.avsc").write_text(json.dumps(SCHEMA))
    file = tmp_path / "driftd.toml"
    file.write_text(
        '[kafka]\nbootstrap_servers = ["localhost:1"]\n[state]\ndirectory = "state"\n'
        f'[[model]]\nname = "m"\ntopics = ["t"]\nreference = "ref"\n{lines}\n'
    )
    with pytest.raises(ConfigError, match=words):
        prepare(file, read_config(file))


def test_a_schema_file_serves_every_number(tmp_path: Path):
    (tmp_path / "s.avsc").write_text(json.dumps(SCHEMA))
    assert json.loads(SchemaFile(tmp_path / "s.avsc")(99)) == SCHEMA


class Log(Silent):
    """One partition of records, read a few at a time from wherever it is sought."""

    def __init__(self, values: list[bytes]) -> None:
        super().__init__(Partition("t", 0))
        self._values, self._at = values, 0
        self.partition = Partition("t", 0)

    def poll(self, timeout_seconds: float) -> Sequence[Records]:
        found = []
        for _ in range(2):  # two answers for one partition, as one poll may bring
            part = self._values[self._at : self._at + 3]
            if part:
                offsets = np.arange(self._at, self._at + len(part), dtype=np.int64)
                self._at += len(part)
                found.append(Records(self.partition, offsets, np.full(len(part), NO_TIME), part, self._at))
        return found

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        self._at = offsets.get(self.partition, self._at)


def test_records_wait_for_a_registry_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("monitor.daemon.PAUSES", (0.0,))
    bins = Bins.of({"age": np.arange(100.0)}, {})
    model = {
        "name": "m", "topics": ("t",), "reference": "r", "format": "avro", "schema_registry": "http://r",
        "fields": {"timestamp": "ts", "features": "features"},
    }  # fmt: skip
    config = Config.model_validate({"model": (model,)})
    line = Line(config, config.model[0], Reference("r", bins, Profile.empty(bins)), Saved(), lambda *_: None)
    tries = iter(range(100))

    def away_at_first(number: int) -> str:
        if next(tries) < 3:
            raise SourceError("the schema registry does not answer")
        return json.dumps(SCHEMA)

    line.decoders[line.name].look_up(away_at_first)
    store = Store(tmp_path)
    source = Log(avro([row(i) for i in range(20)]))
    rounds = iter([True] * 40)
    daemon = Daemon(Engine([line]), source, store, Courier({}), Outside(), Pace(0.0, 60.0))
    daemon.run(lambda: next(rounds, False), lambda _: None)
    (window,) = store.load("m", line._shape, bins).open.values()
    store.close()
    assert window.n_rows == 20
    assert line.offsets == {source.partition: 20}
