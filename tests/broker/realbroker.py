"""Starts a real Apache Kafka (KRaft, one node) for tests, from jars that Maven fetches once and keeps outside the repo.

By hand: `python tests/broker/realbroker.py` starts one, prints its address and stops it at Ctrl-C.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka.admin import AdminClient, KafkaException, NewPartitions, NewTopic

HERE = Path(__file__).resolve().parent
FETCH_SECONDS = 180
START_SECONDS = 240
USER, PASSWORD = "driftd", "right-password"
KEY_PASSWORD = "key-password"

LOG4J = """
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %-5p %c{1.} %m%n
"""

# BEHIND tells its clients to come to the port `front`, where a proxy can be put between them and the node.
# Anybody may come in by PLAINTEXT and do anything; who logs in is held to the ACLs that a test makes.
SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},BEHIND://127.0.0.1:{behind},SASL://127.0.0.1:{sasl},\
TLS://127.0.0.1:{tls},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},BEHIND://127.0.0.1:{front},SASL://127.0.0.1:{sasl},\
TLS://127.0.0.1:{tls}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,BEHIND:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SASL_SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config={plain_login}
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.tls.plain.sasl.jaas.config={plain_login}
listener.name.tls.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.tls.ssl.keystore.type=PKCS12
listener.name.tls.ssl.keystore.location={keystore}
listener.name.tls.ssl.keystore.password={key_password}
listener.name.tls.ssl.key.password={key_password}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
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
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
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
    folder = jar_folder()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of several test processes one fetches and the others wait
            return None if list(folder.glob("kafka_2.13-*.jar")) else _fetch_jars(folder)
    except OSError as fault:
        return f"Kafka's jars cannot be kept in {folder}: {fault}"


def _fetch_jars(folder: Path) -> str | None:
    if shutil.which("mvn") is None:
        return f"there is no mvn on the PATH to fetch Kafka's jars, and none in {folder}"
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
        jars.replace(folder)
    return None


def _free_ports(count: int) -> list[int]:
    """Free ports below those the system gives to outgoing connections, or one of these could sit on them at a restart.

    A client that tries again and again to reach a port in that range can even connect to itself.
    """
    ranges = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first_outgoing = int(ranges.read_text().split()[0]) if ranges.exists() else 32_768
    candidates = random.sample(range(10_000, max(first_outgoing, 20_000)), 100)
    return [port for port in candidates if _is_free(port)][:count]


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class RealBroker:
    """One Kafka node with its data in a temporary folder; `kill` and `restart` keep data and ports.

    behind, front: ports of a listener whose clients are sent to `front`, where nothing listens but what a test puts
    there.
    """

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="driftd-kafka-"))
        plain, sasl, self._tls_port, controller, self.behind, self.front = _free_ports(6)
        self.bootstrap_servers = f"127.0.0.1:{plain}"
        self.sasl_servers = f"127.0.0.1:{sasl}"
        self.tls_servers = f"127.0.0.1:{self._tls_port}"
        self._keystore = self._home / "key.p12"
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        settings = SETTINGS.format(
            plain=plain,
            behind=self.behind,
            front=self.front,
            sasl=sasl,
            tls=self._tls_port,
            controller=controller,
            plain_login=f'{login} user_{USER}="{PASSWORD}";',
            keystore=self._keystore,
            key_password=KEY_PASSWORD,
            data=self._home / "data",
        )
        (self._home / "server.properties").write_text(settings)
        (self._home / "log4j2.properties").write_text(LOG4J)
        self._log = self._home / "kafka.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._prepared = False

    def start(self) -> Self:
        """Starts the node and waits until it answers."""
        if not self._prepared:
            self._prepare()
            self._prepared = True
        with self._log.open("ab") as log:
            command = self._java("-Xmx512m", "kafka.Kafka", str(self._home / "server.properties"))
            # A run that is killed takes its broker with it where the system can do that.
            leash = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
            self._process = subprocess.Popen([*leash, *command], stdout=log, stderr=log)
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

    def freeze(self) -> None:
        """Stops the node in the middle of whatever it does; `thaw` lets it go on."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """See `freeze`."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends the node and deletes its data."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self._home, ignore_errors=True)

    def certificate(self) -> Path:
        """The file for `ssl_cafile`: what the node shows, which it signed itself."""
        path = self._home / "ca.pem"
        path.write_text(ssl.get_server_certificate(("127.0.0.1", self._tls_port)))
        return path

    def admin(self) -> AdminClient:
        quick = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 200}
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0, **quick})

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

    def _java(self, *words: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self._home / 'log4j2.properties'}"
        return ["java", "-cp", str(jar_folder() / "*"), logging, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *words]

    def _prepare(self) -> None:
        cluster = base64.urlsafe_b64encode(b"k" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        storage = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._home / "server.properties")]
        scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        key = ["keytool", "-genkeypair", "-alias", "node", "-keyalg", "EC", "-dname", "CN=127.0.0.1"]
        key += ["-ext", "SAN=ip:127.0.0.1", "-validity", "2", "-storetype", "PKCS12"]
        key += ["-keystore", str(self._keystore), "-storepass", KEY_PASSWORD]
        commands = [self._java(*storage, "--add-scram", scram), key]
        started = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for c in commands]
        for command, process in zip(commands, started, strict=True):
            said, _ = process.communicate(timeout=START_SECONDS)
            if process.returncode:
                raise RuntimeError(f"{' '.join(command)} failed: {said[-2000:]}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        admin = self.admin()
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"Kafka ended at once:\n{self._log.read_text()[-3000:]}")
            with contextlib.suppress(KafkaException):
                if admin.list_topics(timeout=0.5).brokers:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"Kafka did not answer within {START_SECONDS} s:\n{self._log.read_text()[-3000:]}")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

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
