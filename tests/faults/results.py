"""What the runs of `make faults` found. `python -m faults.results RESULTS PAGE` writes the page with the table."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from faults.fault import catalogue

Row = dict[str, Any]

PAGE = """# Faults

Written by `make faults`. Each run is one fault over one log of its own: a real Kafka, the service as a process of its
own, a Slack and a retraining job played by servers on the same machine. A ledger keeps every record that Kafka took; in
the end a judge computes from it, without the service, what every window holds, which label belongs to which prediction,
what is said of every column, how incidents go, which messages are due and which records become dead letters, and
compares all of it bit by bit. A run in which the fault did not happen fails.

Lost, invented, duplicated: windows in which rows are missing, that should not be there, or that count rows twice.
Repeated: messages that reached a receiver once more than they should, dead letters in their topic among them; that may
be where a process dies, or a line breaks, between a receiver's answer and its being written down, and only there
(marked \\*). Wrong: runs in which anything at all was not as the judge says.

{summary}
"""
LETTERS = "letters"
"""The kind of fault among which dead letters count as messages."""
HEAD = """
## {kind}

| fault | what happens | runs | lost | invented | duplicated | repeated | wrong |
|---|---|---|---|---|---|---|---|
"""


def read(file: Path) -> list[Row]:
    """One row for each fault and seed, the last one that was written."""
    lines = file.read_text().splitlines() if file.exists() else []
    rows = [json.loads(line) for line in lines]
    for row in rows:
        if not row["hits"] and not row["wrong"]:
            row["wrong"] = ["the fault never hit"]
    return list({(row["fault"], row["seed"]): row for row in rows}.values())


def page(rows: Iterable[Row]) -> str:
    """The whole page."""
    runs: dict[str, list[Row]] = {name: [] for name in catalogue()}
    for row in rows:
        if row["fault"] in runs:
            runs[row["fault"]].append(row)
    body = ""
    faults = sorted(catalogue().values(), key=lambda fault: fault.kind)
    for kind, group in itertools.groupby(faults, key=lambda fault: fault.kind):
        body += HEAD.format(kind=kind.capitalize())
        for fault in group:
            mark = "*" if fault.may_repeat else ""
            figures = f"{_sum(runs[fault.name])} |" if runs[fault.name] else f"0 | | | | | {fault.needs()} |"
            body += f"| {fault.name}{mark} | {fault.what} | {figures}\n"
    return PAGE.format(summary=_summary(runs)) + body


def _sum(rows: list[Row]) -> str:
    sums = [sum(row[name] for row in rows) for name in ("lost", "invented", "duplicated", "repeated")]
    return " | ".join(map(str, [len(rows), *sums, sum(bool(row["wrong"]) for row in rows)]))


def _summary(runs: dict[str, list[Row]]) -> str:
    rows = [row for found in runs.values() for row in found]
    if not rows:
        return "Nothing was run yet."
    n_faults, seeds = sum(bool(found) for found in runs.values()), {len(found) for found in runs.values() if found}
    each = str(seeds.pop()) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    n_records, n_windows, lost, invented, duplicated, repeated = (
        sum(row[name] for row in rows)
        for name in ("n_records", "n_windows", "lost", "invented", "duplicated", "repeated")
    )
    beside = sum(row["repeated"] for name, found in runs.items() for row in found if catalogue()[name].kind == LETTERS)
    return (
        f"**{n_faults} faults, seeds for each: {each}, {len(rows)} runs: {n_records:,} records, {n_windows:,} windows, "
        f"{lost} lost, {invented} invented, {duplicated} duplicated; {repeated - beside} messages repeated, "
        f"and {beside} where dead letters are produced to a topic; "
        f"{sum(bool(row['wrong']) for row in rows)} runs wrong.** "
        f"Code: {', '.join(sorted({row.get('code', 'unknown') for row in rows}))}."
    )


if __name__ == "__main__":
    results, to = map(Path, sys.argv[1:])
    to.write_text(page(read(results)))
    sys.stdout.write(f"{to}: {len(read(results))} runs\n")
