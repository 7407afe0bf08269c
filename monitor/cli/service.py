"""Commands of the service: run it, and look at what it knows."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.table import Table

from monitor import describe, logs
from monitor.account import Explanation, ModelStatus
from monitor.batch import NO_TIME
from monitor.cli import AsJson, ConfigFile, IncidentId, app, exit_code, history_of, out, print_json, read_config
from monitor.decision import Verdict
from monitor.decision.budget import Ledger
from monitor.describe import several
from monitor.errors import ConfigError, DriftdError
from monitor.message import rfc3339

log = logging.getLogger(__name__)

Everything = Annotated[bool, typer.Option("--all", help="Resolved ones too.")]


@app.command(epilog="Example: driftd run --config /etc/driftd/driftd.toml")
def run(config: ConfigFile) -> None:
    """The service: until SIGTERM or SIGINT. SIGHUP reads the configuration again."""
    from monitor.service import serve

    logs.to_stderr()
    try:
        serve(config, read_config)
    except DriftdError as error:
        problems = list(map(str, error.problems)) if isinstance(error, ConfigError) else [str(error)]
        log.critical("%s", error, extra={"event": "service.failed", "problems": problems})
        raise SystemExit(exit_code(error)) from error
    _leave()


def _leave() -> NoReturn:
    """End at once: everything is closed, and to take the interpreter apart would be the longest part of a stop."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@app.command(epilog="Example: driftd status --config driftd.toml")
def status(config: ConfigFile, *, json: AsJson = False) -> None:
    """How the service stands: each model's rows, last window, verdicts and incident; what waits to be delivered."""
    with history_of(config) as history:
        found = history.status()
    if json:
        print_json(found)
        return
    table = Table("model", "rows", "windows", "last window", "verdicts", "incident", box=None)
    for model in found.models:
        table.add_row(*_cells(model))
    out.print(f"driftd is {'running' if found.running else 'not running'}; state in {found.directory}")
    out.print(table)
    counted = ", ".join(f"{n} {state}" for state, n in found.outbox.items())
    out.print(f"notices: {counted or 'none so far'}")
    for known in found.models:
        for line in (*_rejected(known), *_labels(known)):
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        for segment, ledger in known.budget.items():
            for line in _ledger(ledger):
                out.print(f"{known.model}, {segment}: {line}", markup=False, highlight=False, soft_wrap=True)
    for problem in found.problems:
        out.print(f"  not delivered: {problem}", markup=False)


@app.command(epilog="Example: driftd alerts --config driftd.toml --all")
def alerts(config: ConfigFile, *, everything: Everything = False, json: AsJson = False) -> None:
    """Incidents that are not resolved, or all of them."""
    with history_of(config) as history:
        found = history.incidents(everything=everything)
    if json:
        print_json(found)
        return
    table = Table("incident", "state", "severity", "since window", "columns", box=None)
    for incident in found:
        columns = ", ".join(incident.columns)
        table.add_row(incident.id, incident.state, incident.severity, str(incident.opened_window), columns)
    out.print(table if found else "no incident")


@app.command(epilog="Example: driftd explain --config driftd.toml credit-5")
def explain(identity: IncidentId, config: ConfigFile, *, json: AsJson = False) -> None:
    """Everything about one incident: what changed, how it went, who was told. A beginning of its name is enough."""
    with history_of(config) as history:
        found = history.explain(identity)
    if json:
        print_json(found)
        return
    _print_incident(found)
    _print_columns(found)
    for change in found.changes:
        out.print(f"  window {change.window}: {change.change}, {change.reason}", markup=False)
    for trigger in found.triggers:
        out.print(f"retraining {trigger.id}: {trigger.step}", markup=False)
    for sent in found.deliveries:
        why = f" ({sent.reason})" if sent.reason else ""
        out.print(f"{sent.purpose} {sent.id}: {sent.state}, {several(sent.attempts, 'attempt')}{why}", markup=False)


@app.command(epilog="Example: driftd report --config driftd.toml credit-5 --out credit-5.html")
def report(
    identity: IncidentId,
    config: ConfigFile,
    to: Annotated[Path, typer.Option("--out", help="Where to write it.")] = Path("report.html"),
) -> None:
    """An incident's last window with drift beside its reference, as a report of Evidently: one HTML file."""
    from monitor.report import make

    with history_of(config) as history:
        incident = history.explain(identity).incident.id
    made = make(config.parent / read_config(config).state.directory, incident, to)
    out.print(f"{made}: {incident} beside its reference, {made.stat().st_size:,} bytes", markup=False)


@app.command(epilog="Example: driftd backup --config driftd.toml --to /mnt/backups/driftd.db")
def backup(
    config: ConfigFile,
    to: Annotated[Path | None, typer.Option(help="Where to; by default beside the database, for the service.")] = None,
) -> None:
    """Copy the service's state while it runs, and check the copy. After damage the service goes on from the default.

    To go back by hand: stop the service, put the copy in the place of driftd.db, delete driftd.db-wal and -shm, start.
    """
    from monitor.store import backup as copy

    made = copy(config.parent / read_config(config).state.directory, to)
    out.print(f"{made}: {made.stat().st_size:,} bytes, every page and check sum is right", markup=False)


def _cells(model: ModelStatus) -> tuple[str, ...]:
    last = model.last_window
    window = f"{last.index} ({last.start or 'no time'}, {last.n_rows:,} rows)" if last else "none yet"
    verdicts = ", ".join(f"{n} {outcome}" for outcome, n in last.outcomes.items()) if last else ""
    incident = f"{model.incident} ({model.severity})" if model.incident else "none"
    return model.model, f"{model.counts.rows:,}", str(model.n_windows), window, verdicts, incident


def _rejected(model: ModelStatus) -> Iterator[str]:
    """Records that became no row."""
    if kinds := model.counts.rejected:
        counted = ", ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in kinds.items())
        yield f"{model.model}: {several(sum(kinds.values()), 'record')} became no row: {counted}"


def _labels(model: ModelStatus) -> Iterator[str]:
    """What became of labels that come later."""
    found = model.labelled
    if model.coverage is not None:
        yield (
            f"{model.model}: {model.coverage:.1%} of {found.predictions:,} predictions have got their label; of the "
            f"{found.labels:,} labels {found.labels - found.joined:,} found no prediction, {found.late:,} came too "
            f"late, {found.repeated:,} ids came twice"
        )


def _ledger(ledger: Ledger) -> Iterator[str]:
    """What the budget has come to."""
    yield (
        f"budget {ledger.false_alarms:g} a {ledger.per} over everything; in {ledger.n_windows} windows "
        f"({ledger.n_periods:.2g} {ledger.per}s) at most {ledger.expected:.2g} pages expected by chance, "
        f"{ledger.pages} paged"
    )
    if ledger.replayed is not None and ledger.allowed is not None:
        yield (
            f"the reference's replay: {ledger.replayed:g} alarms, {ledger.allowed:.2g} allowed, "
            f"{f'bar raised {ledger.raised:.2g} fold' if ledger.raised > 1 else 'bar as it is'}; {ledger.order}"
        )
    for column, why in ledger.off.items():
        yield f"off paging: {column}, {why}"
    if ledger.calibrating:
        more = f" and {ledger.n_pairs} pairs of them" if ledger.n_pairs else ""
        yield f"calibrating: {len(ledger.calibrating)} of {ledger.n_columns} columns{more}"
    for what, unit, least in (
        ("shift", "standard deviations in the middle column", ledger.least),
        ("change of a correlation", "(Fisher's z) in the middle pair", ledger.least_pairs),
    ):
        if least:
            ordered = sorted(least.items(), key=itemgetter(1))
            (_, middle), (worst, most) = ordered[len(ordered) // 2], ordered[-1]
            yield f"smallest {what} seen within 24 windows: {middle:.2g} {unit}, {most:.2g} in {worst}"
    if ledger.least_joint is not None:
        yield f"smallest change of a joint score seen within 24 windows: {ledger.least_joint:.2g} standard deviations"
    if ledger.least_auc is not None:
        yield f"smallest growth of the AUC of whole rows seen within 24 windows: {ledger.least_auc:.2g}"


def _sure(verdict: Verdict) -> Iterator[str]:
    if verdict.p_value is not None:
        yield f"p {verdict.p_value:.2g}"
    yield from verdict.certainty()


def _print_incident(found: Explanation) -> None:
    incident, last = found.incident, found.changes[-1]
    episode = last.episode
    out.print(f"{incident.id}: {incident.state}, {incident.severity}; {last.change}: {last.reason}", markup=False)
    since = [column.since_ms for column in episode.columns if column.since_ms != NO_TIME]
    began = f" ({rfc3339(min(since))})" if since else ""
    out.print(f"since window {incident.opened_window}{began}; opened {incident.opened}, changed {incident.changed}")
    if episode.acknowledged is not None:
        mark = episode.acknowledged
        out.print(f"acknowledged by {mark.by} at {rfc3339(mark.at_ms)}", markup=False)
    if episode.snoozed_until_ms:
        out.print(f"snoozed until {rfc3339(episode.snoozed_until_ms)}")


def _print_columns(found: Explanation) -> None:
    table = Table("column", "segment", "what changed", "effect", "how sure", "since", box=None)
    for column in found.changes[-1].episode.columns:
        verdict = column.verdict
        effect = " ".join(describe.size(verdict.measure, verdict.effect, verdict.effect_low, verdict.effect_high))
        table.add_row(
            verdict.column, column.segment, verdict.reason, effect, "; ".join(_sure(verdict)), str(column.since_window)
        )
    out.print(table)


@app.command(epilog="Example: driftd doctor --config driftd.toml --no-send")
def doctor(
    config: ConfigFile,
    *,
    send: Annotated[bool, typer.Option(help="Send the alerts to their channels, marked as tests.")] = True,
    json: AsJson = False,
) -> None:
    """Put a synthetic drift through the whole path and say, hop by hop, what works and how long it takes."""
    from monitor.doctor import examine

    hops = []
    for hop in examine(config, read_config(config), send=send):
        hops.append(hop)
        if not json:
            mark = "ok    " if hop.works else "FAILED"
            out.print(f"{mark} {hop.milliseconds:8.1f} ms  {hop.name}: {hop.words}", markup=False, soft_wrap=True)
    if json:
        print_json(hops)
    if not all(hop.works for hop in hops):
        raise typer.Exit(1)
