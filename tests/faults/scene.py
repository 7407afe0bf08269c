"""One case: a topic, a log, a daemon that comes to harm, receivers, and the judge at the end."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from broker.realbroker import RealBroker
from confluent_kafka import Producer

from faults import child, labels, letters
from faults.child import Harm, Plan
from faults.judge import GivenUp, Ruling, expected, found, judge
from faults.labels import LAG_MS, Later
from faults.ledger import LATENESS_MS, N_PARTITIONS, WINDOW_MS, Ledger, Record, world
from faults.proxy import Proxy
from faults.receivers import SECRET, TOKEN, Job, Receivers, Slack
from monitor.cli import read_config
from monitor.database import DATABASE
from monitor.frozen import unchecked
from monitor.line import LineState
from monitor.reference import unseal

SECONDS = 240.0
"""How long anything may take that is waited for; the machine may be busy with much else."""
# What waits by the wall clock waits longer than any jump of it: the judge knows event time alone.
CONFIG = """
[kafka]
bootstrap_servers = ["{servers}"]
idle_timeout = "1h"
reconnect_backoff_max_ms = 500
max_partition_fetch_bytes = 8192
{kafka}
[state]
directory = "state"
checkpoint = "100ms"
[[model]]
name = "loan"
topics = ["{topic}"]
reference = "{reference}"
window = "{window}ms"
lateness = "{lateness}ms"
decision = "family"
segments = ["plan"]
[model.fields]
id = "id"
timestamp = "ts"
{labels}
[[channel]]
name = "alerts"
kind = "slack"
channel = "#alerts"
token_file = "slack_token"
base_url = "{slack}"
allow_private = true
timeout = 2
picture = {picture}
[[channel]]
name = "job"
kind = "webhook"
url = "{ci}/hook"
allow_private = true
secret_file = "hook_secret"
timeout = 2
[[retrain]]
model = "loan"
channel = "job"
mode = "auto"
ttl = "3650d"
check_after = "3650d"
[alert]
repeat = "0s"
[http]
listen = "127.0.0.1:0"
"""


TURN, STANDING_BY = "it is this daemon's turn", "standing by"

LABELS = """
score = "x"
label = "label"
[model.labels]
topic = "{topic}-labels"
timestamp = "known_at"
lag = "{lag}ms"
"""
LETTERS = 'dead_letter_topic = "{topic}-letters"'


class Ended(AssertionError):
    """The daemon ended while something was waited for."""


@dataclass
class Daemon:
    """A running service."""

    process: subprocess.Popen[bytes]
    log: Path

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        """Ask it to end, and see that it does so in good order."""
        self.send(signal.SIGTERM)
        code = self.process.wait(SECONDS)
        assert code == 0, f"it ended with {code}:\n{self.tail()}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def died(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        return self.process.wait(SECONDS)

    def says(self, words: str) -> bool:
        return words in self.log.read_text()

    def works(self) -> bool:
        """Whether it is the one of its group that works."""
        said = self.log.read_text()
        return said.rfind(TURN) > said.rfind(STANDING_BY)

    def peak_kb(self) -> int:
        """The most memory that it ever had."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    def tail(self) -> str:
        return self.log.read_text()[-3_000:]


@dataclass
class Scene:
    """See the module. Faults drive it: feed records, start daemons, do harm, count what happened.

    labelled: labels come later, in a topic of their own. letters: dead letters are produced to a topic.
    """

    broker: RealBroker
    proxy: Proxy
    reference: Path
    home: Path
    topic: str
    seed: int
    slack: Slack = field(default_factory=Slack)
    job: Job = field(default_factory=Job)
    kafka: str = ""
    behind_proxy: bool = False
    n_partitions: int = N_PARTITIONS
    labelled: bool = False
    letters: bool = False

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.ledger = Ledger(self.topic)
        self.records: Sequence[Record] = world(self.seed)
        self.labels = Ledger(f"{self.topic}-labels") if self.labelled else None
        self.later: Sequence[Later] = []
        if self.labelled:
            self.later = labels.world(self.records, self.seed)
            self.records = labels.repeated(self.records, self.seed)
        self.n_fed = self.n_fed_later = 0
        self.hits_file = self.home / "hits"
        self.clock_file = self.home / "clock"
        self.given_up: GivenUp | None = None
        self.environment: dict[str, str] = {}
        self.new_producer()

    def new_producer(self) -> None:
        """A client that knows nothing of a topic that was here before."""
        self.producer = Producer(
            {
                "bootstrap.servers": self.broker.bootstrap_servers, "enable.idempotence": True, "log_level": 0,
                "linger.ms": 2, "batch.size": 4096, "message.max.bytes": 8_000_000, "reconnect.backoff.max.ms": 500,
            }
        )  # fmt: skip

    # -- the world

    def configure(self, **more: str) -> Path:
        """Write the configuration and the secrets. more: words to replace in it, by what."""
        servers = f"127.0.0.1:{self.broker.front}" if self.behind_proxy else self.broker.bootstrap_servers
        pictured = self.seed % 5 == 1  # Drawing costs more than all else in a scene.
        body = CONFIG.format(
            servers=servers, topic=self.topic, reference=self.reference, slack=self.slack.api_url, ci=self.job.url,
            window=WINDOW_MS, lateness=LATENESS_MS, picture=str(pictured).lower(),
            kafka="\n".join((self.kafka, LETTERS.format(topic=self.topic) if self.letters else "")),
            labels=LABELS.format(topic=self.topic, lag=LAG_MS) if self.labelled else "",
        )  # fmt: skip
        for old, new in more.items():
            body = body.replace(old, new)
        self.config.write_text(body)
        (self.home / "slack_token").write_text(TOKEN)
        (self.home / "hook_secret").write_text(SECRET)
        return self.config

    @property
    def topics(self) -> list[str]:
        """All that are there when the scene begins."""
        beside = {"labels": self.labelled, "letters": self.letters}
        return [self.topic, *(f"{self.topic}-{name}" for name, is_there in beside.items() if is_there)]

    @property
    def config(self) -> Path:
        return self.home / "driftd.toml"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def database(self) -> Path:
        return self.state / DATABASE

    def feed(self, upto: float) -> int:
        """Produce the log up to this share of it; how many records there were.

        What was known by then is in the log of labels before, as it is where both are written as time goes by.
        """
        self.feed_labels(upto)
        last = round(upto * len(self.records))
        fresh, self.n_fed = self.records[self.n_fed : last], max(last, self.n_fed)
        return self.ledger.produce(self.producer, fresh)

    def feed_labels(self, upto: float) -> int:
        """Produce the labels that were known when the log of predictions was as long as this share of it."""
        before = self.records[: round(upto * len(self.records))]
        until_ms = max((record.time_ms for record in before), default=0) if upto < 1.0 else float("inf")
        last = sum(one.place_ms <= until_ms for one in self.later)
        fresh, self.n_fed_later = self.later[self.n_fed_later : last], max(last, self.n_fed_later)
        return self.labels.produce(self.producer, (one.record for one in fresh)) if self.labels else 0

    def feed_until_dead(self, daemon: Daemon, upto: float) -> None:
        """Produce the log up to there, a little at a time, and on beyond it while the daemon lives."""
        share, step = self.n_fed / len(self.records), 0.01
        while daemon.process.poll() is None and share < 0.95:
            share += step
            self.feed(share)
            time.sleep(0.05 if share < upto else 0.5)
        self.feed(upto)

    def hits(self, words: str = "") -> int:
        """How often something happened inside daemons."""
        return self.hits_file.read_text().count(words or "\n") if self.hits_file.exists() else 0

    # -- daemons

    @contextmanager
    def daemon(self, *harms: Harm, name: str = "driftd") -> Iterator[Daemon]:
        """A service that comes to this harm; killed at the end of the context if it still runs. name: of its log."""
        log = self.home / f"{name}.log"
        with log.open("ab") as out:
            command = self._command("run", *harms)
            process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | self.environment)
        daemon = Daemon(process, log)
        try:
            yield daemon
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def run(self, command: str, harm: Harm | None = None, code: int = 0) -> str:
        """A command of driftd to its end; what it printed."""
        harms = () if harm is None else (harm,)
        done = subprocess.run(
            self._command(command, *harms), capture_output=True, text=True, timeout=SECONDS, check=False
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout

    def _command(self, command: str, *harms: Harm) -> list[str]:
        clock = str(self.clock_file) if self.clock_file.exists() else ""
        plan = Plan(str(self.hits_file), harms, clock)
        return [sys.executable, child.__file__, plan.to_json(), command, "--config", str(self.config)]

    def execute(self, statement: str) -> None:
        """Change a stopped daemon's database behind its back."""
        db = sqlite3.connect(self.database)
        db.execute(statement)
        db.commit()
        db.close()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the daemon's database; none while there is none that can be read."""
        if not self.database.exists():
            return []
        try:
            db = sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True, timeout=10)
            try:
                return db.execute(statement).fetchall()
            finally:
                db.close()
        except sqlite3.DatabaseError:  # not made yet, or damaged and not mended yet
            return []

    def n_read(self) -> int:
        """Records that the database knows of."""
        return sum(offset for (offset,) in self.query("SELECT next_offset FROM offsets"))

    def n_windows(self) -> int:
        return sum(n for (n,) in self.query("SELECT count(*) FROM windows"))

    def n_sent(self) -> int:
        return sum(n for (n,) in self.query("SELECT count(*) FROM outbox WHERE state = 'sent'"))

    def n_produced(self) -> int:
        """Dead letters that are marked as produced."""
        return sum(n for (n,) in self.query("SELECT count(*) FROM dead_letters WHERE produced = 1"))

    def n_counted(self) -> int:
        """Records that became rows or were rejected, as far as the database knows."""
        try:
            counts = [self._state(body).counts for (body,) in self.query("SELECT state FROM lines")]
        except ValueError:  # damaged, and not mended yet
            return 0
        return sum(count.rows + sum(count.rejected.values()) for count in counts)

    @staticmethod
    def _state(body: bytes) -> LineState:
        return msgspec.json.decode(unchecked(body), type=LineState)

    @contextmanager
    def midway(self, share: float) -> Iterator[Daemon]:
        """A daemon that has closed windows of this share of the log; afterwards the rest comes and it settles."""
        self.feed(share)
        with self.daemon() as daemon:
            self.until(lambda: self.n_windows() > 2, daemon)
            yield daemon
            self.feed(1.0)
            self.until(self.settled, daemon)
            daemon.stop()

    def settled(self) -> bool:
        """Whether everything in the ledger was read, and nothing waits to be sent."""
        if self.query("SELECT count(*) FROM outbox WHERE state = 'pending'") != [(0,)]:
            return False
        if self.letters and self.query("SELECT count(*) FROM dead_letters WHERE produced = 0") != [(0,)]:
            return False
        read = {
            (topic, at): offset for topic, at, offset in self.query("SELECT topic, partition, next_offset FROM offsets")
        }
        ledgers = (self.ledger, self.labels) if self.labels else (self.ledger,)
        ends = {(ledger.topic, at): end for ledger in ledgers for at, end in ledger.ends().items()}
        return self.n_counted() >= len(self.ledger.placed) and all(read.get(at, 0) >= end for at, end in ends.items())

    def until(self, done: Callable[[], Any], daemon: Daemon | None = None, seconds: float = SECONDS) -> None:
        """Wait until this is so."""
        give_up_at = time.monotonic() + seconds
        while not done():
            if daemon is not None and daemon.process.poll() is not None:
                raise Ended(f"the daemon ended with {daemon.process.returncode}:\n{daemon.tail()}")
            if time.monotonic() > give_up_at:
                raise AssertionError(f"not within {seconds:.0f} s; {self.standing()}")
            time.sleep(0.02)

    def until_beyond(self, count: Callable[[], int], before: int, daemon: Daemon | None = None) -> None:
        """Wait until there are more than before."""
        self.until(lambda: count() > before, daemon)

    def standing(self) -> str:
        """How things stand, for a failure."""
        logs = "".join(file.read_text()[-3_000:] for file in sorted(self.home.glob("*.log")))
        outbox = self.query("SELECT id, state, attempts, reason FROM outbox")
        counted = f"counted {self.n_counted()} of {len(self.ledger.placed)}"
        read = f"read {self.n_read()} of {self.ledger.ends()}"
        return f"{counted}, {read}, outbox {outbox}\n{logs}"

    def finish(self) -> None:
        """Produce what is left, and let an undisturbed daemon come to the end of it."""
        self.feed(1.0)
        with self.daemon() as daemon:
            self.until(self.settled, daemon)
            daemon.stop()

    # -- the end

    def ruling(self) -> Ruling:
        """What the judge finds, with every request that the receivers got."""
        config, reference = read_config(self.config), unseal(self.reference)
        wanted = expected(self.ledger, self.labels, config, reference, self.given_up)
        ruling = judge(wanted, found(self.state, reference))
        sent = {identity: json.loads(body) for identity, body in self.query("SELECT id, body FROM outbox ORDER BY n")}
        Receivers(self.slack, self.job).compare(wanted, sent, ruling, given_up=self.given_up is not None)
        if self.letters:
            values = self.ledger.values() | (self.labels.values() if self.labels else {})
            letters.compare(letters.read(self.broker, f"{self.topic}-letters"), wanted.letters, values, ruling)
        return ruling
