"""The tables of a configuration, as frozen models; `monitor.configfile` reads them.

A secret is never a value: `<key>_file` is a path (relative to $CREDENTIALS_DIRECTORY if that is set, else to the
configuration's own directory), `<key>_env` the name of an environment variable. Other relative paths are relative to
the configuration's directory. Options of channels belong to the channels' own files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
PERIODS_MS: Final = {"day": 86_400_000, "week": 604_800_000, "month": 2_592_000_000}

_LONGEST_MS: Final = 36_500 * _UNITS_MS["d"]
_TOO_LONG: Final = 'wanted a duration of "36500d" or less'
_MOST_ROWS: Final = 10**12
_LAST_PORT: Final = 65_535

EVIDENCE: Final = "evidence"
"""What the budget decides by, where detectors are named."""


def _duration(value: Any) -> Any:
    """Text such as "90s" to milliseconds; a number is passed on only if it came from a default."""
    if not isinstance(value, str):
        raise ValueError('wanted a duration in quotes, such as "90s", "10m", "1h" or "7d"')
    if not re.fullmatch(r"(\d+\s*(ms|s|m|h|d)\s*)+", value):
        raise ValueError('wanted a duration, such as "90s", "10m", "1h30m" or "7d"')
    parts = re.findall(r"(\d+)\s*(ms|s|m|h|d)", value)
    if any(len(number) > 18 for number, _ in parts):
        raise ValueError(_TOO_LONG)
    found = sum(int(number) * _UNITS_MS[unit] for number, unit in parts)
    if found > _LONGEST_MS:
        raise ValueError(_TOO_LONG)
    return found


def _listening(value: Any) -> Any:
    """Text that is an address and a port, or empty."""
    if isinstance(value, str) and value:
        address(value)
    return value


def address(listen: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:8787" or "[::1]:8787". ValueError when it is not of that form."""
    host, separator, port = listen.rpartition(":")
    if not separator or not re.fullmatch("[0-9]{1,5}", port) or int(port) > _LAST_PORT or not host.strip("[]"):
        raise ValueError('wanted an address and a port, such as "127.0.0.1:8787" or "[::1]:8787"')
    return host.strip("[]"), int(port)


DurationMs = Annotated[int, BeforeValidator(_duration)]


class Rows(BaseModel):
    """A window that is full after so many rows, in the order they are read."""

    model_config = ConfigDict(frozen=True)
    n_rows: int = Field(gt=0)

    def __str__(self) -> str:
        return f"{self.n_rows:,} rows"


class Span(BaseModel):
    """A window of event time."""

    model_config = ConfigDict(frozen=True)
    width_ms: int = Field(gt=0)

    def __str__(self) -> str:
        """As one writes it in a configuration.

        >>> str(Span(width_ms=5_400_000))
        '1h30m'
        """
        left, words = self.width_ms, ""
        for unit, size in sorted(_UNITS_MS.items(), key=lambda item: -item[1]):
            whole, left = divmod(left, size)
            words += f"{whole}{unit}" if whole else ""
        return words


def _window(value: Any) -> Any:
    match = re.fullmatch(r"(\d+)\s*rows?", value) if isinstance(value, str) else None
    if match is not None and 0 < int(match[1][:20]) <= _MOST_ROWS:
        return Rows(n_rows=int(match[1]))
    try:
        width_ms = _duration(value)
    except ValueError as error:
        if str(error) == _TOO_LONG:
            raise
        width_ms = 0
    if width_ms == 0:
        raise ValueError('wanted a duration such as "1h", or a number of rows such as "5000 rows"')
    return Span(width_ms=width_ms)


class Table(BaseModel):
    """A table whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Kafka(Table):
    """`[kafka]`: where the records are. Keys beyond these are kafka-python's consumer options, by their own names.

    mode, group, instance: see docs/operate.md. out_of_range: where to read on when Kafka has deleted records before
    they were read, or whether to stop there. workers: processes that read and decode. dead_letter_topic: where records
    that became no row are told of, "" for nowhere but the state.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    bootstrap_servers: tuple[str, ...] = Field(min_length=1)
    start: Literal["earliest", "latest"] = "earliest"
    mode: Literal["assign", "group"] = "assign"
    group: str = Field(default="driftd", min_length=1)
    instance: str = ""
    out_of_range: Literal["earliest", "latest", "stop"] = "earliest"
    idle_timeout: DurationMs = _duration("1m")
    sample: float = Field(default=1.0, gt=0, le=1)
    workers: int = Field(default=1, ge=1, le=64)
    dead_letter_topic: str = Field(default="", max_length=249, pattern=r"^[A-Za-z0-9._-]*$")


class State(Table):
    """`[state]`: where driftd remembers.

    sample_rows: of every window, kept with it; sample_retention: how long, where nothing in the window drifts.
    max_open_windows: of a model, its segments' included; see `Windows.ahead`.
    """

    directory: Path = Path("/var/lib/driftd")
    retention: DurationMs = _duration("90d")
    sample_rows: int = Field(default=300, ge=0, le=10_000)
    sample_retention: DurationMs = _duration("7d")
    checkpoint: DurationMs = Field(default=_duration("5s"), gt=0)
    checkpoint_records: int = Field(default=1_000_000, ge=1)
    max_open_windows: int = Field(default=1_000, ge=10)
    backup: DurationMs = _duration("24h")


class Budget(Table):
    """`[budget]`: how many false alarms are acceptable, over everything together."""

    false_alarms: float = Field(default=1.0, gt=0)
    per: Literal["day", "week", "month"] = "week"


class Fields(Table):
    """`[model.fields]`: dotted paths into a record; for files, column names."""

    id: str | None = None
    timestamp: str | None = None
    prediction: str | None = None
    score: str | None = None
    label: str | None = None
    features: str | tuple[str, ...] | None = None


class Labels(Table):
    """`[model.labels]`: labels that come later than their predictions.

    topic: of their own, "" where they come among the predictions. id, label: dotted paths into their records, those of
    `[model.fields]` where they are not named. timestamp: when the label was known, the log's own time where it is not
    named. lag: how long a prediction waits for its label; max_waiting: predictions that may wait.
    """

    topic: str = ""
    format: str | None = None
    id: str | None = None
    label: str | None = None
    timestamp: str | None = None
    lag: DurationMs = Field(default=_duration("7d"), gt=0)
    max_waiting: int = Field(default=1_000_000, ge=1)


class Column(Table):
    """`[model.columns.NAME]`: what is known of a column beyond its values."""

    kind: Literal["numeric", "categorical", "boolean", "text", "embedding", "ignore"] | None = None
    importance: float = Field(default=1.0, ge=0)
    min: float | None = None
    max: float | None = None
    required: bool = False


class Model(Table):
    """`[[model]]`: one model, its log and its reference.

    schema_file, schema_registry: for formats whose records only name their schema, one of the two. correlations: how
    many numeric columns are watched two by two; 0: none. multivariate: ways to watch all columns at once.
    """

    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")
    version: str | None = None
    topics: tuple[str, ...] = ()
    format: str = "json"
    schema_file: Path | None = None
    schema_registry: str | None = None
    reference: Path
    window: Annotated[Span | Rows, BeforeValidator(_window)] = Span(width_ms=3_600_000)
    slide: DurationMs | None = None
    lateness: DurationMs = _duration("10m")
    silent_after: DurationMs | None = None
    decision: Literal["budget", "family", "rules"] = "budget"
    segments: tuple[str, ...] = ()
    max_segments: int = Field(default=50, gt=0)
    correlations: int = Field(default=16, ge=0, le=64)
    multivariate: tuple[Literal["mmd", "classifier"], ...] = ()
    fields: Fields = Fields()
    labels: Labels | None = None
    columns: Mapping[str, Column] = Field(default_factory=dict)

    @property
    def all_topics(self) -> tuple[str, ...]:
        """Those of its predictions, and that of its labels where they have one."""
        return (*self.topics, self.labels.topic) if self.labels and self.labels.topic else self.topics

    @property
    def without_labels(self) -> Model:
        """The same for logs whose labels come with their records, or never."""
        return self if self.labels is None else self.model_copy(update={"labels": None})


class Rule(Table):
    """`[[rule]]`: a fixed threshold on one detector's statistic. model and column: patterns as in file names.

    clear: once reached, the threshold holds until the statistic falls below this.
    """

    model: str = "*"
    column: str = "*"
    detector: str
    threshold: float
    clear: float | None = None
    for_windows: int = Field(default=1, ge=1)
    severity: Literal["info", "warning", "critical"] = "warning"


class Channel(Table):
    """`[[channel]]`: a destination. Its other keys belong to its kind."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(min_length=1)
    kind: str


class Route(Table):
    """`[[route]]`: which incidents go where; the first match wins. models, segments: patterns as in file names.

    hours: of the day, UTC, such as "08:00-18:00"; may span midnight.
    """

    models: tuple[str, ...] = ("*",)
    segments: tuple[str, ...] = ("*",)
    hours: str = Field(default="", pattern=r"^(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?$")
    min_severity: Literal["info", "warning", "critical"] = "info"
    channels: tuple[str, ...] = Field(min_length=1)


class Alert(Table):
    """`[alert]`: when incidents fire and end, and how often people are told. report: when an incident's is made."""

    for_windows: int = Field(default=1, ge=1)
    clear_windows: int = Field(default=2, ge=1)
    keep_firing_for: DurationMs = 0
    repeat: DurationMs = _duration("24h")
    burst: int = Field(default=20, ge=1)
    digest: str = Field(default="", pattern=r"^(([01]\d|2[0-3]):[0-5]\d)?$")
    report: Literal["asked", "firing"] = "asked"


class Retrain(Table):
    """`[[retrain]]`: when a model's drift calls its retraining job, and what becomes of it.

    retrain_cost: what a retraining costs, in units of the loss summed over predictions. max_age: event time after which
    a model is retrained though nothing drifts, 0 for never. callback_secret: with which the job signs its call-back.
    """

    model: str
    channel: str
    mode: Literal["auto", "approve", "dry_run"] = "dry_run"
    cooldown: DurationMs = _duration("7d")
    max_per_day: int = Field(default=2, ge=1)
    min_rows: int = Field(default=0, ge=0)
    min_effect: float = Field(default=0.0, ge=0)
    min_loss_rise: float = Field(default=0.0, ge=0)
    min_labels: int = Field(default=0, ge=0)
    retrain_cost: float = Field(default=0.0, ge=0)
    max_age: DurationMs = 0
    ttl: DurationMs = _duration("24h")
    callback_within: DurationMs = 0
    rotate: Literal["approve", "auto"] = "approve"
    check_after: DurationMs = _duration("7d")
    callback_secret_file: str | None = None
    callback_secret_env: str | None = None


class Heartbeat(Table):
    """`[heartbeat]`: a POST every so often while all is well, to who notices when it does not come. url: a secret, as
    such addresses are."""

    url_file: str | None = None
    url_env: str | None = None
    every: DurationMs = Field(default=_duration("1m"), ge=10_000)
    allow_http: bool = False
    allow_private: bool = False


class Http(Table):
    """`[http]`: health, metrics, page and API."""

    listen: Annotated[str, BeforeValidator(_listening)] = "127.0.0.1:8787"
    token_file: str | None = None
    token_env: str | None = None
    public_url: str = Field(default="", pattern=r"^(https?://[^\s?#]+)?$")
    scores: tuple[str, ...] = ()


class Config(Table):
    """The whole file."""

    kafka: Kafka | None = None
    state: State = State()
    budget: Budget = Budget()
    model: tuple[Model, ...] = Field(min_length=1)
    rule: tuple[Rule, ...] = ()
    channel: tuple[Channel, ...] = ()
    route: tuple[Route, ...] = ()
    retrain: tuple[Retrain, ...] = ()
    alert: Alert = Alert()
    http: Http = Http()
    heartbeat: Heartbeat | None = None

    @property
    def unsampled(self) -> Config:
        """The same for logs of which every record is looked at."""
        if self.kafka is None or self.kafka.sample == 1:
            return self
        return self.model_copy(update={"kafka": self.kafka.model_copy(update={"sample": 1.0})})

    @property
    def hash(self) -> str:
        """SHA-256 of the content; secrets are no values, so not in it, nor is what no verdict depends on."""
        beside = {"kafka": {"workers", "dead_letter_topic"}, "http": {"scores"}}
        return hashlib.sha256(self.model_dump_json(exclude=beside).encode()).hexdigest()
