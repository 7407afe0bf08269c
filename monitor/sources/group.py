"""A consumer group whose members take turns: one of several daemons on one state works, the others stand by.

A window covers all partitions of its model's topics, so they are never divided: the group gives all of them to one
member, and to another one when that has gone or has not been heard of for the session timeout. The group only says
whose turn it is. Records are read by `KafkaSource`, offsets are the store's, and a member that lost its turn without
knowing is refused by the store; so nothing depends on how soon a member learns that its turn is over.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor, RebalanceProtocol
from kafka.errors import InconsistentGroupProtocolError, KafkaError
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

from monitor.sources.kafkaclient import Client, client_options
from monitor.sources.kafkawatch import Reporter

_LOGGER: Final = logging.getLogger("driftd.source")

POLL_SECONDS: Final = 0.5
CONNECT_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 2.0
HUNG_SECONDS: Final = 300.0
"""A member whose loop has not asked for so long gives up its turn."""


class OneForAll(AbstractPartitionAssignor):  # type: ignore[misc]
    """Everything to one member: the one that had it last, else the first by its name.

    state: names the state that the members share. It is part of the protocol's name, so Kafka refuses a member with
    another one. held: the generation in which this member had everything last, 0 for never; turn: the one in which it
    has it now, None when it has not. told: called whenever the group has decided.
    """

    def __init__(self, state: str, told: Callable[[], None] = lambda: None) -> None:
        self._name = f"driftd-{state}"
        self._told = told
        self.held = 0
        self.turn: int | None = None

    @property
    def name(self) -> str:
        return self._name

    def supported_protocols(self) -> list[RebalanceProtocol]:
        """Cooperative: who works is not disturbed when others come and go."""
        return [RebalanceProtocol.COOPERATIVE]

    def metadata(self, topics: Sequence[str]) -> ConsumerProtocolSubscription:
        """What this member says of itself."""
        return ConsumerProtocolSubscription(0, sorted(topics), str(self.held).encode())

    def assign(self, cluster: Any, members: Sequence[Any]) -> dict[str, ConsumerProtocolAssignment]:
        """See the class."""
        chosen = min(members, key=lambda m: (-_held(m), m.group_instance_id or "", m.member_id))
        topics = sorted({topic for member in members for topic in member.metadata.topics})
        known = ((topic, sorted(cluster.partitions_for_topic(topic) or ())) for topic in topics)
        everything = [(topic, numbers) for topic, numbers in known if numbers]
        return {
            member.member_id: ConsumerProtocolAssignment(0, everything if member is chosen else [], b"")
            for member in members
        }

    def on_assignment(self, assignment: ConsumerProtocolAssignment, generation: int) -> None:
        """It was decided who works."""
        self.turn = generation if assignment.partitions() else None
        self.held = self.turn or 0
        self._told()

    def lose(self) -> None:
        """The group has put this member out."""
        self.turn, self.held = None, 0


def _held(member: Any) -> int:
    text = bytes(member.metadata.user_data or b"")
    return int(text) if text.isdigit() else 0


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs in the library's own thread; all it does is to note things."""

    def __init__(self, consumer: KafkaConsumer, assignor: OneForAll) -> None:
        self._consumer = consumer
        self._assignor = assignor

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._consumer.pause(*assigned)  # nothing is read here, so nothing can be held back by this for ever

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Who is assigned nothing has been told so already."""

    def on_partitions_lost(self, lost: Any) -> None:  # noqa: ARG002  # contract
        self._assignor.lose()


class Member:
    """This daemon's place in the group, kept in a thread of its own.

    options: kafka-python's consumer options, session_timeout_ms and heartbeat_interval_ms among them. state: see
    `OneForAll`. instance: a fixed name for static membership: a member that comes back under it within the session
    timeout still has its turn; "" for none. rebalanced: called, in that thread, whenever the group has decided whose
    turn it is. holder names this process; connected: whether a broker's connection stands.
    """

    def __init__(
        self,
        topics: Sequence[str],
        options: Mapping[str, Any],
        group: str,
        state: str,
        instance: str = "",
        rebalanced: Callable[[], None] = lambda: None,
    ) -> None:
        servers = options.get("bootstrap_servers", "localhost")
        self._reporter = Reporter(servers if isinstance(servers, str) else ", ".join(servers))
        own: dict[str, Any] = {"group_id": group, "group_instance_id": instance or None, "auto_offset_reset": "latest"}
        # A member may find itself the chosen one of a topic that is just being made.
        self._options = {"metadata_max_age_ms": 30_000, **client_options(options), **own}
        self._topics = sorted(topics)
        self._group = group
        self._assignor = OneForAll(state, rebalanced)
        self.holder = uuid.uuid4().hex
        self._asked = time.monotonic()
        self.connected = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-group", daemon=True)
        self._thread.start()

    def turn(self) -> int | None:
        """The group's generation in which it is this member's turn; None when it is not. To be asked all the time."""
        self._asked = time.monotonic()
        return self._assignor.turn

    def close(self) -> None:
        """Leave the group; the next member's turn begins at once, or for static members after the session timeout."""
        self._over.set()
        self._thread.join(CONNECT_SECONDS)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                if not self._hung():
                    self._take_part()
            except InconsistentGroupProtocolError:
                text = "group %s has members with another state; give it a name of its own, or one [state] directory"
                _LOGGER.error(text, self._group, extra={"event": "group.refused", "group": self._group})
            except (KafkaError, OSError) as fault:
                self._reporter.away(fault)
            except Exception:
                _LOGGER.exception("the group's client failed", extra={"event": "group.failed", "group": self._group})
            self._assignor.lose()
            self._over.wait(RETRY_SECONDS)

    def _hung(self) -> bool:
        return time.monotonic() - self._asked > HUNG_SECONDS

    def _take_part(self) -> None:
        """Be a member until that fails or is not wanted."""
        client = Client({**self._options, "partition_assignment_strategy": [self._assignor]}, CONNECT_SECONDS, None)
        try:
            consumer = client.consumer
            consumer.subscribe(topics=self._topics, listener=_Listener(consumer, self._assignor))
            while not self._over.is_set():
                if self._hung():
                    return
                consumer.poll(timeout_ms=int(POLL_SECONDS * 1000))
                self.connected = client.alive()
                if self.connected:
                    self._reporter.back()
                else:
                    self._reporter.away(client.fault())
        finally:
            self.connected = False
            client.close()
