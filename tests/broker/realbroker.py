"""Starts a real Apache Kafka (KRaft, one node) for tests, from jars that Maven fetches once and keeps outside the repo.

By hand: `python tests/broker/realbroker.py` starts one, prints its address and stops it at Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka.admin import AdminClient, KafkaException, NewPartitions, NewTopic

HERE = Path(__file__).resolve().parent
FETCH_SECONDS = 180
START_SECONDS = 60
PASSWORDS = {"driftd": "right-password"}

LOG4J = """
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %-5p %c{1.} %m%n
"""

SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required {users};
log.dirs={data}
auto.create.topics.enable=true
num.partitions=4
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.enable=false
"""


def version() -> str:
    """The Kafka version that pom.xml names."""
    return ET.parse(HERE / "pom.xml").findtext("{*}properties/{*}kafka.version") or "unknown"


def jar_folder() -> Path:
    """Where the jars are kept: $DRIFTD_KAFKA_JARS, or the user's cache."""
    if named := os.environ.get("DRIFTD_KAFKA_JARS"):
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "driftd" / f"kafka-{version()}"


def available() -> str | None:
    """Why a real broker cannot be had here, or None. Fetches the jars when they are not there yet."""
    if shutil.which("java") is None:
        return "there is no java on the PATH (17 or newer is needed)"
    if list(jar_folder().glob("kafka_2.13-*.jar")):
        return None
    if shutil.which("mvn") is None:
        return f"there is no mvn on the PATH to fetch Kafka's jars, and none in {jar_folder()}"
    return _fetch_jars()


def _fetch_jars() -> str | None:
    folder = jar_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Fetched aside and renamed, so that a run that was cut off never leaves half a set behind.
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        jars = Path(aside) / "jars"
        command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS)
        except subprocess.TimeoutExpired:
            return f"Maven Central did not deliver Kafka's jars within {FETCH_SECONDS} s"
        except subprocess.CalledProcessError as fault:
            return f"mvn could not fetch Kafka's jars: {(fault.stdout + fault.stderr)[-400:]}"
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        if not folder.exists():
            jars.rename(folder)
    return None


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class RealBroker:
    """One Kafka node with its data in a temporary folder; `kill` and `restart` keep data and ports."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="driftd-kafka-"))
        plain, sasl, controller = _free_ports(3)
        self.bootstrap_servers = f"127.0.0.1:{plain}"
        self.sasl_servers = f"127.0.0.1:{sasl}"
        users = " ".join(f'user_{name}="{password}"' for name, password in PASSWORDS.items())
        settings = SETTINGS.format(plain=plain, sasl=sasl, controller=controller, data=self._home / "data", users=users)
        (self._home / "server.properties").write_text(settings)
        (self._home / "log4j2.properties").write_text(LOG4J)
        self._log = self._home / "kafka.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._formatted = False

    def start(self) -> Self:
        """Starts the node and waits until it answers."""
        if not self._formatted:
            cluster = self._java("kafka.tools.StorageTool", "random-uuid").split()[-1]
            self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._home / "server.properties"))
            self._formatted = True
        with self._log.open("ab") as log:
            command = self._command("-Xmx512m", "kafka.Kafka", str(self._home / "server.properties"))
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self._wait_until_ready()
        return self

    def stop(self) -> None:
        """Asks the node to end in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the node as a power cut would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Starts the node again on the same ports and data."""
        self._end(signal.SIGTERM)
        self.start()

    def close(self) -> None:
        """Ends the node and deletes its data."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self._home, ignore_errors=True)

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def create_topic(self, name: str, partitions: int = 4, **config: str) -> None:
        """Makes a topic; config by Kafka's names, dots as underscores."""
        named = {key.replace("_", "."): value for key, value in config.items()}
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=named)
        admin = self.admin()
        admin.create_topics([topic])[name].result(30)

    def add_partitions(self, name: str, total: int) -> None:
        admin = self.admin()
        admin.create_partitions([NewPartitions(name, total)])[name].result(30)

    @property
    def consumer_options(self) -> dict[str, object]:
        return {"bootstrap_servers": [self.bootstrap_servers]}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _command(self, *words: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self._home / 'log4j2.properties'}"
        return ["java", "-cp", str(jar_folder() / "*"), logging, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *words]

    def _java(self, *words: str) -> str:
        done = subprocess.run(self._command(*words), capture_output=True, text=True, timeout=START_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} failed: {(done.stdout + done.stderr)[-2000:]}")
        return done.stdout

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"Kafka ended at once:\n{self._log.read_text()[-3000:]}")
            with contextlib.suppress(KafkaException):
                if self.admin().list_topics(timeout=2).brokers:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"Kafka did not answer within {START_SECONDS} s:\n{self._log.read_text()[-3000:]}")

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    if (reason := available()) is not None:
        raise SystemExit(reason)
    with RealBroker() as broker, contextlib.suppress(KeyboardInterrupt):
        print(broker.bootstrap_servers, flush=True)
        signal.pause()
