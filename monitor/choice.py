"""Which columns of files a model's reference watches: those that its records have where `[model.fields]` says.

Files may be flat, their columns named like the features, or hold the records of the model's own log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from monitor.config import Fields, Model
from monitor.errors import ReferenceFault
from monitor.table import opened

if TYPE_CHECKING:
    import pandas as pd

_SEALED_KINDS: Final = ("numeric", "categorical", "boolean", None)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Columns of a table. rows: all of them, objects opened; watched: those that a reference is made of, by their names
    there. left_out: of the others by name, why; absent: fields that the table lacks, and what follows.
    """

    rows: pd.DataFrame
    watched: pd.DataFrame
    left_out: Mapping[str, str]
    absent: Mapping[str, str]


def choose(frame: pd.DataFrame, model: Model) -> Choice:
    """The columns that drift is looked for in. ReferenceFault when one of those that are listed is not there."""
    fields, rows = model.fields, opened(frame)
    outputs = [name for name in (fields.prediction, fields.score) if name]
    apart = {name: what for what in ("id", "timestamp", "label") if (name := getattr(fields, what))}
    prefix = f"{fields.features}." if isinstance(fields.features, str) else ""
    if isinstance(fields.features, tuple):
        wanted = {*fields.features, *outputs}
        if lost := sorted(wanted - set(rows.columns)):
            raise ReferenceFault(f"found no column {', '.join(lost)}; the files have: {', '.join(rows.columns)}")
        found = {name: name for name in rows.columns if name in wanted}
        why = "not among the features"
    elif prefix and any(name.startswith(prefix) for name in rows.columns):
        inner = {name: name.removeprefix(prefix) for name in rows.columns if name.startswith(prefix)}
        found = {name: name for name in outputs if name in rows}
        found |= {name: own for name, own in inner.items() if name not in apart and own not in found}
        why = f"not under {fields.features}"
    else:
        found = {n: n for n in rows.columns if n in outputs or (n in frame and n not in apart)}
        why = "inside an object; `features` under [model.fields] does not name it"
    kept = {name: own for name, own in found.items() if _is_sealed(model, own)}
    left_out = {
        name: f"the {apart[name]}" if name in apart else "not watched, by its kind" if name in found else why
        for name in rows.columns
        if name not in kept
    }
    return Choice(rows, rows[list(kept)].rename(columns=kept), left_out, dict(_absent(fields, rows)))


def _is_sealed(model: Model, name: str) -> bool:
    return name not in model.columns or model.columns[name].kind in _SEALED_KINDS


def _absent(fields: Fields, rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    for what, follows in (
        ("prediction", "it is not watched"),
        ("score", "it is not watched"),
        ("label", "no loss is learnt"),
        ("timestamp", "windows are cut by the order of the rows"),
    ):
        name = getattr(fields, what)
        if name and name not in rows:
            yield name, f"the {what}: {follows}"
