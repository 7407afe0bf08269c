"""Commands that act: what a person decides about an incident, a retraining, a silence or a notice.

The running service is the only one that writes, so it is asked over its own address, with the token of [http].
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
import typer
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from detectors.season import HOUR_MS
from monitor.account import Delivery, TriggerEntry
from monitor.cli import AsJson, ConfigFile, IncidentId, app, history_of, out, print_json, read_config
from monitor.config import DurationMs
from monitor.errors import DriftdError
from monitor.message import rfc3339
from monitor.order import Answer, Silence

ANSWER_SECONDS: Final = 20.0

silence_app = typer.Typer(help="Be told nothing of what matches, for a time.", no_args_is_help=True)
app.add_typer(silence_app, name="silence")
outbox_app = typer.Typer(help="What was to be delivered, and what became of it.", no_args_is_help=True)
app.add_typer(outbox_app, name="outbox")

TriggerId = Annotated[str, typer.Argument(metavar="ID", help="A retraining trigger.")]
NoticeId = Annotated[str, typer.Argument(metavar="ID", help="A notice, as `driftd outbox list` shows it.")]
By = Annotated[str, typer.Option(help="Who decides; by default the name of the user.", default_factory=getpass.getuser)]
Limit = Annotated[int, typer.Option(min=1, help="At most so many, the latest first.")]


class NotDone(DriftdError):
    """The service did not do what was asked."""


def hours(text: str) -> float:
    """A duration such as "4h" or "7d", in hours."""
    try:
        return TypeAdapter(DurationMs).validate_python(text) / HOUR_MS
    except ValidationError as error:
        raise typer.BadParameter('wanted a duration, such as "30m", "4h" or "7d"') from error


For = Annotated[float, typer.Option("--for", parser=hours, metavar="DURATION", help='Such as "30m", "4h" or "7d".')]


@app.command(epilog="Example: driftd ack --config driftd.toml credit-5")
def ack(identity: IncidentId, config: ConfigFile, by: By, *, json: AsJson = False) -> None:
    """Say that somebody looks after an incident: no repeats, and only what is graver is told."""
    _say(_ask(config, ("incidents", _incident(config, identity), "acknowledge"), {"by": by}), json=json)


@app.command(epilog="Example: driftd snooze --config driftd.toml credit-5 --for 4h")
def snooze(identity: IncidentId, config: ConfigFile, span: For, by: By, *, json: AsJson = False) -> None:
    """Be told nothing of an incident for a while."""
    _say(_ask(config, ("incidents", _incident(config, identity), "snooze"), {"by": by, "hours": span}), json=json)


@app.command(epilog='Example: driftd resolve --config driftd.toml credit-5 --note "the new price list"')
def resolve(
    identity: IncidentId,
    config: ConfigFile,
    by: By,
    note: Annotated[str, typer.Option(help="Why it is over.")] = "",
    *,
    json: AsJson = False,
) -> None:
    """Say that an incident is over: known, or the new normal. Its columns are told again once they were calm."""
    _say(_ask(config, ("incidents", _incident(config, identity), "resolve"), {"by": by, "note": note}), json=json)


@app.command(epilog="Example: driftd triggers --config driftd.toml")
def triggers(config: ConfigFile, limit: Limit = 20, *, json: AsJson = False) -> None:
    """Retraining triggers: their evidence, and the steps they took."""
    with history_of(config) as history:
        found = history.triggers(limit=limit)
    if json:
        print_json(found)
        return
    for trigger in found:
        _print_trigger(trigger)
    if not found:
        out.print("no retraining trigger")


@app.command(epilog="Example: driftd approve --config driftd.toml credit-5-retrain")
def approve(identity: TriggerId, config: ConfigFile, by: By, *, json: AsJson = False) -> None:
    """Let a retraining that waits go on: call the job, or go over to the new reference."""
    _say(_ask(config, ("triggers", identity, "approve"), {"by": by}), json=json)


@app.command(epilog="Example: driftd refuse --config driftd.toml credit-5-retrain")
def refuse(identity: TriggerId, config: ConfigFile, by: By, *, json: AsJson = False) -> None:
    """End a retraining that waits."""
    _say(_ask(config, ("triggers", identity, "refuse"), {"by": by}), json=json)


@silence_app.command(
    "add", epilog='Example: driftd silence add --config C --model "credit*" --for 4h --comment "load test"'
)
def silence_add(  # noqa: PLR0913  # one parameter per option
    config: ConfigFile,
    by: By,
    span: For,
    comment: Annotated[str, typer.Option(help="Why.")],
    *,
    model: Annotated[str, typer.Option(help="A pattern as in file names.")] = "*",
    segment: Annotated[str, typer.Option(help="A pattern as in file names.")] = "*",
    column: Annotated[str, typer.Option(help="A pattern as in file names.")] = "*",
    severity: Annotated[str, typer.Option(help="info, warning, critical, or a pattern.")] = "*",
    json: AsJson = False,
) -> None:
    """Be told nothing of what matches, from now until then."""
    matching = {"model": model, "segment": segment, "column": column, "severity": severity}
    _say(_ask(config, ("silences",), {"by": by, "comment": comment, "hours": span, **matching}), json=json)


@silence_app.command("list", epilog="Example: driftd silence list --config driftd.toml")
def silence_list(config: ConfigFile, *, json: AsJson = False) -> None:
    """Silences that have not ended."""
    with history_of(config) as history:
        found = history.silences(int(time.time() * 1000))
    if json:
        print_json(found)
        return
    table = Table("silence", "model", "segment", "column", "severity", "until", "by", "why", box=None)
    for one in found:
        table.add_row(*_silence(one))
    out.print(table if found else "no silence")


@silence_app.command("expire", epilog="Example: driftd silence expire --config driftd.toml s1")
def silence_expire(
    identity: Annotated[str, typer.Argument(metavar="ID")], config: ConfigFile, by: By, *, json: AsJson = False
) -> None:
    """End a silence now."""
    _say(_ask(config, ("silences", identity, "expire"), {"by": by}), json=json)


@outbox_app.command("list", epilog="Example: driftd outbox list --config driftd.toml --state dead")
def outbox_list(
    config: ConfigFile,
    state: Annotated[str | None, typer.Option(help="Only these: pending, sent, dead or dropped.")] = None,
    limit: Limit = 50,
    *,
    json: AsJson = False,
) -> None:
    """Notices, the latest first."""
    with history_of(config) as history:
        found = history.outbox(state, limit)
    if json:
        print_json(found)
        return
    table = Table("notice", "channel", "purpose", "state", "tries", "queued", "why", box=None)
    for delivery in found:
        table.add_row(*_delivery(delivery))
    out.print(table if found else "no notice")


@outbox_app.command("replay", epilog="Example: driftd outbox replay --config driftd.toml credit-5/1/ml-alerts")
def outbox_replay(identity: NoticeId, config: ConfigFile, by: By, *, json: AsJson = False) -> None:
    """Try a notice again that was given up."""
    _say(_ask(config, ("outbox", "replay"), {"by": by, "notice": identity}), json=json)


@outbox_app.command("drop", epilog="Example: driftd outbox drop --config driftd.toml credit-5/1/ml-alerts")
def outbox_drop(identity: NoticeId, config: ConfigFile, by: By, *, json: AsJson = False) -> None:
    """Never send a notice that waits, or was given up."""
    _say(_ask(config, ("outbox", "drop"), {"by": by, "notice": identity}), json=json)


def _ask(file: Path, place: tuple[str, ...], body: Mapping[str, Any]) -> Answer:
    """What the running service says to an order. NotDone when it cannot be asked, or understood something else."""
    import httpx

    from monitor.page import address_to_ask, door

    config = read_config(file)
    token = door(config, file.parent).token
    if not config.http.listen or token is None:
        raise NotDone(f"{file}: to act, the service needs an address and a token: listen and token_file under [http]")
    url = f"{address_to_ask(config)}/api/{'/'.join(quote(part, safe='') for part in place)}"
    try:
        with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as client:
            answer = client.post(url, json=body, headers={"authorization": f"Bearer {token}"})
    except httpx.HTTPError as error:
        raise NotDone(
            f"{url}: the service does not answer ({error}); is it running? `driftd status` says so"
        ) from error
    try:
        return msgspec.json.decode(answer.content, type=Answer)
    except msgspec.DecodeError:
        raise NotDone(f"the service refused it (HTTP {answer.status_code}): {_detail(answer.content)}") from None


def _detail(content: bytes) -> str:
    try:
        said = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        return "its answer is not from driftd"
    places = [one for one in said.get("extra") or () if isinstance(one, dict)]
    wrong = [f"{one.get('key', 'the body')}: {one.get('message', 'wrong')}" for one in places]
    return "; ".join(wrong) or str(said.get("detail", ""))


def _say(answer: Answer, *, json: bool) -> None:
    if json:
        print_json(answer)
    if not answer.done:
        if json:
            raise typer.Exit(1)
        raise NotDone(answer.words)
    if not json:
        out.print(answer.words, markup=False)


def _incident(file: Path, beginning: str) -> str:
    with history_of(file) as history:
        return history.explain(beginning).incident.id


def _silence(one: Silence) -> tuple[str, ...]:
    until = rfc3339(one.ends_ms) or ""
    return one.id, one.model, one.segment, one.column, one.severity, until, one.by, one.comment


def _delivery(one: Delivery) -> tuple[str, ...]:
    return one.id, one.channel, one.purpose, one.state, str(one.attempts), one.queued or "", one.reason


def _print_trigger(trigger: TriggerEntry) -> None:
    columns = ", ".join(column.column for column in trigger.columns)
    why = f"{trigger.reason} ({columns})" if columns else trigger.reason
    out.print(f"{trigger.id}: {trigger.step}; {trigger.channel}; {why}", markup=False)
    if trigger.run is not None:
        out.print(f"  run: {trigger.run}", markup=False)
    for past in trigger.history:
        note = f": {past.note}" if past.note else ""
        out.print(f"  {rfc3339(past.at_ms)} {past.step} by {past.by}{note}", markup=False)
