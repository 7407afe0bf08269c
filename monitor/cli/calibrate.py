"""Learn what is normal, and show what the budget can see."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from monitor.allowance import Calibrations
from monitor.cli import AsJson, ConfigFile, ModelName, app, chosen, err, out, print_json, read_config
from monitor.decision.budget import Budget
from monitor.describe import number
from monitor.errors import ReferenceFault
from monitor.reference import keep, unseal


class Visible(msgspec.Struct, frozen=True):
    """What the watch sees of one column: shifts in standard deviations, None where the column has none to see; of a
    pair of columns, changes of Fisher's z of their correlation.

    share: of the budget. within_24, within_period: smallest shift found in four of five cases within 24 windows, and in
    a period. off: why it is off paging, if it is.
    """

    column: str
    share: float
    within_24: float | None
    within_period: float | None
    off: str | None
    is_pair: bool = False


class Learnt(msgspec.Struct, frozen=True):
    """What was learnt of one segment. expected: false alarms in a period, at most; replayed: in the reference's replay.

    raised: by what factor the replay raised the bar. columns: in their own order.
    """

    segment: str
    rows_per_window: float
    windows: int
    order: str
    period_windows: float
    expected: float
    replayed: float | None
    allowed: float | None
    raised: float
    columns: tuple[Visible, ...]


@app.command(epilog="Example: driftd calibrate --config driftd.toml --model credit")
def calibrate(config: ConfigFile, model: ModelName, *, json: AsJson = False) -> None:
    """Learn from the reference's own windows how its columns move while nothing is wrong, and replay it.

    Prints the false alarms that the budget allows and that the replay had, and the smallest shift each column will
    show; keeps what was learnt with the reference. The service does the same at its start where it was not done.
    """
    from monitor.check import budgeted

    checked = read_config(config)
    own = chosen(checked.model, config, "model", model)
    if own.decision != "budget":
        raise ReferenceFault(f'model {model} has decision = "{own.decision}"; only "budget" is calibrated')
    directory = config.parent / own.reference
    reference = replace(unseal(directory), calibrations=Calibrations())  # whatever was learnt before
    layout = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*layout, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task("replaying the reference", total=1.0)
        budget = budgeted(reference, checked, own, lambda part: bar.update(task, completed=part))
    data = {segment: ward.calibration.to_bytes() for segment, ward in budget.wards.items()}
    keep(directory, Calibrations(budget.allowances.key(reference.id), data))
    found = tuple(_learnt(budget, segment) for segment in budget.wards)
    if json:
        print_json(found)
        return
    for learnt in found:
        _show(learnt, f"{budget.allowances.false_alarms:g} a {budget.allowances.per}")
    out.print(f"kept with the reference {reference.id[:12]} in {own.reference}")


def _learnt(budget: Budget, segment: str) -> Learnt:
    ward, account = budget.wards[segment], budget.account(segment)
    known, allowance, names = ward.calibration, ward.allowance, frozenset(budget.bins.pair_names)
    columns = tuple(
        Visible(name, float(share), _figure(soon), _figure(later), account.off.get(name), name in names)
        for name, share, soon, later in zip(
            ward.layout.names, allowance.shares, known.least, known.least_period, strict=True
        )
    )
    return Learnt(
        segment, known.rows, known.n_blocks, known.order, allowance.period, allowance.own, account.replayed,
        account.allowed, account.raised, columns,
    )  # fmt: skip


def _figure(value: float) -> float | None:
    return None if value != value else float(f"{value:.3g}")  # noqa: PLR0124  # NaN


def _show(learnt: Learnt, budget: str) -> None:
    rows = f"about {number(learnt.rows_per_window)} rows"
    out.print(f"{learnt.segment}: {learnt.windows} windows of {rows}; {learnt.order}", highlight=False, soft_wrap=True)
    replayed = "the reference has too few windows to be replayed"
    if learnt.replayed is not None and learnt.allowed is not None:
        bar = f"with the bar raised {learnt.raised:.3g} fold" if learnt.raised > 1 else "with the bar as it is"
        replayed = f"the reference's replay has {learnt.replayed:g} alarms, {learnt.allowed:.3g} allowed, {bar}"
    out.print(
        f"budget {budget} over everything, at most {learnt.expected:.3g} of it expected here; {replayed}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    table = Table("column", "of the budget", "shift seen in 24 windows", "in a period", "paging", box=None)
    for column in learnt.columns:
        unit = "z" if column.is_pair else "sd"
        shown = ["" if size is None else f"{size:.2f} {unit}" for size in (column.within_24, column.within_period)]
        table.add_row(column.column, f"{column.share:.2%}", *shown, column.off or "yes")
    out.print(table)
