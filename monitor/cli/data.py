"""Commands on data: check a configuration, seal a reference, replay files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from monitor import __version__
from monitor.choice import choose
from monitor.cli import AsJson, ConfigFile, ModelName, app, chosen, err, out, print_json, read_config
from monitor.configfile import without_effect
from monitor.describe import several
from monitor.reference import facts, kinds_of, seal, slicing, unseal, with_loss
from monitor.sources.tables import read

reference_app = typer.Typer(help="Seal reference data; show what is in it.", no_args_is_help=True)
app.add_typer(reference_app, name="reference")


@app.command(epilog="Example: driftd check-config driftd.toml")
def check_config(config: Path) -> None:
    """All errors of a configuration at once, or a summary of what would run."""
    checked = read_config(config)
    table = Table("model", "topics", "window", "decision", "reference", box=None)
    for model in checked.model:
        directory = config.parent / model.reference
        known = facts(directory).id[:12] if (directory / "reference.json").exists() else "not sealed yet"
        table.add_row(model.name, ", ".join(model.all_topics), str(model.window), model.decision, known)
    out.print(table)
    for problem in without_effect(checked):
        out.print(str(problem), markup=False, highlight=False, soft_wrap=True)
    out.print(f"{config}: no problem found; {several(len(checked.channel), 'channel')}, "
              f"{several(len(checked.rule), 'rule')}")  # fmt: skip


@reference_app.command(
    "build", epilog="Example: driftd reference build --config driftd.toml --model credit train.parquet"
)
def reference_build(
    files: Annotated[list[Path], typer.Argument(help="Parquet, CSV or JSON lines.")],
    config: ConfigFile,
    model: ModelName,
) -> None:
    """Seal reference data where the model's `reference` key points."""
    checked = read_config(config)
    own = chosen(checked.model, config, "model", model)
    choice = choose(read(files), own)
    for what, columns in (("left out", choice.left_out), ("not in the files", choice.absent)):
        for why in dict.fromkeys(columns.values()):
            names = ", ".join(name for name, each in columns.items() if each == why)
            out.print(f"{what}: {names} ({why})", markup=False, highlight=False)
    kinds = kinds_of(choice.watched, {name: column.kind for name, column in own.columns.items() if column.kind})
    frame, kinds, error_of = with_loss(choice.watched, kinds, choice.rows, own)
    cuts = slicing(choice.rows, own, checked.state.sample_rows)
    sealed = seal(frame, kinds, config.parent / own.reference, cuts, error_of)
    out.print(
        f"sealed {several(sealed.profile.n_rows, 'row')}, {several(len(kinds), 'column')} as {sealed.id[:12]} "
        f"in {own.reference}",
        highlight=False,
    )


@reference_app.command("show", epilog="Example: driftd reference show references/credit")
def reference_show(directory: Path, *, json: AsJson = False) -> None:
    """What a sealed reference holds; fails when it is damaged."""
    reference, known = unseal(directory), facts(directory)
    if json:
        print_json(known)
        return
    table = Table(
        "column", "kind", "cells", "missing", box=None, title=f"{known.id[:12]}: {several(known.n_rows, 'row')}"
    )
    for i, (name, kind) in enumerate(known.columns.items()):
        column = reference.bins.columns[i]
        table.add_row(name, kind, str(column.n_regular), f"{reference.profile.counts[i, 0] / known.n_rows:.2%}")
    out.print(table)


@app.command(
    "replay", epilog="Example: driftd replay --config driftd.toml --model credit --out replayed yesterday.jsonl"
)
def replay_files(
    inputs: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON lines, Parquet or CSV, in order.")],
    config: ConfigFile,
    model: ModelName,
    labels: Annotated[
        list[Path] | None,
        typer.Option("--labels", help="Labels that came later, in a file of their own; may be repeated."),
    ] = None,
    *,
    into: Annotated[Path, typer.Option("--out", help="Where to write windows, verdicts, incidents and notices.")],
    json: AsJson = False,
) -> None:
    """Say of files what the service would have said of a topic. Touches nothing else; the same bytes each time."""
    from monitor.replay import Log, Summary, replay

    checked = read_config(config)
    own = chosen(checked.model, config, "model", model)
    reference = unseal(config.parent / own.reference)
    with Progress(
        TextColumn("{task.description}"), TimeElapsedColumn(), console=err, disable=not err.is_terminal
    ) as bar:
        task = bar.add_task("reading")

        def show(n_rows: int, so_far: Summary) -> None:
            words = f"{n_rows:,} rows, {so_far.windows} windows, {so_far.incidents} incidents"
            bar.update(task, description=words)

        summary = replay(checked, own, reference, Log(inputs, labels or []), into, show)
    if json:
        print_json(summary)
        return
    out.print(
        f"{several(summary.counts.rows, 'row')} in {several(summary.windows, 'window')}: "
        f"{several(summary.incidents, 'incident')}, {several(summary.notices, 'notice')}, "
        f"{several(sum(summary.counts.rejected.values()), 'rejected record')}"
    )
    behind = summary.counts.late + summary.counts.dropped
    if behind:
        out.print(
            f"late: {several(behind, 'row')}, beyond lateness, so that no window was judged by them; are there event "
            "times from the future, or files out of order?", soft_wrap=True,
        )  # fmt: skip
    out.print(f"drifting at some time: {', '.join(summary.drifting) or 'nothing'}")
    out.print(f"written: {into}/windows.jsonl, verdicts.jsonl, incidents.jsonl, notices.jsonl")


@app.command()
def version() -> None:
    """Print driftd's version."""
    out.print(__version__)
