"""What people and machines are told: plain structures, the same for every channel.

A notice is one message queued for one channel. Its body is one of the structures below as JSON; each channel lays it
out in its own way. Nothing here depends on the wall clock, so a replay tells the same story in the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

import msgspec

from detectors.parts import TOGETHER
from monitor.alert import Change, Drifting, Episode, Seen, State
from monitor.batch import NO_TIME, Severity
from monitor.decision import CLASSIFIER, CORRELATION, JOINT
from monitor.describe import several
from monitor.window import WHOLE


class Purpose(StrEnum):
    """Why a notice exists."""

    ALERT = "alert"
    RETRAIN = "retrain"
    DIGEST = "digest"


class ColumnChange(msgspec.Struct, frozen=True, kw_only=True):
    """One column of an incident.

    what: one sentence for people. effect: size of the change (see `measure`), with its 95 % interval where known.
    certainty: how sure it is and when the change itself began, in phrases.
    since_window, since: the first window of this episode in which the column drifted; `since` is RFC 3339 or None.
    """

    column: str
    segment: str
    what: str
    measure: str
    effect: float | None
    effect_low: float | None = None
    effect_high: float | None = None
    p_value: float | None = None
    certainty: tuple[str, ...] = ()
    since_window: int
    since: str | None = None


class WindowFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The window that caused a message. start and end are RFC 3339, None where rows have no time."""

    index: int
    start: str | None
    end: str | None
    n_rows: int


class RowRange(msgspec.Struct, frozen=True, kw_only=True):
    """Where a window's rows lie in the log, both offsets inclusive."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


class AlertBody(msgspec.Struct, frozen=True, kw_only=True, tag_field="purpose", tag="alert"):
    """An incident opened, changed or was resolved.

    state: firing | nodata | error | resolved. change: see `monitor.alert.Change`, or digest. columns: worst first;
    n_columns: columns watched. test: True when a person asked for it to try the channel. acknowledged: by whom.
    approvable: the trigger that waits for somebody's approval. dropped: what a receiver's limit left no room for.
    """

    incident: str
    model: str
    version: str | None
    segment: str
    state: str
    change: str
    severity: Severity
    title: str
    summary: str
    columns: tuple[ColumnChange, ...]
    n_columns: int
    window: WindowFacts
    since: str | None
    reference: str
    retraining: str | None = None
    test: bool = False
    acknowledged: str | None = None
    approvable: str | None = None
    dropped: tuple[str, ...] = ()


class RetrainBody(msgspec.Struct, frozen=True, kw_only=True, tag_field="purpose", tag="retrain"):
    """A call to a retraining job, with the evidence for it.

    trigger: the idempotency key, constant over every retry. rows: where the drifted rows lie. dropped: what a
    receiver's limit left no room for.
    """

    trigger: str
    incident: str
    model: str
    version: str | None
    reason: str
    columns: tuple[ColumnChange, ...]
    window: WindowFacts
    since: str | None
    rows: tuple[RowRange, ...]
    reference: str
    config: str
    test: bool = False
    dropped: tuple[str, ...] = ()


Body = AlertBody | RetrainBody


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message for one channel: a row of the outbox. `id` is its idempotency key and never changes."""

    id: str
    incident: str
    channel: str
    purpose: Purpose
    model: str
    window: int
    body: Body


class Subject(msgspec.Struct, frozen=True):
    """What every message about a model says of it.

    reference: its id; config: the hash of the configuration; sample: the share of records that is looked at. until_ms:
    event time at which the reference's rows end, NO_TIME where they have none.
    """

    model: str
    version: str | None
    n_columns: int
    reference: str
    config: str
    sample: float = 1.0
    until_ms: int = NO_TIME

    def scaled(self, n_rows: int) -> int:
        """Rows of the log that so many rows of the sample stand for."""
        return round(n_rows / self.sample)


def alert_body(subject: Subject, change: Change, retraining: str | None, approvable: str | None = None) -> AlertBody:
    """The message about a change of an incident. approvable: the trigger that waits for somebody's approval."""
    episode = change.episode
    return AlertBody(
        incident=episode.id,
        model=subject.model,
        version=subject.version,
        segment=change.segment,
        state=episode.state,
        change=change.change,
        severity=episode.severity,
        title=_title(subject, episode),
        summary=change.reason,
        columns=tuple(map(_column, episode.columns)),
        n_columns=subject.n_columns,
        window=_facts(subject, episode.window),
        since=rfc3339(episode.since_ms),
        reference=subject.reference,
        retraining=retraining,
        acknowledged=episode.acknowledged.by if episode.acknowledged else None,
        approvable=approvable,
    )


def _title(subject: Subject, episode: Episode) -> str:
    measures = {column.verdict.column: column.verdict.measure for column in episode.columns}
    n = Counter(measures.values())
    n_columns = len(measures) - sum(n[measure] for measure in TOGETHER)
    match episode.state:
        case State.RESOLVED:
            return "the incident is over"
        case State.NODATA:
            return f"no record has come since {rfc3339(episode.silent_since_ms)}"
        case State.ERROR:
            return "most records cannot be read"
    if not measures:
        return "the model has become too old"
    told = [
        f"{n_columns} of {subject.n_columns} columns drifted" if n_columns else "",
        f"{several(n[CORRELATION], 'correlation')} of columns changed" if n[CORRELATION] else "",
        "the joint distribution of columns changed" if n[JOINT] else "",
        "the rows can be told from the reference's" if n[CLASSIFIER] else "",
    ]
    return ", ".join(filter(None, told))


def retrain_body(subject: Subject, change: Change, trigger: str, reason: str) -> RetrainBody:
    """The call to a retraining job; its rows are those of all drifting windows of the incident so far."""
    episode = change.episode
    return RetrainBody(
        trigger=trigger,
        incident=episode.id,
        model=subject.model,
        version=subject.version,
        reason=reason,
        columns=tuple(map(_column, episode.columns)),
        window=_facts(subject, episode.window),
        since=rfc3339(episode.since_ms),
        rows=tuple(
            RowRange(topic=topic, partition=number, first_offset=first, last_offset=last)
            for topic, number, first, last in episode.window.rows
        ),
        reference=subject.reference,
        config=subject.config,
    )


def digest_body(incident: str, title: str, lines: Sequence[str], severity: Severity) -> AlertBody:
    """Many incidents in one message, one line each."""
    return AlertBody(
        incident=incident, model="*", version=None, segment=WHOLE, state="firing", change="digest", severity=severity,
        title=title, summary="; ".join(lines), columns=(), n_columns=0,
        window=WindowFacts(index=0, start=None, end=None, n_rows=0), since=None, reference="",
    )  # fmt: skip


def test_notice(channel: str, model: str, number: int) -> Notice:
    """A message that a person asked for, to see whether a channel works."""
    column = ColumnChange(
        column="example", segment=WHOLE, what="median 21,818 → 43,830", measure="ks", effect=0.44, effect_low=0.42,
        effect_high=0.45, p_value=1e-12, since_window=0,
    )  # fmt: skip
    body = AlertBody(
        incident=f"test-{number}", model=model, version=None, segment=WHOLE, state="firing", change="opened",
        severity=Severity.INFO, title="This is a test", summary="A person asked for it; nothing has drifted.",
        columns=(column,), n_columns=1, window=WindowFacts(index=0, start=None, end=None, n_rows=0), since=None,
        reference="none", test=True,
    )  # fmt: skip
    return notice(body.incident, channel, Purpose.ALERT, body)


def test_call(channel: str, model: str, number: int) -> Notice:
    """A call to a retraining job that a person asked for, to see what the job would get."""
    alert = test_notice(channel, model, number).body
    body = RetrainBody(
        trigger=f"test-{number}", incident=alert.incident, model=model, version=None,
        reason="This is a test: a person asked for it; nothing has drifted.", columns=alert.columns,
        window=alert.window, since=None, rows=(RowRange(topic="example", partition=0, first_offset=0, last_offset=0),),
        reference=alert.reference, config="none", test=True,
    )  # fmt: skip
    return notice(body.trigger, channel, Purpose.RETRAIN, body)


def notice(identity: str, channel: str, purpose: Purpose, body: Body) -> Notice:
    """A body on its way to a channel."""
    return Notice(
        id=identity, incident=body.incident, channel=channel, purpose=purpose, model=body.model,
        window=body.window.index, body=body,
    )  # fmt: skip


@lru_cache(maxsize=4096)  # a page writes out the same hours for every model
def rfc3339(time_ms: int) -> str | None:
    """A point in time for people and machines; None for NO_TIME.

    >>> rfc3339(1_700_000_000_000), rfc3339(1_700_000_000_250)
    ('2023-11-14T22:13:20Z', '2023-11-14T22:13:20.250Z')
    """
    if time_ms == NO_TIME:
        return None
    try:
        when = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # beyond the calendar: the number itself is all that can be said
        return f"{time_ms} ms"
    return when.isoformat(timespec="milliseconds" if time_ms % 1000 else "seconds").replace("+00:00", "Z")


def _facts(subject: Subject, window: Seen) -> WindowFacts:
    start, end = rfc3339(window.start_ms), rfc3339(window.end_ms)
    return WindowFacts(index=window.index, start=start, end=end, n_rows=subject.scaled(window.n_rows))


def _column(drifting: Drifting) -> ColumnChange:
    verdict = drifting.verdict
    return ColumnChange(
        column=verdict.column,
        segment=drifting.segment,
        what=verdict.reason,
        measure=verdict.measure,
        effect=verdict.effect,
        effect_low=verdict.effect_low,
        effect_high=verdict.effect_high,
        p_value=verdict.p_value,
        certainty=tuple(verdict.certainty()),
        since_window=drifting.since_window,
        since=rfc3339(drifting.since_ms),
    )


def encode(body: Body) -> bytes:
    """The body as JSON, with keys in declaration order: equal bodies give equal bytes."""
    return msgspec.json.encode(body)


def decode(data: bytes) -> Body:
    """Read what `encode` wrote. msgspec.ValidationError when it is not a body."""
    body: Body = msgspec.json.decode(data, type=Body)
    return body
