"""What surrounds the daemon in the demo: a broker, a producer with a real log, and stand-ins for Slack and CI."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from monitor.demo.standins.slack import SlackStandIn
from monitor.demo.standins.webhook import WebhookStandIn
from monitor.reference import kinds_of, seal
from monitor.sources.embedded import PARTITIONS, EmbeddedBroker

if TYPE_CHECKING:
    import pandas as pd

TOPIC: Final = "predictions"
GENTLER: Final = 20
"""How many times longer the log takes when it is produced again."""
PREDICTION, SCORE, TIME, ID = "y_pred", "y_pred_proba", "timestamp", "id"

CONFIG: Final = """\
# Written by `driftd demo`. The broker and the two receivers lived inside the demo's own process.
[kafka]
bootstrap_servers = {servers}
api_version = [2, 0]          # the embedded broker promises more than it keeps
idle_timeout = "5s"

[state]
directory = "state"
checkpoint = "1s"

[[model]]
name = "{model}"
version = "1"
topics = ["{topic}"]
reference = "reference"
window = "10d"
lateness = "1d"

  [model.fields]
  id = "id"
  timestamp = "timestamp"
  prediction = "y_pred"
  score = "y_pred_proba"
  features = "features"

[[channel]]
name = "ml-alerts"
kind = "slack"
channel = "#ml-alerts"
token_env = "DRIFTD_DEMO_SLACK_TOKEN"
base_url = "{slack}"
allow_private = true

[[channel]]
name = "retrain-job"
kind = "webhook"
url = "{ci}/hooks/retrain"
allow_private = true
secret_env = "DRIFTD_DEMO_WEBHOOK_SECRET"

[[retrain]]
model = "{model}"
channel = "retrain-job"
mode = "auto"

[http]
listen = "127.0.0.1:{port}"
token_env = "DRIFTD_DEMO_HTTP_TOKEN"
"""


class World:
    """Everything around the daemon, from entering the context until leaving it; its files stay."""

    model: Final = "car-loan"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / "state"
        self.config_file = home / "driftd.toml"
        self.log_file = home / "driftd.log"
        token, secret = secrets.token_hex(16), secrets.token_hex(16)
        self.token, self.port = secrets.token_urlsafe(16), _free_port()
        self.secrets = {
            "DRIFTD_DEMO_SLACK_TOKEN": f"xoxb-{token}",
            "DRIFTD_DEMO_WEBHOOK_SECRET": secret,
            "DRIFTD_DEMO_HTTP_TOKEN": self.token,
        }
        self.slack = SlackStandIn(f"xoxb-{token}")
        self.ci = WebhookStandIn(secret)
        self.broker = EmbeddedBroker()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for part in (self.broker, self.slack, self.ci):
            self._stack.enter_context(part)
        self.broker.create_topic(TOPIC)
        text = CONFIG.format(
            servers=json.dumps(self.broker.bootstrap_servers), model=self.model, topic=TOPIC, slack=self.slack.api_url,
            ci=self.ci.url, port=self.port,
        )  # fmt: skip
        self.config_file.write_text(text)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def seal(self) -> str:
        """Seal the reference; says what it is."""
        frame = table("reference").drop(columns=[ID, TIME])
        reference = seal(frame, kinds_of(frame, {}), self.home / "reference")
        return f"{reference.profile.n_rows:,} rows, {reference.bins.n_columns} columns, id {reference.id[:12]}"


class Producer:
    """Sends the log to the broker in its order, at an even pace, in a thread.

    forever: begin again after the end, later in event time and at a gentler pace, until the context is left or the
    log has reached the present.
    """

    def __init__(self, world: World, seconds: float, *, forever: bool = False) -> None:
        self._records = [_record(row) for row in table("log").to_dict("records")]
        self._producer = world.broker.producer()
        self._seconds = seconds
        self._forever = forever
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="producer")
        self.n_rows = len(self._records)
        self.n_sent = 0

    @property
    def is_done(self) -> bool:
        """Whether the whole log was sent; never when it begins again for ever."""
        return not self._forever and self.n_sent >= self.n_rows

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        span_ms = self._records[-1][TIME] - self._records[0][TIME] + 1000
        began, shift_ms, seconds, n_before = time.monotonic(), 0, self._seconds, 0
        while not self._stop.is_set() and self._records[-1][TIME] + shift_ms < time.time() * 1000:
            for record in self._records:
                due = began + (self.n_sent - n_before) * seconds / self.n_rows
                while (wait := due - time.monotonic()) > 0 and not self._stop.is_set():
                    time.sleep(min(wait, 0.05))
                if self._stop.is_set():
                    return
                value = msgspec.json.encode({**record, TIME: record[TIME] + shift_ms})
                self._producer.produce(TOPIC, value, partition=self.n_sent % PARTITIONS)
                self._producer.poll(0)
                self.n_sent += 1
            self._producer.flush(10)
            if not self._forever:
                return
            shift_ms += span_ms
            began, seconds, n_before = time.monotonic(), self._seconds * GENTLER, self.n_sent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def table(name: str) -> pd.DataFrame:
    """One of the demo's tables: "reference" or "log"."""
    import pandas as pd

    with as_file(files("monitor.demo") / "data" / f"{name}.parquet") as file:
        return pd.read_parquet(file)


def _record(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row as a service would log it."""
    own = {ID, TIME, PREDICTION, SCORE}
    return {
        ID: row[ID],
        TIME: int(row[TIME].timestamp() * 1000),
        PREDICTION: row[PREDICTION],
        SCORE: row[SCORE],
        "features": {name: value for name, value in row.items() if name not in own},
    }
