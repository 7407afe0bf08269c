"""Kafka read by several processes: each reads and decodes its share of the partitions, this one takes the rows.

A worker sends one frame for each of its polls, over a pipe: the rows, and how its source stands after them. It waits
while nobody takes its frames, so at most one per worker is on its way. A worker that has died is an error like Kafka's
own; its successor goes on behind the last frame that was taken, so nothing is lost and nothing comes twice.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Final, Literal

import msgspec

from monitor.batch import Partition, Records
from monitor.decode.reading import Reading
from monitor.decode.reading import decoded as made_of
from monitor.errors import SourceError
from monitor.sources.batchpath import batch_reader
from monitor.sources.frames import Frame, FrozenRecords, Order, Place, frozen, thawed
from monitor.sources.kafka import KafkaSource
from monitor.sources.kafkawatch import LogIds

_PLAIN: Final = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime"}

POLL_SECONDS: Final = 0.2
SILENT_SECONDS: Final = 5.0
"""A worker that was not heard of for so long is not counted on: it may be stopped, or busy with its client."""
CLOSE_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker does. begin: what a process does first."""

    source: Callable[[], KafkaSource]
    readings: Sequence[Reading]
    begin: Callable[[], object]


class _Worker:
    """One process, and what is known of it."""

    def __init__(self, job: Job, share: tuple[int, int]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would take threads' locks and the database with it
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, job, share), name=f"ingest-{share[0]}", daemon=True)
        self.process.start()
        theirs.close()
        self.looked = self.connected = self.waits = False
        self.places: Sequence[Place] = ()
        self.heard = time.monotonic()

    @property
    def is_sound(self) -> bool:
        return self.connected and time.monotonic() - self.heard < SILENT_SECONDS

    def order(self, order: Order) -> None:
        """That a worker has died is seen when it is next listened to."""
        self.waits = False
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(msgspec.msgpack.encode(order))

    def frame(self) -> Frame | None:
        """What it sends next; None when it has died."""
        try:
            frame = msgspec.msgpack.decode(self.pipe.recv_bytes(), type=Frame)
        except (EOFError, OSError):
            return None
        self.looked, self.connected, self.waits = frame.looked, frame.connected, bool(frame.fault)
        self.heard = time.monotonic()
        return frame

    def close(self) -> None:
        self.pipe.close()
        self.process.join(CLOSE_SECONDS)
        self.process.kill()
        self.process.join()


class Workers:
    """A source of decoded records: see `monitor.sources.Source`, and the top of this file."""

    def __init__(self, job: Job, n_workers: int) -> None:
        self._job = job
        self._workers: list[_Worker | None] = [None] * n_workers
        self._assigned: list[frozenset[Partition]] = [frozenset()] * n_workers
        self._next: dict[Partition, int] = {}
        self._age = 0
        self._sought: dict[Partition, int] = {}
        self._held: frozenset[Partition] = frozenset()
        self._early: list[tuple[_Worker, int, Frame]] = []
        self._losses: list[tuple[Partition, int, int]] = []
        self._ids = LogIds()
        self._fault = ""

    def poll(self, timeout_seconds: float) -> Sequence[Records]:
        """Records that are there, at most one frame of each worker. SourceError when one cannot read, or has died."""
        if self._fault:
            fault, self._fault = self._fault, ""
            raise SourceError(fault)
        workers = self._started()
        # Nothing is given away before all have said what they read: windows must not close without some partitions.
        asked = {worker.pipe: i for i, worker in enumerate(workers) if not worker.looked}
        asked = asked or {worker.pipe: i for i, worker in enumerate(workers)}
        for pipe in wait(list(asked), timeout_seconds):
            i = asked[pipe]  # type: ignore[index]  # what was asked is what answers
            frame = workers[i].frame()
            if frame is None:
                self._bury(i, workers[i])
            else:
                self._hear(frame)
                self._early.append((workers[i], i, frame))
        if not all(worker is not None and worker.looked for worker in self._workers):
            return []
        taken, self._early = self._early, []
        return [records for worker, i, frame in taken for records in self._take(worker, i, frame)]

    def assigned(self) -> frozenset[Partition]:
        """The partitions that all workers read."""
        return frozenset().union(*self._assigned)

    def caught_up(self) -> frozenset[Partition]:
        """Those that were read to their end, by workers that are connected and were heard of."""
        return frozenset(place.at for worker in self._sound() for place in worker.places if place.caught_up)

    def lag(self) -> Mapping[Partition, int]:
        """Records of each partition that are known to be unread by the workers."""
        places = [place for worker in self._workers if worker is not None for place in worker.places]
        return {place.at: place.n_unread for place in places if place.n_unread is not None}

    @property
    def connected(self) -> bool:
        """Whether all workers are."""
        return len(self._sound()) == len(self._workers)

    @property
    def path(self) -> Literal["batch", "record"]:
        """See `KafkaSource.path`."""
        return "record" if batch_reader() is None else "batch"

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets on; what is on its way from them is passed over."""
        self._age += 1
        self._next |= offsets
        self._sought |= dict.fromkeys(offsets, self._age)
        for worker in self._workers:
            if worker is not None:
                worker.places = [place for place in worker.places if place.at not in offsets]
                worker.order(Order(self._age, list(offsets.items()), self._held))

    def hold(self, partitions: frozenset[Partition]) -> None:
        """See `Source.hold`."""
        self._held = partitions
        self.seek({})

    def losses(self) -> Sequence[tuple[Partition, int, int]]:
        """See `Source.losses`."""
        drained, self._losses = self._losses, []
        return drained

    def log_ids(self) -> Mapping[str, str]:
        """See `Source.log_ids`."""
        return self._ids.known

    def close(self) -> None:
        """End the workers; what they had on its way is read again by whoever comes next."""
        for i, worker in enumerate(self._workers):
            self._workers[i] = None
            if worker is not None:
                worker.close()

    def _sound(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker is not None and worker.is_sound]

    def _started(self) -> list[_Worker]:
        """All workers, at work."""
        found = []
        for i, worker in enumerate(self._workers):
            fresh = worker or _Worker(self._job, (i, len(self._workers)))
            if worker is None or worker.waits:
                fresh.order(Order(self._age, [] if worker else list(self._next.items()), self._held))
            self._workers[i] = fresh
            found.append(fresh)
        return found

    def _bury(self, i: int, worker: _Worker) -> None:
        self._workers[i] = None
        self._early = [early for early in self._early if early[0] is not worker]
        worker.close()
        self._fault = f"ingest process {i} has ended with status {worker.process.exitcode}; another one takes its place"

    def _hear(self, frame: Frame) -> None:
        self._fault = self._fault or frame.fault
        self._ids.note(frame.logs)
        for name, level, text, more in frame.said:
            if logging.getLogger(name).isEnabledFor(level):
                said = {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "msg": text}
                logging.getLogger(name).handle(logging.makeLogRecord(more | said))

    def _take(self, worker: _Worker, i: int, frame: Frame) -> list[Records]:
        def counts(at: Partition) -> bool:
            return self._sought.get(at, 0) <= frame.age

        self._assigned[i] = frozenset(place.at for place in frame.places)
        worker.places = [place for place in frame.places if counts(place.at)]
        self._next |= {place.at: place.next_offset for place in worker.places if place.next_offset is not None}
        self._losses += [loss for loss in frame.losses if counts(loss[0])]
        return [thawed(records, self._job.readings) for records in frame.records if counts(records.at)]


# -- within a worker


class _Said(logging.Handler):
    """Keeps what is logged, for the process that writes logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, int, str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        more = {key: value for key, value in record.__dict__.items() if key not in _PLAIN}
        self.lines.append((record.name, record.levelno, record.getMessage(), more))


def _work(pipe: Connection, job: Job, share: tuple[int, int]) -> None:
    """Until the other end of the pipe is closed, which is also how a worker learns that its daemon has died."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    said = _Said()
    logging.basicConfig(handlers=[said], level=logging.INFO)
    job.begin()
    source, age = job.source(), 0
    source.share = share
    decoders = [(reading, reading.decoder()) for reading in job.readings]

    def decoded(records: Records) -> FrozenRecords:
        now_ms = int(time.time() * 1000)
        readers = [(one, decoder) for one, decoder in decoders if records.partition.topic in one.topics]
        return frozen(records, made_of(readers, records, now_ms))

    with contextlib.suppress(EOFError, ConnectionError), contextlib.closing(source):
        order = msgspec.msgpack.decode(pipe.recv_bytes(), type=Order)
        while True:
            source.seek(dict(order.offsets))
            source.hold(order.held)
            age = order.age
            while not pipe.poll():
                done, fault = _read(source, decoded)
                lines, said.lines = said.lines, []
                losses, logs = source.losses(), dict(source.log_ids())
                frame = Frame(age, source.looked, source.connected, _places(source), done, losses, logs, lines, fault)
                pipe.send_bytes(msgspec.msgpack.encode(frame, enc_hook=str))
                if fault:
                    pipe.poll(None)
            order = msgspec.msgpack.decode(pipe.recv_bytes(), type=Order)


def _read(source: KafkaSource, decoded: Callable[[Records], FrozenRecords]) -> tuple[list[FrozenRecords], str]:
    """What a poll brings, decoded; and why that is not all, if so."""
    done: list[FrozenRecords] = []
    found: Sequence[Records] = ()
    try:
        found = source.poll(POLL_SECONDS)
        for records in found:
            done.append(decoded(records))  # what comes before a fault is kept
    except SourceError as fault:
        source.seek({one.partition: one.first_offset for one in reversed(found[len(done) :])})
        return done, str(fault)
    return done, ""


def _places(source: KafkaSource) -> list[Place]:
    positions, lag, caught_up = source.positions(), source.lag(), source.caught_up()
    return [Place(at, positions.get(at), lag.get(at), at in caught_up) for at in sorted(source.assigned())]
