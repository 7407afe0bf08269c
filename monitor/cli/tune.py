"""Fitting driftd to the machine that it runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monitor.cli import AsJson, app, out, print_json

Output = Annotated[Path, typer.Option("--output", help="The environment file that the service reads.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Measure and say, write nothing.")]


@app.command(epilog="Example: sudo driftd tune && sudo systemctl restart driftd")
def tune(output: Output = Path("/etc/driftd/driftd.env"), *, dry_run: DryRun = False, json: AsJson = False) -> None:
    """Measure which settings of the environment make driftd faster on this machine, and write them down for it."""
    from monitor.tune import lines, trials, write

    found = trials()
    if not dry_run:
        write(output, found)
    if json:
        print_json(
            [
                {"name": t.name, "without": t.without, "with": t.with_it, "taken": t.taken, "variables": t.variables}
                for t in found
            ]
        )
        return
    for trial in found:
        verdict = "taken" if trial.taken else "left out, it does not pay"
        out.print(f"{trial.name}: {trial.without:.3f} s of CPU without, {trial.with_it:.3f} s with; {verdict}")
        for line in lines(trial.variables) if trial.taken else ():
            out.print(f"  {line}", markup=False, highlight=False)
    out.print("nothing was written" if dry_run else f"written to {output}; restart driftd to use it", soft_wrap=True)
