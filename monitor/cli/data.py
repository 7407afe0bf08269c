"""Commands on data: check a configuration, seal a reference, replay files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from monitor import __version__
from monitor.cli import AsJson, ConfigFile, ModelName, app, chosen, err, out, print_json, read_config
from monitor.config import Model
from monitor.describe import several
from monitor.errors import ReferenceFault
from monitor.reference import facts, kinds_of, seal, slicing, unseal, with_loss
from monitor.sources.tables import read

if TYPE_CHECKING:
    import pandas as pd

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
    rows = read(files)
    frame = _watched(rows, own)
    kinds = kinds_of(frame, {name: column.kind for name, column in own.columns.items() if column.kind})
    frame, kinds, error_of = with_loss(frame, kinds, rows, own)
    sealed = seal(frame, kinds, config.parent / own.reference, slicing(rows, own, checked.state.sample_rows), error_of)
    out.print(f"sealed {sealed.profile.n_rows} rows, {len(kinds)} columns as {sealed.id[:12]} in {own.reference}")


@reference_app.command("show", epilog="Example: driftd reference show references/credit")
def reference_show(directory: Path, *, json: AsJson = False) -> None:
    """What a sealed reference holds; fails when it is damaged."""
    reference, known = unseal(directory), facts(directory)
    if json:
        print_json(known)
        return
    table = Table("column", "kind", "cells", "missing", box=None, title=f"{known.id[:12]}: {known.n_rows} rows")
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
    out.print(f"drifting at some time: {', '.join(summary.drifting) or 'nothing'}")
    out.print(f"written: {into}/windows.jsonl, verdicts.jsonl, incidents.jsonl, notices.jsonl")


@app.command()
def version() -> None:
    """Print driftd's version."""
    out.print(__version__)


def _watched(frame: pd.DataFrame, model: Model) -> pd.DataFrame:
    """The columns that drift is looked for in: not the id, the time and the label."""
    fields = model.fields
    apart = {name for name in (fields.id, fields.timestamp, fields.label) if name}
    if isinstance(fields.features, tuple):
        wanted = {*fields.features, *(name for name in (fields.prediction, fields.score) if name)}
        absent = sorted(wanted - set(frame.columns))
        if absent:
            raise ReferenceFault(f"found no column {', '.join(absent)}; the files have: {', '.join(frame.columns)}")
        return frame[[name for name in frame.columns if name in wanted]]
    return frame.drop(columns=[name for name in frame.columns if name in apart])
