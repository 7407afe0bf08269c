"""What driftd tells of itself: the values behind `--json`, the API and the page. Times are RFC 3339."""

from __future__ import annotations

import msgspec

from monitor.alert import Change
from monitor.decision import Verdict
from monitor.decision.budget import Ledger
from monitor.join import Labelled
from monitor.line import Counts
from monitor.message import ColumnChange
from monitor.retrain import Past, Trigger


class ClosedWindow(msgspec.Struct, frozen=True):
    """A window that has closed. outcomes: how many columns got each verdict in it; bins: the cells it lies on."""

    index: int
    start: str | None
    end: str | None
    n_rows: int
    outcomes: dict[str, int]
    n_late: int = 0
    revision: int = 0
    bins: str = ""


class ModelStatus(msgspec.Struct, frozen=True):
    """How one model stands. n_waiting: rows in windows that are still open; incident: the one that is firing.

    budget: the ledger of each segment, where the model works under the budget and has closed a window. labelled: what
    became of labels that come later; coverage: share of the predictions that have got theirs, None where none can.
    with_label: share of the last window's rows that have a loss, None where the reference has none.
    """

    model: str
    counts: Counts
    n_windows: int
    n_waiting: int
    last_window: ClosedWindow | None
    incident: str | None
    severity: str | None
    budget: dict[str, Ledger] = {}
    labelled: Labelled = Labelled()
    coverage: float | None = None
    with_label: float | None = None


class Status(msgspec.Struct, frozen=True):
    """How the service stands. outbox: notices by state; problems: the latest reasons why some were not delivered."""

    running: bool
    directory: str
    models: tuple[ModelStatus, ...]
    outbox: dict[str, int]
    problems: tuple[str, ...]


class Incident(msgspec.Struct, frozen=True):
    """One incident in short. columns: the worst first."""

    id: str
    model: str
    segment: str
    state: str
    severity: str
    opened_window: int
    opened: str | None
    changed: str | None
    columns: tuple[str, ...]
    reason: str


class Delivery(msgspec.Struct, frozen=True):
    """What became of one notice. state: pending | sent | dead | dropped."""

    id: str
    channel: str
    purpose: str
    state: str
    attempts: int
    queued: str | None
    done: str | None
    reason: str
    incident: str = ""


class Explanation(msgspec.Struct, frozen=True):
    """Everything about one incident. verdicts: each column's in the window that changed the incident last; made: when
    each of the changes was made."""

    incident: Incident
    changes: tuple[Change, ...]
    triggers: tuple[Trigger, ...]
    deliveries: tuple[Delivery, ...]
    verdicts: tuple[Verdict, ...]
    made: tuple[str | None, ...] = ()


class TriggerEntry(msgspec.Struct, frozen=True):
    """A retraining trigger with its evidence. step: where it stands; history: how it came there; run: what the job's
    system calls the run that was started, None where it did not say."""

    id: str
    incident: str
    model: str
    channel: str
    step: str
    made: str | None
    reason: str
    columns: tuple[ColumnChange, ...]
    history: tuple[Past, ...]
    version: str | None = None
    reference: str | None = None
    run: str | None = None


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that became no row. head: its first bytes, as text."""

    n: int
    model: str
    topic: str
    partition: int
    offset: int
    kind: str
    reason: str
    head: str
    seen: str | None


class ColumnPoint(msgspec.Struct, frozen=True):
    """One column in one window.

    missing, invalid: shares of all rows; odd: share of the valid rows outside the reference's range or vocabulary.
    levels: quantiles of a numeric column, or shares of the reference's most frequent words; see `ColumnHistory`.
    """

    index: int
    start: str | None
    outcome: str
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    evidence: float | None
    n_current: int | None
    missing: float | None
    invalid: float | None
    odd: float | None
    levels: tuple[float | None, ...]
    bins: str


class ColumnHistory(msgspec.Struct, frozen=True):
    """One column over all windows that are kept.

    kind: numeric | categorical | unknown (the reference has no such column). labels: of the levels, such as "0.05" or a
    word. reference: the levels there, of the cells named by `bins`; None where those are not kept any more.
    """

    model: str
    segment: str
    column: str
    kind: str
    labels: tuple[str, ...]
    bins: str
    reference: tuple[float | None, ...] | None
    reference_missing: float | None
    points: tuple[ColumnPoint, ...]
