"""The demo, for people and for scripts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from monitor.cli import AsJson, app, err, out, print_json


@app.command(epilog="Example: driftd demo")
def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Go on running until Ctrl-C.")] = False,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long the log takes to be produced.")] = 40.0,
    json: AsJson = False,
) -> None:
    """The whole line on an embedded broker and a real prediction log, with stand-ins for Slack and CI."""
    from monitor.demo import Options, Summary, run
    from monitor.demo.screen import Screen

    summary: Summary = run(Options(seconds, keep), Screen(err if json else out, quiet=json))
    if json:
        print_json(summary)
        return
    verdicts = ", ".join(f"{n:,} {outcome}" for outcome, n in summary.verdicts.items())
    deliveries = ", ".join(f"{n} {state}" for state, n in summary.deliveries.items())
    out.print()
    out.print(f"{summary.windows} windows, {summary.rows:,} rows; verdicts: {verdicts}")
    out.print(f"{len(summary.incidents)} incident: {', '.join(summary.columns)}", soft_wrap=True)
    out.print(f"deliveries: {deliveries}; retraining jobs started: {summary.retraining_runs}")
    out.print(f"the daemon's memory at its peak: {summary.peak_rss_mb:.0f} MB")
    out.print()
    out.print(f"configuration: {summary.config}", soft_wrap=True)
    out.print(f"state: {summary.state}", soft_wrap=True)
    out.print("try next:")
    for command in (
        f"alerts --all --config {summary.config}",
        f"explain {summary.incidents[0]} --config {summary.config}",
    ):
        out.print(f"  {sys.argv[0]} {command}", soft_wrap=True)
