"""From a configuration to a running service: opens what it names or says all that is missing; stops and reloads."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

from monitor.batch import Letter
from monitor.board import Board
from monitor.channels import REGISTRY as CHANNELS
from monitor.channels import TOOLS, Channel, Tools
from monitor.check import Reference
from monitor.chores import Estate, Place, housekeeping
from monitor.config import Channel as ChannelTable
from monitor.config import Config, Model
from monitor.daemon import Daemon, Outside, Pace
from monitor.database import Turn, identity
from monitor.decode import REGISTRY as DECODERS
from monitor.decode import Schemas
from monitor.decode.reading import Reading
from monitor.engine import Engine
from monitor.errors import (
    ChildFault,
    ConfigError,
    DriftdError,
    Problem,
    ReferenceFault,
    StoreDamaged,
    StoreFenced,
    StoreLocked,
)
from monitor.heartbeat import Heartbeat
from monitor.line import Line, shape
from monitor.message import Notice
from monitor.metrics import Watched
from monitor.order import Answer
from monitor.outbox import Courier
from monitor.page import Door, Page, door
from monitor.picture import picture
from monitor.reference import unseal
from monitor.secret import secrets
from monitor.sources.group import Member
from monitor.sources.kafka import KafkaSource
from monitor.sources.letters import Letterbox
from monitor.sources.registry import Registry, SchemaFile
from monitor.sources.sample import Sample
from monitor.sources.workers import Job, Workers
from monitor.store import Store
from monitor.systemd import Notifier
from monitor.tune import settle

log = logging.getLogger(__name__)

STEP_SECONDS: Final = 300.0
"""How long one step of the start may take; large states are read and checked as a whole."""
STAND_BY_SECONDS: Final = 0.2
FENCED_SECONDS: Final = 2.0
"""How long a member that was refused keeps off the state; the group will tell it why."""
_KAFKA_FILES: Final = {"ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration with everything it names at hand; nothing is connected yet. channels: what opens each."""

    config: Config
    folder: Path
    references: Mapping[str, Reference]
    channels: Mapping[str, Callable[[Tools], Channel]]
    schemas: Mapping[str, Schemas]
    kafka: Mapping[str, object]
    door: Door
    heartbeat: Heartbeat | None

    @property
    def directory(self) -> Path:
        return self.folder / self.config.state.directory


def prepare(file: Path, config: Config) -> Prepared:
    """Open references and read secrets. ConfigError names everything that is missing."""
    folder, problems = file.parent, list[Problem]()
    references, schemas = _of_models(config, folder, problems)
    channels: dict[str, Callable[[Tools], Channel]] = {}
    for i, table in enumerate(config.channel):
        try:
            channels[table.name] = channel(table, folder, f"channel[{i}]")
        except ConfigError as fault:
            problems += fault.problems
    kafka: Mapping[str, object] = {}
    try:
        kafka = _kafka_options(config, folder)
    except ConfigError as fault:
        problems += fault.problems
    opening = Door(None, {})
    try:
        opening = door(config, folder)
    except ConfigError as fault:
        problems += [problem for problem in fault.problems if problem not in problems]
    heartbeat = None
    try:
        heartbeat = _heartbeat(config, folder)
    except ConfigError as fault:
        problems += fault.problems
    if config.kafka is None:
        problems.append(Problem("kafka", "there is no [kafka] table; the service needs one to read from"))
    problems += _not_ours(folder / config.state.directory)
    if problems:
        raise ConfigError(str(file), problems)
    return Prepared(config, folder, references, channels, schemas, kafka, opening, heartbeat)


def _of_models(
    config: Config, folder: Path, problems: list[Problem]
) -> tuple[Mapping[str, Reference], Mapping[str, Schemas]]:
    """What the models name: their references, and their schemas where they have such."""
    references: dict[str, Reference] = {}
    schemas: dict[str, Schemas] = {}
    for i, model in enumerate(config.model):
        try:
            references[model.name] = unseal(folder / model.reference)
            if model.labels is not None and not references[model.name].bins.errors:
                told = f"the reference's rows have no column {model.fields.label!r} to make its loss of; build it anew"
                problems.append(Problem(f"model[{i}].labels", told))
        except ReferenceFault as fault:
            problems.append(Problem(f"model[{i}].reference", str(fault)))
        found = _schemas(model, folder, f"model[{i}]")
        if isinstance(found, Problem):
            problems.append(found)
        elif found is not None:
            schemas[model.name] = found
    return references, schemas


def channel(table: ChannelTable, folder: Path, where: str) -> Callable[[Tools], Channel]:
    """What opens a configured channel; its secrets are read here. ConfigError when they cannot be, or do not fit."""
    extra = table.model_extra or {}
    kind = CHANNELS[table.kind]
    opened = partial(kind, table.name, kind.Options.model_validate(extra), secrets(extra, folder, where))
    try:
        opened(TOOLS).close()
    except ValueError as error:
        raise ConfigError(str(folder), [Problem(where, str(error))]) from None
    return opened


def _heartbeat(config: Config, folder: Path) -> Heartbeat | None:
    table = config.heartbeat
    if table is None:
        return None
    try:
        return Heartbeat(table, secrets(table.model_dump(), folder, "heartbeat"))
    except ValueError as error:
        raise ConfigError(str(folder), [Problem("heartbeat", str(error))]) from None


def assemble(prepared: Prepared, store: Store, outside: Outside) -> Daemon:
    """Everything connected: models go on from where the store says they are."""
    config, places = prepared.config, _in_force(prepared, store)
    references = {name: place.reference for name, place in places.items()}
    recall = partial(store.recall, {name: reference.bins for name, reference in references.items()})
    store.keep(references.values(), int(time.time() * 1000))
    board = Board(config.alert.burst, store.board())
    lines = []
    for model in config.model:
        reference = references[model.name]
        saved = store.load(model.name, shape(model, reference), reference.bins)
        lines.append(Line(config, model, reference, saved, recall, board))
        lines[-1].timed_by(time.perf_counter)
        if model.name in prepared.schemas:
            for decoder in lines[-1].decoders.values():
                decoder.look_up(prepared.schemas[model.name])
    engine = Engine(lines, board)
    kafka = config.kafka
    assert kafka is not None  # noqa: S101  # `prepare` has seen to it
    sample = Sample(kafka.sample) if kafka.sample < 1 else None
    one = partial(
        KafkaSource,
        sorted(engine.topics), prepared.kafka, start=kafka.start, out_of_range=kafka.out_of_range, sample=sample,
    )  # fmt: skip
    source = (
        one() if kafka.workers == 1 else Workers(Job(one, _readings(lines, prepared.schemas), settle), kafka.workers)
    )
    outside.metrics.reads_batches(source.path == "batch")
    outside.reporter.work_in(prepared.directory if config.alert.report == "firing" else None)
    given = tools(config, prepared.directory, outside)
    channels = {name: opened(given) for name, opened in prepared.channels.items()}
    courier = Courier(channels)
    for listening in channels.values():
        listening.listen(outside.inbox.ask)
    pace = Pace(config.state.checkpoint / 1000, kafka.idle_timeout / 1000, config.state.checkpoint_records)
    watched = {line.name: places[line.name].watched(line.limits) for line in lines}
    outside.metrics.configured(watched, len(config.http.scores))
    return Daemon(engine, source, store, courier, outside, pace)


def _readings(lines: Sequence[Line], schemas: Mapping[str, Schemas]) -> Sequence[Reading]:
    return [replace(reading, schemas=schemas.get(line.name)) for line in lines for reading in line.readings]


def tools(config: Config, directory: Path, outside: Outside) -> Tools:
    """What channels work with: the page where an incident is shown, its picture and its report. directory: of the
    state.

    Tests and digests are no incident, so what they lead to is the overview.
    """
    page = config.http.public_url.rstrip("/")

    def is_incident(notice: Notice) -> bool:
        return not notice.body.test and getattr(notice.body, "change", "") != "digest"

    def link(notice: Notice) -> str:
        place = f"/incidents/{quote(notice.incident, safe='')}" if is_incident(notice) else "/"
        return f"{page}{place}" if page else ""

    def report_link(notice: Notice) -> str:
        is_made = config.alert.report == "firing" and is_incident(notice) and notice.body.columns
        return f"{link(notice)}/report" if page and is_made else ""

    def report(notice: Notice, deliver: Callable[[bytes], None]) -> None:
        if is_incident(notice) and notice.body.columns:
            outside.reporter.ask(notice.incident, deliver)

    def drawn(notice: Notice) -> bytes | None:
        try:
            return picture(directory, notice)
        except ChildFault as fault:
            extra = {"event": "picture.not_made", "incident": notice.incident}
            log.warning("no picture of %s: %s", notice.incident, fault, extra=extra)
            return None

    return Tools(picture=drawn, link=link, report_link=report_link, report=report, later=outside.pictures.put)


@dataclass(frozen=True, slots=True)
class InForce:
    """A model's reference, and the directory that it was read from."""

    directory: Path
    reference: Reference

    def watched(self, limits: Mapping[str, Mapping[str, float]]) -> Watched:
        """The model as metrics show it. limits: see `Line.limits`."""
        return Watched(self.reference.id[:12], self.reference.sealed_at, limits)


def _in_force(prepared: Prepared, store: Store) -> Mapping[str, InForce]:
    """Each model's reference: the configured one, or the one that a retraining put in its place."""
    folder = prepared.folder
    found = {m.name: InForce(folder / m.reference, prepared.references[m.name]) for m in prepared.config.model}
    for model in prepared.config.model:
        replaced = store.replaced(model.name, str(model.reference))
        if replaced is None:
            continue
        try:
            found[model.name] = InForce(folder / replaced, unseal(folder / replaced))
        except ReferenceFault as fault:
            stays = {"event": "reference.not_replaced", "model": model.name}
            log.error("model %s stays with its configured reference: %s", model.name, fault, extra=stays)
    return found


class Control:
    """Stop and reload, by signals. A new configuration that is wrong is told and changes nothing."""

    def __init__(self, read: Callable[[], Prepared], notifier: Notifier, outside: Outside) -> None:
        self._read = read
        self._notifier = notifier
        self._outside = outside
        self._stop, self._reload = threading.Event(), threading.Event()
        self.page = Page(outside, self._reload.set)
        self.prepared = read()
        self.page.listen(self.prepared.config)

    def install(self) -> None:
        """SIGTERM and SIGINT stop, SIGHUP reloads."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        signal.signal(signal.SIGHUP, lambda *_: self._reload.set())

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def wanted(self) -> bool:
        """Whether the present daemon is to go on; False once there is a new configuration or none is wanted."""
        if self.stopping:
            self._notifier.stopping()
            return False
        if not self._reload.is_set():
            return True
        self._reload.clear()
        self._notifier.reloading()
        try:
            fresh = self._read()
            if fresh.directory != self.prepared.directory:
                raise ConfigError(str(fresh.folder), [Problem("state.directory", "cannot change while driftd runs")])
            if (Membership.of(fresh) is None) != (Membership.of(self.prepared) is None):
                raise ConfigError(str(fresh.folder), [Problem("kafka.mode", "cannot change while driftd runs")])
            self.page.listen(fresh.config)
        except DriftdError as fault:
            text = "the configuration was not reloaded, the old one stays in force: %s"
            log.error(text, fault, extra={"event": "reload.failed"})
            self._outside.metrics.refused()
            self._outside.health.configuration(str(fault))
            self._notifier.unchanged("the last reload failed, the old configuration is in force")
            return True
        self.prepared = fresh
        self._outside.health.configuration()
        return False


def _estate(prepared: Prepared, store: Store) -> Estate:
    """What housekeeping keeps in order."""
    places = {name: Place(each.directory, each.reference.id) for name, each in _in_force(prepared, store).items()}
    return Estate(prepared.config, prepared.directory, places, prepared.heartbeat)


def serve(file: Path, read: Callable[[Path], Config]) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
    settle()
    notifier, outside = Notifier(), Outside()
    notifier.more_time(STEP_SECONDS, "opening the references")
    control = Control(lambda: prepare(file, read(file)), notifier, outside)
    control.install()
    try:
        while not control.stopping:
            membership = Membership.of(control.prepared)
            if membership is None:
                _go_on(control, Shift(control), outside, notifier)
            else:
                _take_turns(control, membership, outside, notifier)
        log.info("driftd has stopped", extra={"event": "service.stopped"})
    finally:
        control.page.close()


@dataclass(frozen=True)
class Membership:
    """What a place in the group of daemons that take turns on one state depends on."""

    group: str
    instance: str
    topics: Sequence[str]
    options: Mapping[str, object]

    @classmethod
    def of(cls, prepared: Prepared) -> Membership | None:
        """None for a daemon that has its state to itself."""
        kafka = prepared.config.kafka
        if kafka is None or kafka.mode != "group":
            return None
        topics = sorted({topic for model in prepared.config.model for topic in model.all_topics})
        return cls(kafka.group, kafka.instance, topics, prepared.kafka)

    def begin(self, directory: Path, rebalanced: Callable[[], None]) -> Member:
        """Join the group. rebalanced: see `Member`."""
        return Member(self.topics, self.options, self.group, identity(directory), self.instance, rebalanced)


class Shift:
    """A stretch of work on the state. member, turn: None for a daemon that has it to itself."""

    def __init__(self, control: Control, member: Member | None = None, turn: Turn | None = None) -> None:
        self._control = control
        self._member = member
        self._membership = Membership.of(control.prepared)
        self.turn = turn

    def wanted(self) -> bool:
        """Whether the present configuration is to go on."""
        return self._control.wanted() and self._has_turn()

    def lasts(self) -> bool:
        """Whether there is to be more work, perhaps with another configuration."""
        return not self._control.stopping and self._has_turn()

    def _has_turn(self) -> bool:
        if self._member is None:
            return True
        return self._member.turn() is not None and Membership.of(self._control.prepared) == self._membership


def _go_on(control: Control, shift: Shift, outside: Outside, notifier: Notifier) -> None:
    """Work on the state, one configuration after the other."""
    notifier.more_time(STEP_SECONDS, "opening the state")
    store = Store(control.prepared.directory, shift.turn)
    if store.database.recovered_from is not None:
        outside.metrics.recovered()
    try:
        while shift.lasts():
            notifier.more_time(STEP_SECONDS, "going on from the state")
            try:
                _work(control, shift, store, outside, notifier)
            except StoreDamaged as fault:
                if store.database.recovered_from is not None:  # once may be an accident
                    raise
                store.recover(fault)
                outside.metrics.recovered()
    finally:
        store.close()


def _take_turns(control: Control, membership: Membership, outside: Outside, notifier: Notifier) -> None:
    """Stand by until it is this daemon's turn, work while it lasts, and stand by again."""
    member = membership.begin(control.prepared.directory, outside.metrics.rebalanced)
    try:
        while not control.stopping and Membership.of(control.prepared) == membership:
            if (turn := _stand_by(control, member, outside, notifier)) is None:
                continue
            log.warning("it is this daemon's turn", extra={"event": "group.turn", "generation": turn.generation})
            try:
                _go_on(control, Shift(control, member, turn), outside, notifier)
            except (StoreFenced, StoreLocked) as fault:
                log.warning("%s; standing by", fault, extra={"event": "group.fenced"})
                time.sleep(FENCED_SECONDS)
    finally:
        member.close()


def _stand_by(control: Control, member: Member, outside: Outside, notifier: Notifier) -> Turn | None:
    """Wait for this daemon's turn; None when it is to stop, or has another configuration."""
    words = "standing by: another daemon of the group works, or Kafka is not there yet"
    prepared = control.prepared
    control.page.show(prepared.config, prepared.folder, prepared.directory, prepared.door)
    notifier.ready(words)
    log.info(words, extra={"event": "group.standing_by"})
    while control.wanted():
        if (generation := member.turn()) is not None:
            return Turn(generation, member.holder)
        for _, answer in outside.inbox.take():
            answer.set_result(Answer(False, "this daemon stands by; ask the one of its group that works"))
        outside.metrics.came_round({}, member.connected)
        outside.health.stood_by()
        notifier.progress(words)
        time.sleep(STAND_BY_SECONDS)
    return None


def _not_ours(directory: Path) -> list[Problem]:
    """What is wrong with a state directory that systemd does not let this service write to."""
    own = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if not own or os.access(directory if directory.exists() else directory.parent, os.W_OK):
        return []
    told = f'found {directory}, where this service may not write; wanted its own: directory = "{own}"'
    return [Problem("state.directory", told)]


def _work(control: Control, shift: Shift, store: Store, outside: Outside, notifier: Notifier) -> None:
    """One configuration at work, until a stop or another one is wanted."""
    daemon = assemble(control.prepared, store, outside)
    jobs = housekeeping(_estate(control.prepared, store), store, outside)
    jobs.start()
    prepared = control.prepared
    letterbox = _letterbox(prepared, outside)
    try:
        control.page.show(prepared.config, prepared.folder, prepared.directory, prepared.door)
        notifier.ready(daemon.status)
        log.info("driftd is running: %s", daemon.status, extra={"event": "service.running"})
        daemon.run(shift.wanted, notifier.progress)
    finally:
        jobs.stop()
        if letterbox is not None:
            letterbox.close()


def _letterbox(prepared: Prepared, outside: Outside) -> Letterbox | None:
    """What produces dead letters; it reads and writes the state through the loop."""
    kafka, chores = prepared.config.kafka, outside.inbox.chores
    if kafka is None or not kafka.dead_letter_topic:
        return None

    def waiting(limit: int) -> Future[Sequence[Letter]]:
        found: Future[Sequence[Letter]] = Future()
        chores.put(lambda _, store: found.set_result(store.letters(limit)))
        return found

    def produced(letters: Sequence[int]) -> None:
        chores.put(lambda _, store: store.produced(letters))
        outside.metrics.produced(len(letters))

    return Letterbox(kafka.dead_letter_topic, prepared.kafka, waiting, produced)


def _schemas(model: Model, folder: Path, where: str) -> Schemas | Problem | None:
    """Where a model's schemas come from, or what is wrong with that."""
    file, url = model.schema_file, model.schema_registry
    if not DECODERS[model.format].needs_schemas:
        if file is None and url is None:
            return None
        return Problem(f"{where}.schema_{'file' if file else 'registry'}", f"format {model.format!r} has no use for it")
    if importlib.util.find_spec("fastavro") is None:
        return Problem(f"{where}.format", f"format {model.format!r} needs the package fastavro: install driftd[avro]")
    if (file is None) == (url is None):
        found = "neither" if file is None else "both"
        return Problem(f"{where}.schema_file", f"found {found} of schema_file and schema_registry, wanted one of them")
    try:
        return SchemaFile(folder / file) if file is not None else Registry(url or "")
    except (OSError, ValueError) as error:
        return Problem(f"{where}.schema_{'file' if file else 'registry'}", f"cannot be used: {error}")


def _kafka_options(config: Config, folder: Path) -> Mapping[str, object]:
    """kafka-python's options, with secrets in their places."""
    if config.kafka is None:
        return {}
    extra = config.kafka.model_extra or {}
    hidden = secrets(extra, folder, "kafka")
    plain = {key: value for key, value in extra.items() if key.removesuffix("_file").removesuffix("_env") not in hidden}
    plain |= {key: str(folder / plain[key]) for key in _KAFKA_FILES & plain.keys()}
    return {"bootstrap_servers": list(config.kafka.bootstrap_servers), **plain, **hidden}
