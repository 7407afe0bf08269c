"""Try channels before it matters: a message, a call to a job, and what people would see of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from monitor.channels import TOOLS, Attempt, Channel, Outcome, Refused, Retry, Sent
from monitor.channels.mask import masked
from monitor.cli import ConfigFile, app, chosen, out, read_config
from monitor.config import Channel as ChannelTable
from monitor.config import Config
from monitor.errors import ChannelFault, ConfigError
from monitor.message import Notice, Purpose, test_call, test_notice
from monitor.secret import secrets

ChannelName = Annotated[str, typer.Argument(metavar="CHANNEL", help="Name of a [[channel]].")]


@app.command("test-alert", epilog="Example: driftd test-alert --config driftd.toml ml-alerts")
def try_alert(channel: ChannelName, config: ConfigFile) -> None:
    """Send one message, marked as a test, to a channel, and say what came of it."""
    checked = read_config(config)
    notice = test_notice(channel, checked.model[0].name, int(time.time()))
    _tell(channel, _send(_opened(channel, checked, config), notice))


@app.command("test-trigger", epilog="Example: driftd test-trigger --config driftd.toml --dry-run retrain")
def try_trigger(
    channel: ChannelName,
    config: ConfigFile,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Call nothing; show what would be sent.")] = False,
) -> None:
    """Call a retraining job with a trigger that is marked as a test, or show the call, secrets masked.

    Where the target can rehearse a run, a dry run lets it do so.
    """
    checked = read_config(config)
    opened = _opened(channel, checked, config)
    notice = test_call(channel, checked.model[0].name, int(time.time()))
    if Purpose.RETRAIN not in opened.purposes:
        raise ChannelFault(f"{channel} is of kind {opened.kind}, which starts no jobs")
    if not dry_run:
        _tell(channel, _send(opened, notice))
        return
    where, table = _table(channel, checked, config)
    hidden = secrets(table.model_extra or {}, config.parent, where)
    out.print(masked(opened.show(notice), hidden), markup=False, highlight=False, soft_wrap=True)
    outcome = opened.rehearse(notice)
    opened.close()
    if outcome is not None:
        _tell(channel, outcome, "rehearsed by")


@app.command(epilog="Example: driftd preview incident.json --out incident.html")
def preview(
    incident: Annotated[
        Path, typer.Argument(metavar="INCIDENT", help="A message as JSON, or a replay's notices.jsonl.")
    ],
    to: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the page there.")] = None,
) -> None:
    """Draw a message as Slack shows it, as a page of HTML that loads nothing."""
    from monitor.preview import page, read

    drawn = page(read(incident))
    if to is None:
        typer.echo(drawn)
        return
    to.write_text(drawn, encoding="utf-8")
    out.print(f"{to}: {len(drawn):,} characters; open it in a browser", markup=False)


def _table(name: str, config: Config, file: Path) -> tuple[str, ChannelTable]:
    """Where a channel stands in the configuration, and what stands there."""
    table = chosen(config.channel, file, "channel", name)
    return f"channel[{config.channel.index(table)}]", table


def _opened(name: str, config: Config, file: Path) -> Channel:
    from monitor.assembly import channel

    where, table = _table(name, config, file)
    try:
        return channel(table, file.parent, where)(TOOLS)
    except ConfigError as fault:
        raise ConfigError(str(file), fault.problems) from None


def _send(opened: Channel, notice: Notice) -> Outcome:
    try:
        return opened.send(notice, Attempt(queued_at=time.time()))
    finally:
        opened.close()


def _tell(channel: str, outcome: Outcome, done: str = "sent to") -> None:
    match outcome:
        case Sent(receipt):
            out.print(f"{done} {channel}{f', receipt {receipt}' if receipt else ''}", markup=False)
        case Retry(reason):
            raise ChannelFault(f"{channel} did not take it, a later try may work: {reason}")
        case Refused(reason):
            raise ChannelFault(f"{channel} refused it: {reason}")
