"""kafka-python's consumer with what `KafkaSource` needs beside it: why a connection failed, ends, options, quiet.

Everything that touches inner parts of the library's network side is in this file and in `answer`.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    AuthorizationError,
    IllegalSaslStateError,
    KafkaConfigurationError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
    for_code,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.protocol.metadata import MetadataRequest

from monitor.batch import Partition
from monitor.errors import SourceError
from monitor.sources.answer import receiver, stand_in
from monitor.sources.unpack import bound_library

_LOGGER: Final = logging.getLogger("driftd.source")

REQUEST_SECONDS: Final = 5.0
REFUSALS: Final = (
    AuthorizationError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
    IllegalSaslStateError,
    KafkaConfigurationError,
)
OWN_OPTIONS: Final = frozenset(
    {
        "group_id",
        "group_instance_id",
        "enable_auto_commit",
        "auto_offset_reset",
        "check_crcs",
        "key_deserializer",
        "value_deserializer",
        "kafka_client",
        "bootstrap_timeout_ms",
        "allow_auto_create_topics",
    }
)
QUIETED: Final = {
    "kafka.net": logging.CRITICAL,
    "kafka.net.selector": logging.ERROR,
    "kafka.cluster": logging.CRITICAL,
    "kafka.coordinator": logging.CRITICAL,
    "kafka.consumer.fetcher": logging.CRITICAL,
    "kafka.producer": logging.CRITICAL,
}
ISOLATION_LEVELS: Final = ("read_uncommitted", "read_committed")
NO_ID: Final = UUID(int=0)


class Topic(NamedTuple):
    """What a broker says of a topic. log: the id of its log, "" where the broker gives none (Kafka before 2.8)."""

    log: str
    partitions: frozenset[int]


FILES: Final = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile")


class _Manager(KafkaConnectionManager):  # type: ignore[misc]  # the library has no types
    """The library's connections, each of which leaves behind why it failed.

    The library has a place for a refused login (`_auth_failures`, which ends a bootstrap at once) but never fills it:
    it looks for an exception that the connection keeps to itself.
    """

    def __init__(self, net: Any, **configs: Any) -> None:
        super().__init__(net, **configs)
        # Not handed on by the library: a look at a topic that was deleted would make it anew.
        self.cluster.config["allow_auto_create_topics"] = False
        self.fault: Exception | None = None
        self.refusals: dict[Any, Exception] = {}

    async def _connect(self, node: Any, conn: Any, **settings: Any) -> None:
        await super()._connect(node, conn, **settings)
        fault = conn.init_future.exception
        self.fault = fault
        self.refusals.pop(node.node_id, None)
        if isinstance(fault, REFUSALS):
            self.refusals[node.node_id] = fault
            if self.cluster.is_bootstrap(node.node_id):
                self._auth_failures[node.node_id] = fault

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        try:
            transport = await super()._build_transport(node, timeout_at=timeout_at)
        except ssl.SSLError as fault:
            raise KafkaConfigurationError(f"the configured TLS files cannot be used: {fault}") from fault
        except KafkaError as fault:
            if not isinstance(cause := fault.__context__, ssl.SSLCertVerificationError):
                raise
            text = f"the certificate of {node.host} is not trusted ({cause.verify_message}); check ssl_cafile"
            raise KafkaConfigurationError(text) from fault
        transport._sock_recv = receiver(transport)
        return transport


class Client:
    """A connected consumer, with the facts its public face only gives by a request or an endless wait.

    options: as `client_options` made them. reader: of what is fetched, None for the library's. Raises what the broker
    or the network said when it cannot be connected within `connect_seconds`, KafkaConfigurationError for wrong options.

    log_ids: by topic, the id of its log as the library last learnt it for itself; "" where the broker gives none. It
    asks whenever a fetch finds no partition or another leader, and so before it reads a log that was made anew.
    """

    def __init__(self, options: Mapping[str, Any], connect_seconds: float, reader: type | None) -> None:
        bound_library()
        stand_in()
        self.consumer, self._manager = _connected(partial(KafkaConsumer, **options), connect_seconds)
        self.log_ids: Mapping[str, str] = {}
        self._manager.cluster.add_listener(self._note_logs)
        if reader is not None:
            self.consumer._fetcher.PartitionRecords = reader
        self._told: Mapping[Any, frozenset[TopicPartition]] = {}
        self._note_answers()

    def alive(self) -> bool:
        return any(connection.connected for connection in list(self._manager._conns.values()))

    def refusal(self) -> Exception | None:
        """What a broker that refuses this client said at its last try."""
        return next(iter(list(self._manager.refusals.values())), None)

    def fault(self) -> Exception | None:
        """Why the last connection failed; None when it did not."""
        return self._manager.fault

    def poll(self, seconds: float) -> dict[Partition, list[Any]]:
        """Batches (or records, without a reader) that are there, waiting so long for the first."""
        fetched = self.consumer.poll(timeout_ms=int(seconds * 1000))
        return {Partition(key.topic, key.partition): pieces for key, pieces in fetched.items()}

    def assign(self, partitions: Collection[Partition]) -> list[Partition]:
        """Reads these partitions and no others; the ones that are new to this client, which must be told a place."""
        held = {Partition(key.topic, key.partition) for key in self.consumer.assignment()}
        if held != set(partitions):
            self.consumer.assign([TopicPartition(*partition) for partition in sorted(partitions)])
        return sorted(set(partitions) - held)

    def seek(self, partition: Partition, offset: int) -> None:
        self.consumer.seek(TopicPartition(*partition), offset)

    def position(self, partition: Partition) -> int | None:
        """Where the client reads on; None while it does not know."""
        position = self.consumer._subscription.assignment[TopicPartition(*partition)].position
        return None if position is None else int(position.offset)

    def end(self, partition: Partition) -> int | None:
        """The end of the partition as the last answer told it."""
        end = self.consumer.highwater(TopicPartition(*partition))
        return None if end is None else int(end)

    def told(self) -> frozenset[Partition]:
        """Partitions that the latest answers were about, and of which no answer waits to be taken.

        Of these `end` is as new as any record that was taken of their broker's other partitions.
        """
        told = frozenset().union(*self._told.values())
        waiting = {answer.topic_partition for answer in self.consumer._fetcher._completed_fetches.copy()}
        return frozenset(Partition(key.topic, key.partition) for key in told - waiting)

    def forget_ends(self) -> None:
        """What the last answers told of ends is out of date: others have to come first."""
        self._told = {}

    def _note_answers(self) -> None:
        """Remember what every answer is about."""
        fetcher = self.consumer._fetcher
        take = fetcher._handle_fetch_response

        def taken(node: Any, asked: Mapping[Any, int], sent_at: float, answer: Any) -> None:
            """Runs in the library's own thread. While an answer is taken in, nothing is told."""
            self._told = {other: told - asked.keys() for other, told in self._told.items() if other != node}
            take(node, asked, sent_at, answer)
            if not getattr(answer, "error_code", 0):
                parts = ((topic.topic, part) for topic in answer.responses for part in topic.partitions)
                faulty = {TopicPartition(topic, part.partition_index) for topic, part in parts if part.error_code}
                self._told = {**self._told, node: frozenset(asked.keys() - faulty)}

        fetcher._handle_fetch_response = taken

    def first_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where each partition's log begins, by request. KafkaTimeoutError when that cannot be learnt."""
        return self._offsets(self.consumer.beginning_offsets, partitions)

    def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where each partition's log ends, by request. KafkaTimeoutError when that cannot be learnt."""
        return self._offsets(self.consumer.end_offsets, partitions)

    def _offsets(self, ask: Callable[..., Any], partitions: Iterable[Partition]) -> dict[Partition, int]:
        asked = {partition: TopicPartition(*partition) for partition in partitions}
        try:
            found = ask(list(asked.values()), timeout_ms=REQUEST_SECONDS * 1000)
        except KeyError as fault:  # the library's answer where a partition is gone
            raise KafkaTimeoutError(f"the broker does not know the offsets of {fault}") from fault
        return {partition: int(found[key]) for partition, key in asked.items()}

    def ask_topics(self, topics: Sequence[str]) -> dict[str, Topic | type[KafkaError]]:
        """Each topic, or why there is none, by request."""
        request = MetadataRequest(
            topics=[MetadataRequest.MetadataRequestTopic(name=topic) for topic in topics],
            allow_auto_topic_creation=False,
            include_cluster_authorized_operations=False,
            include_topic_authorized_operations=False,
        )

        async def ask() -> Any:
            return await self._manager.wait_for(self._manager.send(request), REQUEST_SECONDS * 1000)

        found: dict[str, Topic | type[KafkaError]] = {}
        for topic in self._manager.run(ask).topics:
            numbers = frozenset(partition.partition_index for partition in topic.partitions)
            found[topic.name] = for_code(topic.error_code) if topic.error_code else Topic(_log(topic.topic_id), numbers)
        return found

    def _note_logs(self, cluster: Any) -> None:
        """Runs in the library's own thread."""
        self.log_ids = {topic: _log(cluster.topic_id(topic)) for topic in cluster.topics()}

    def close(self) -> None:
        self.consumer.close(autocommit=False, timeout_ms=1000)


def _log(identity: UUID | None) -> str:
    return "" if identity in (None, NO_ID) else str(identity)


def producer(options: Mapping[str, Any], connect_seconds: float) -> KafkaProducer:
    """A connected producer. options: as `client_options` made them, those that both know, and a producer's own. Raises
    like `Client`."""
    shared = {key: options[key] for key in options.keys() & KafkaProducer.DEFAULT_CONFIG.keys()}
    return _connected(partial(KafkaProducer, **shared), connect_seconds)[0]


def _connected(make: Callable[..., Any], connect_seconds: float) -> tuple[Any, _Manager]:
    """What `make` makes, connected. Raises what the broker or the network said, or KafkaConfigurationError."""
    made: list[KafkaNetClient] = []
    milliseconds = int(connect_seconds * 1000)

    def connections(**configs: Any) -> KafkaNetClient:
        net = NetworkSelector(**configs)
        try:
            made.append(KafkaNetClient(net=net, manager=_Manager(net, **configs), **configs))
        except BaseException:
            net.close()
            raise
        return made[0]

    quiet_library()
    try:
        client = make(kafka_client=connections, bootstrap_timeout_ms=milliseconds)
        if isinstance(client, KafkaConsumer):  # a producer's own thread has the connections from the start
            _bootstrap(made[0]._manager, milliseconds)
    except BaseException as fault:
        # A constructor that raises leaves its IO thread and sockets behind.
        for inner in made:
            inner.close()
        if isinstance(fault, ValueError | TypeError | AssertionError | ImportError):
            raise KafkaConfigurationError(f"kafka-python refuses the options: {fault}") from fault
        if isinstance(fault, KafkaTimeoutError) and made and made[0]._manager.fault is not None:
            raise made[0]._manager.fault from fault
        raise
    return client, made[0]._manager


def _bootstrap(manager: _Manager, milliseconds: int) -> None:
    """Wait so long until the brokers are known; the library's own wait has no end where api_version is set."""

    async def known() -> None:
        await manager.wait_for(manager.bootstrap_async(milliseconds, refresh=False), milliseconds)

    manager.run(known)


class Attempt:
    """A client in the making, in a thread of its own: who polls has other things to do meanwhile."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._made: Future[Client] = Future()
        # daemon: a broker that does not answer must not hold up the end of the process.
        threading.Thread(target=self._work, args=(make,), name="kafka-connect", daemon=True).start()

    def result(self, seconds: float) -> Client | None:
        """The client, waiting so long for it; None when it is not there yet. Raises what making it raised."""
        done, _ = wait([self._made], max(0.0, seconds))
        return self._made.result() if done else None

    def abandon(self) -> None:
        """Nobody wants the client any more."""
        self._made.add_done_callback(lambda made: None if made.exception() else made.result().close())

    def _work(self, make: Callable[[], Client]) -> None:
        try:
            self._made.set_result(make())
        except Exception as fault:  # noqa: BLE001  # raised by `result`
            self._made.set_exception(fault)


def client_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The consumer's options from the user's. SourceError for one that cannot be."""
    if reserved := sorted(OWN_OPTIONS & options.keys()):
        raise SourceError(f"the Kafka option {reserved[0]} is driftd's own to set; take it out")
    if unknown := sorted(options.keys() - KafkaConsumer.DEFAULT_CONFIG.keys()):
        raise SourceError(f"kafka-python's consumer has no option {unknown[0]}; see its documentation for the names")
    for name in FILES:
        if options.get(name) is not None and not Path(options[name]).is_file():
            raise SourceError(f"{name} is {options[name]}, and there is no such file")
    level = options.get("isolation_level", ISOLATION_LEVELS[0])
    if level not in ISOLATION_LEVELS:
        raise SourceError(f"isolation_level is {level!r}; it must be {' or '.join(ISOLATION_LEVELS)}")
    given = dict(options)
    if given.get("api_version") is not None:
        given["api_version"] = tuple(given["api_version"])
    if (given.get("security_protocol"), given.get("sasl_mechanism")) == ("SASL_PLAINTEXT", "PLAIN"):
        text = "the Kafka password travels in the clear; security_protocol = SASL_SSL would encrypt it"
        _LOGGER.warning(text, extra={"event": "kafka.password_in_clear"})
    defaults = {"reconnect_backoff_max_ms": 5000, "max_poll_records": 10_000, "metrics_enabled": False}
    fixed = {"group_id": None, "enable_auto_commit": False, "auto_offset_reset": "none", "check_crcs": True}
    return {**defaults, **given, **fixed}


def quiet_library() -> None:
    """Silences what the library repeats at every reconnect and every look, unless somebody wants its debug lines.

    The source says all of it once, with the cause: Kafka away and back, a login refused, a topic missing. Faults in the
    library's own loop still show, and so do loggers that somebody gave a level.
    """
    if logging.getLogger("kafka").isEnabledFor(logging.DEBUG):
        return
    for name, level in QUIETED.items():
        if (logger := logging.getLogger(name)).level == logging.NOTSET:
            logger.setLevel(level)
