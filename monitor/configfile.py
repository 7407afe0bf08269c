"""From a TOML file to a checked configuration: every mistake at once.

What pydantic cannot see of one table alone is checked here: names that must be defined elsewhere, and words that only
the rest of driftd knows. Options of channels belong to the channels' own files; `load` is given their models.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from detectors.domain import LEAST_ROWS
from detectors.parts import Measure
from monitor.config import EVIDENCE, Config, Kafka, Labels, Model, Rows
from monitor.errors import ConfigError, Problem
from monitor.mistakes import mistakes, nearest


class Known:
    """The words that only the rest of driftd knows: what `load` checks names against."""

    def __init__(
        self, formats: Iterable[str], detectors: Iterable[str], channels: Mapping[str, type[BaseModel]]
    ) -> None:
        self.formats = frozenset(formats)
        self.detectors = frozenset(detectors)
        self.channels = channels


def load(file: Path, known: Known) -> Config:
    """Read and check a configuration. ConfigError names every mistake in it."""
    found = document(file)
    problems = list(_secrets_in_values(found))
    try:
        config = Config.model_validate(found)
    except ValidationError as error:
        problems += mistakes(error, Config)
        places = {problem.where for problem in problems}
        rest = _what_is_left(found, error)
        others = _cross_checks(rest, known) if rest is not None else ()
        problems += [problem for problem in others if problem.where not in places]
        raise ConfigError(str(file), problems) from error
    problems += _cross_checks(config, known)
    if problems:
        raise ConfigError(str(file), problems)
    return config


def _what_is_left(found: Mapping[str, Any], error: ValidationError) -> Config | None:
    """The configuration without the values that this error is about; None where that is none, or a model or a
    channel would be lost.
    """
    left, wrong = deepcopy(dict(found)), []
    for detail in error.errors(include_url=False, include_context=False):
        if detail["type"] == "too_short":
            continue  # items with a mistake were not counted; without their mistakes they will be
        holder, key, value = left, str(detail["loc"][0]), left.get(str(detail["loc"][0]))
        for part in detail["loc"][1:]:
            if isinstance(value, dict) and part in value:
                holder, key, value = value, str(part), value[part]
            elif isinstance(value, list) and isinstance(part, int):
                value = value[part]
            else:
                break
        if holder is left and key in {"model", "channel"}:
            return None  # others name them
        wrong.append((holder, key))
    for holder, key in wrong:
        holder.pop(key, None)
    try:
        return Config.model_validate(left)
    except ValidationError:
        return None


def document(file: Path) -> dict[str, Any]:
    """What stands in a TOML file. ConfigError when it cannot be read, or is none."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(file), [Problem("file", f"cannot be read: {error.strerror}")]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), [Problem("file", f"is not TOML: {error}")]) from error


def _secrets_in_values(table: Mapping[str, Any], where: str = "") -> Iterator[Problem]:
    """Keys that hold a secret in the open, and addresses that do. The value itself is never repeated."""
    for key, value in table.items():
        place = f"{where}.{key}" if where else key
        for i, inner in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(inner, str) and re.match(r"[\w.+-]+://[^/?#]*@", inner):
                yield Problem(place, "an address with user:password@ would show up in logs; leave that part out")
            if isinstance(inner, dict):
                yield from _secrets_in_values(inner, f"{place}[{i}]" if isinstance(value, list) else place)
        if isinstance(value, str) and re.search(r"(^|_)(token|secret|password)$", key):
            yield Problem(place, f"a secret must not stand in the configuration; use {key}_file or {key}_env")


def _cross_checks(config: Config, known: Known) -> Iterator[Problem]:
    """What one table says of another, and words that only the rest of driftd knows."""
    yield from _twice("model", [model.name for model in config.model])
    yield from _twice("channel", [channel.name for channel in config.channel])
    for i, model in enumerate(config.model):
        yield from _unknown(f"model[{i}].format", model.format, known.formats, "format")
        if config.kafka is not None and not model.topics:
            yield Problem(f"model[{i}].topics", "no topic, but there is a [kafka] table; name the topics to read")
        if model.multivariate and model.decision != "budget":
            found = f'found {", ".join(model.multivariate)}, which needs the budget; wanted decision = "budget"'
            yield Problem(f"model[{i}].multivariate", found)
        if Measure.CLASSIFIER in model.multivariate and config.state.sample_rows < LEAST_ROWS:
            found = f"found {Measure.CLASSIFIER}, which needs rows; wanted state.sample_rows = {LEAST_ROWS} or more"
            yield Problem(f"model[{i}].multivariate", found)
        if model.labels is not None:
            yield from _of_labels(f"model[{i}]", model, model.labels, config.kafka, known)
        if config.kafka is not None and config.kafka.dead_letter_topic in model.all_topics:
            told = (
                f"found {config.kafka.dead_letter_topic!r}, which model {model.name} reads; wanted a topic of its own"
            )
            yield Problem("kafka.dead_letter_topic", told)
        yield from _of_columns(f"model[{i}].columns", model)
    yield from _references(config, known)
    yield from _of_watching(config, known)
    for i, channel in enumerate(config.channel):
        yield from _unknown(f"channel[{i}].kind", channel.kind, known.channels, "kind of channel")
        options = known.channels.get(channel.kind)
        try:
            if options is not None:
                options.model_validate(channel.model_extra or {})
        except ValidationError as error:
            yield from mistakes(error, options or BaseModel, f"channel[{i}]")


def _of_columns(where: str, model: Model) -> Iterator[Problem]:
    for name, column in model.columns.items():
        if column.min is not None and column.max is not None and column.min > column.max:
            yield Problem(f"{where}.{name}.min", f"found {column.min:g}, beyond max = {column.max:g}")


def without_effect(config: Config) -> Iterator[Problem]:
    """Keys that are taken and change nothing, so that nobody relies on them."""
    for i, model in enumerate(config.model):
        if model.slide is not None:
            words = f"windows of {model.window} do not overlap; leave it out, or choose a shorter window"
            yield Problem(f"model[{i}].slide", f"changes nothing: {words}")


def _of_watching(config: Config, known: Known) -> Iterator[Problem]:
    """What is shown and told to who watches driftd itself."""
    beats = config.heartbeat
    if beats is not None and (beats.url_file is None) == (beats.url_env is None):
        found = "neither" if beats.url_file is None else "both"
        yield Problem("heartbeat.url_file", f"found {found} of url_file and url_env, wanted one of them")
    for name in config.http.scores:
        yield from _unknown("http.scores", name, known.detectors | {EVIDENCE}, "detector")


def _of_labels(where: str, model: Model, labels: Labels, kafka: Kafka | None, known: Known) -> Iterator[Problem]:
    """What labels that come later ask of their model."""
    fields = model.fields
    if labels.format is not None:
        yield from _unknown(f"{where}.labels.format", labels.format, known.formats, "format")
    if labels.topic in model.topics:
        yield Problem(
            f"{where}.labels.topic",
            f"found {labels.topic!r}, a topic of predictions; leave it out: labels come there too",
        )
    if isinstance(model.window, Rows):
        yield Problem(f"{where}.labels", f'found a window of "{model.window.n_rows} rows", wanted one of event time')
    if kafka is not None and kafka.sample < 1:
        yield Problem("kafka.sample", f"found {kafka.sample:g}, but {where} joins labels by id; wanted every record")
    for name in ("id", "label"):
        if getattr(fields, name) is None:
            yield Problem(f"{where}.fields.{name}", "is required where labels come later")
    if fields.score is None and fields.prediction is None:
        yield Problem(f"{where}.fields.score", "neither it nor prediction is named; labels need one to compare with")


def _references(config: Config, known: Known) -> Iterator[Problem]:
    """Names in one table that must be defined in another."""
    models = {model.name for model in config.model}
    channels = {channel.name for channel in config.channel}
    for i, rule in enumerate(config.rule):
        yield from _unknown(f"rule[{i}].detector", rule.detector, known.detectors, "detector")
        yield from _unknown(f"rule[{i}].model", rule.model, models | {"*"}, "model")
    for i, route in enumerate(config.route):
        for name in route.channels:
            yield from _unknown(f"route[{i}].channels", name, channels, "channel")
        for name in route.models:
            yield from _unknown(f"route[{i}].models", name, models | {"*"}, "model")
    for i, retrain in enumerate(config.retrain):
        yield from _unknown(f"retrain[{i}].model", retrain.model, models, "model")
        yield from _unknown(f"retrain[{i}].channel", retrain.channel, channels, "channel")
        rows = [
            model.window.n_rows
            for model in config.model
            if model.name == retrain.model and isinstance(model.window, Rows)
        ]
        if retrain.max_age and rows:
            yield Problem(f"retrain[{i}].max_age", f'found a window of "{rows[0]} rows", wanted one of event time')
        if retrain.callback_secret_file is not None and retrain.callback_secret_env is not None:
            yield Problem(f"retrain[{i}].callback_secret_file", "found callback_secret_env too, wanted one of them")


def _unknown(where: str, word: str, names: Iterable[str], what: str) -> Iterator[Problem]:
    if word not in names:
        yield Problem(where, f"found {word!r}, no such {what}{nearest(word, names)}")


def _twice(kind: str, names: Sequence[str]) -> Iterator[Problem]:
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem(kind, f"{name!r} is the name of {names.count(name)} {kind}s, wanted one")
