"""Dead letters on their way to a topic of their own.

They wait in the state, in the commit that passed over their records, and are marked there once Kafka has them. So each
gets there at least once, whatever dies; one that comes twice has the same key. At most `AT_ONCE` are in memory, and
nobody waits for them: while Kafka takes none, they stay where they are.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, Final

import msgspec
from kafka.errors import KafkaError

from monitor.batch import Letter
from monitor.sources.kafkaclient import client_options, producer

_LOGGER: Final = logging.getLogger("driftd.source")

AT_ONCE: Final = 500
LOOK_SECONDS: Final = 1.0
PAUSES: Final = (1.0, 5.0, 15.0, 60.0)
"""Seconds between tries while Kafka takes none; the last one repeats."""
CONNECT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 2.0
# A producer that cannot connect, or finds no topic, says so after `max_block_ms`; what Kafka does not confirm in
# `delivery_timeout_ms` is produced again.
OWN_OPTIONS: Final[dict[str, Any]] = {
    "acks": "all", "enable_idempotence": True, "linger_ms": 5, "max_block_ms": 5_000, "request_timeout_ms": 10_000,
    "delivery_timeout_ms": 20_000,
}  # fmt: skip


class Letterbox:
    """Produces dead letters in a thread of its own, from the moment it is made until `close`.

    options: kafka-python's consumer options; a producer's are those that both know. waiting: asks for at most so many
    letters that were not produced yet, oldest first. produced: told the numbers of those that Kafka has confirmed.
    """

    def __init__(
        self,
        topic: str,
        options: Mapping[str, Any],
        waiting: Callable[[int], Future[Sequence[Letter]]],
        produced: Callable[[Sequence[int]], None],
    ) -> None:
        self._options = client_options(options) | OWN_OPTIONS
        self._topic = topic
        self._waiting = waiting
        self._produced = produced
        self._producer: Any = None
        self._over = threading.Event()
        # daemon: a broker that never answers must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="kafka-letters", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Produce no more. What is on its way may be produced again by whoever comes next."""
        self._over.set()
        self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        n_faults = 0
        while not self._over.is_set():
            letters = self._next()
            try:
                if letters:
                    self._produce(letters)
            except (KafkaError, OSError) as fault:
                pause = PAUSES[min(n_faults, len(PAUSES) - 1)]
                n_faults += 1
                text = "dead letters cannot be produced to %s: %s; again in %.0f s"
                more = {"event": "letters.not_produced", "key": "letters", "topic": self._topic}
                _LOGGER.warning(
                    text, self._topic, str(fault), pause, extra=more
                )  # a logged fault would keep its sockets
                self._drop()
                self._over.wait(pause)
                continue
            if letters:
                n_faults = 0
                self._produced([letter.n for letter in letters])
            if len(letters) < AT_ONCE:
                self._over.wait(LOOK_SECONDS)
        self._drop()

    def _next(self) -> Sequence[Letter]:
        asked = self._waiting(AT_ONCE)
        while not self._over.is_set():
            try:
                return asked.result(LOOK_SECONDS)
            except NotYet:  # the loop has other things to do, or waits for room on the disk
                continue
        return []

    def _produce(self, letters: Sequence[Letter]) -> None:
        if self._producer is None:
            self._producer = producer(self._options, CONNECT_SECONDS)
        deadline = time.monotonic() + OWN_OPTIONS["delivery_timeout_ms"] / 1000
        sent = [self._producer.send(self._topic, key=key(letter), value=value(letter)) for letter in letters]
        self._producer.flush(timeout=max(0.0, deadline - time.monotonic()))
        for confirmed in sent:
            confirmed.get(timeout=max(0.0, deadline - time.monotonic()))

    def _drop(self) -> None:
        dropped, self._producer = self._producer, None
        if dropped is not None:
            with contextlib.suppress(KafkaError):  # what it still held is produced again
                dropped.close(timeout=CLOSE_SECONDS / 2)


def key(letter: Letter) -> bytes:
    """What tells a letter from all others: the same one has the same key, however often it is produced."""
    return f"{letter.model}/{letter.topic}/{letter.partition}/{letter.offset}".encode()


def value(letter: Letter) -> bytes:
    """The letter as JSON; `head`, the first bytes of the record, in base 64."""
    body = {name: getattr(letter, name) for name in Letter.__slots__ if name != "n"}
    return msgspec.json.encode(body)
