"""The `driftd` command. Exit codes: 0 done, 1 it failed, 2 usage, 78 the configuration is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from detectors import REGISTRY as DETECTORS
from monitor import __version__
from monitor.channels import REGISTRY as CHANNELS
from monitor.check import Outcome
from monitor.compare import column_names, summary, table
from monitor.compare import compare as compared
from monitor.config import Config, Known, Model, load, nearest
from monitor.decode import REGISTRY as DECODERS
from monitor.errors import ConfigError, DriftdError, ReferenceFault
from monitor.reference import facts, kinds_of, seal, unseal
from monitor.sources.tables import read

if TYPE_CHECKING:
    import pandas as pd

EX_CONFIG: Final = 78

app = typer.Typer(help="Watches machine-learning models in production for drift.", no_args_is_help=True)
reference_app = typer.Typer(help="Seal reference data; show what is in it.", no_args_is_help=True)
app.add_typer(reference_app, name="reference")
_out = Console()

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration file.")]


def read_config(file: Path) -> Config:
    """The configuration, checked against every format, detector and channel there is."""
    options = {kind: channel.Options for kind, channel in CHANNELS.items()}
    return load(file, Known(DECODERS, DETECTORS, options))


@app.command(epilog="Example: driftd check-config driftd.toml")
def check_config(config: Path) -> None:
    """All errors of a configuration at once, or a summary of what would run."""
    checked = read_config(config)
    table = Table("model", "topics", "window", "decision", "reference", box=None)
    for model in checked.model:
        directory = config.parent / model.reference
        known = facts(directory).id[:12] if (directory / "reference.json").exists() else "not sealed yet"
        table.add_row(model.name, ", ".join(model.topics), str(model.window), model.decision, known)
    _out.print(table)
    _out.print(f"{config}: no problem found; {len(checked.channel)} channels, {len(checked.rule)} rules")


@reference_app.command(
    "build", epilog="Example: driftd reference build --config driftd.toml --model credit train.parquet"
)
def reference_build(
    files: Annotated[list[Path], typer.Argument(help="Parquet, CSV or JSON lines.")],
    config: ConfigFile,
    model: Annotated[str, typer.Option("--model", help="The model whose reference this is.")],
) -> None:
    """Seal reference data where the model's `reference` key points."""
    chosen = _model(read_config(config), config, model)
    frame = _watched(read(files), chosen)
    kinds = kinds_of(frame, {name: column.kind for name, column in chosen.columns.items() if column.kind})
    sealed = seal(frame, kinds, config.parent / chosen.reference)
    _out.print(f"sealed {sealed.profile.n_rows} rows, {len(kinds)} columns as {sealed.id[:12]} in {chosen.reference}")


@reference_app.command("show", epilog="Example: driftd reference show references/credit")
def reference_show(directory: Path, *, json: AsJson = False) -> None:
    """What a sealed reference holds; fails when it is damaged."""
    reference, known = unseal(directory), facts(directory)
    if json:
        sys.stdout.write(msgspec.json.encode(known).decode() + "\n")
        return
    table = Table("column", "kind", "cells", "missing", box=None, title=f"{known.id[:12]}: {known.n_rows} rows")
    for i, (name, kind) in enumerate(known.columns.items()):
        column = reference.bins.columns[i]
        table.add_row(name, kind, str(column.n_regular), f"{reference.profile.counts[i, 0] / known.n_rows:.2%}")
    _out.print(table)


@app.command(epilog="Example: driftd compare train.parquet this-week.parquet --fail-on-drift")
def compare(
    reference: Annotated[Path, typer.Argument(help="What is normal: Parquet, CSV or JSON lines.")],
    current: Annotated[Path, typer.Argument(help="What to judge: Parquet, CSV or JSON lines.")],
    detector: Annotated[list[str] | None, typer.Option(help="Compute only this one; may be repeated.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Compare only this one, also if it is an id; may be repeated.")
    ] = None,
    *,
    fail_on_drift: Annotated[bool, typer.Option("--fail-on-drift", help="Exit 1 if any column drifts.")] = False,
    json: AsJson = False,
) -> None:
    """Two files, every column, exact on the rows.

    The reference decides what is a number and what a category; points in time are compared as numbers. Ids and clocks
    (whole numbers that only go up, words that hardly repeat) are "unknown": their values move without any drift.
    """
    detectors = _known(detector or DETECTORS, DETECTORS, "detector")
    before, after = read([reference]), read([current])
    columns = _known(column, column_names(before, after), "column") if column else None
    comparison = compared(before, after, detectors, columns)
    if json:
        sys.stdout.write(msgspec.json.encode(comparison.document()).decode() + "\n")
    else:
        _out.print(table(comparison))
        _out.print(summary(comparison), markup=False, highlight=False)
    if fail_on_drift and comparison.count(Outcome.DRIFT):
        raise typer.Exit(1)


@app.command()
def version() -> None:
    """Print driftd's version."""
    _out.print(__version__)


def _known(words: Iterable[str], names: Iterable[str], what: str) -> list[str]:
    """The words, each once. A usage error for one that is not among the names."""
    names = list(names)
    for word in words:
        if word not in names:
            raise typer.BadParameter(f"found {word!r}, no such {what}{nearest(word, names)}")
    return list(dict.fromkeys(words))


def _model(config: Config, file: Path, name: str) -> Model:
    for model in config.model:
        if model.name == name:
            return model
    known = ", ".join(model.name for model in config.model)
    raise typer.BadParameter(f"{file} has no model {name!r}; it has: {known}")


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


def main() -> None:
    """Run the command line; driftd's own errors become a message and an exit code."""
    try:
        app()
    except ConfigError as error:
        Console(stderr=True).print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(EX_CONFIG) from error
    except DriftdError as error:
        Console(stderr=True).print(f"driftd: {error}", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from error
