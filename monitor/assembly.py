"""From a configuration to a daemon: opens what it names, or says all that is missing, and puts the parts together."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
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
from monitor.chores import Estate, Place
from monitor.config import Channel as ChannelTable
from monitor.config import Config, Model
from monitor.daemon import Daemon, Outside, Pace
from monitor.decode import REGISTRY as DECODERS
from monitor.decode import Schemas
from monitor.decode.reading import Reading
from monitor.engine import Engine
from monitor.errors import ChildFault, ConfigError, Problem, ReferenceFault
from monitor.heartbeat import Heartbeat
from monitor.line import Line, shape
from monitor.message import Notice
from monitor.metrics import Watched
from monitor.outbox import Courier
from monitor.page import Door, door
from monitor.picture import picture
from monitor.reference import unseal
from monitor.secret import secrets
from monitor.sources.kafka import KafkaSource
from monitor.sources.letters import Letterbox
from monitor.sources.registry import Registry, SchemaFile
from monitor.sources.sample import Sample
from monitor.sources.workers import Job, Workers
from monitor.store import Store
from monitor.tune import settle
from monitor.window import Segments

log = logging.getLogger(__name__)

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
        with _collected(problems):
            channels[table.name] = channel(table, folder, f"channel[{i}]")
    kafka: Mapping[str, object] = {}
    with _collected(problems):
        kafka = _kafka_options(config, folder)
    opening, heartbeat = Door(None, {}), None
    with _collected(problems):
        opening = door(config, folder)
    with _collected(problems):
        heartbeat = _heartbeat(config, folder)
    if config.kafka is None:
        problems.append(Problem("kafka", "there is no [kafka] table; the service needs one to read from"))
    problems += _not_ours(folder / config.state.directory)
    if problems:
        raise ConfigError(str(file), problems)
    return Prepared(config, folder, references, channels, schemas, kafka, opening, heartbeat)


@contextmanager
def _collected(problems: list[Problem]) -> Iterator[None]:
    """What is missing is noted, each problem once, and the work goes on."""
    try:
        yield
    except ConfigError as fault:
        problems += [problem for problem in fault.problems if problem not in problems]


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
            Segments.of(references[model.name].bins, model.segments, model.max_segments)
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
    config, places = prepared.config, in_force(prepared, store)
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


def in_force(prepared: Prepared, store: Store) -> Mapping[str, InForce]:
    """Each model's reference: the configured one, or the one that a retraining put in its place."""
    folder = prepared.folder
    found = {m.name: InForce(folder / m.reference, prepared.references[m.name]) for m in prepared.config.model}
    for model in prepared.config.model:
        replaced = store.replaced(model.name, str(model.reference))
        if replaced is None:
            continue
        try:
            new = InForce(folder / replaced, unseal(folder / replaced))
            Segments.of(new.reference.bins, model.segments, model.max_segments)
            found[model.name] = new
        except ReferenceFault as fault:
            stays = {"event": "reference.not_replaced", "model": model.name}
            log.error("model %s stays with its configured reference: %s", model.name, fault, extra=stays)
    return found


def estate(prepared: Prepared, store: Store) -> Estate:
    """What housekeeping keeps in order."""
    places = {name: Place(each.directory, each.reference.id) for name, each in in_force(prepared, store).items()}
    return Estate(prepared.config, prepared.directory, places, prepared.heartbeat)


def _not_ours(directory: Path) -> list[Problem]:
    """What is wrong with a state directory that systemd does not let this service write to."""
    own = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if not own or os.access(directory if directory.exists() else directory.parent, os.W_OK):
        return []
    told = f'found {directory}, where this service may not write; wanted its own: directory = "{own}"'
    return [Problem("state.directory", told)]


def letterbox(prepared: Prepared, outside: Outside) -> Letterbox | None:
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
