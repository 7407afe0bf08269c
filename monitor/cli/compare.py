"""Compare two files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from detectors import REGISTRY as DETECTORS
from monitor.cli import AsJson, app, out, print_json
from monitor.decision import Outcome
from monitor.mistakes import nearest
from monitor.sources.tables import read
from monitor.table import opened


@app.command("compare", epilog="Example: driftd compare train.parquet this-week.parquet --fail-on-drift")
def compare_files(
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
    from monitor.compare import column_names, compare, summary, table

    detectors = _known(detector or DETECTORS, DETECTORS, "detector")
    before, after = opened(read([reference])), opened(read([current]))
    columns = _known(column, column_names(before, after), "column") if column else None
    comparison = compare(before, after, detectors, columns)
    if json:
        print_json(comparison.document())
    else:
        out.print(table(comparison))
        out.print(summary(comparison), markup=False, highlight=False)
    if fail_on_drift and comparison.count(Outcome.DRIFT):
        raise typer.Exit(1)


def _known(words: Iterable[str], names: Iterable[str], what: str) -> list[str]:
    """The words, each once. A usage error for one that is not among the names."""
    names = list(names)
    for word in words:
        if word not in names:
            raise typer.BadParameter(f"found {word!r}, no such {what}{nearest(word, names)}")
    return list(dict.fromkeys(words))
