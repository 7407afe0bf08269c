"""Payloads to columns. One file per log format; importing this package imports every file beside it.

A decoder turns the records of one partition fetch into one Batch on the cells of the model's reference. A record that
cannot become a row is a Reject in that batch; its neighbours are unharmed. A value of the wrong type is not a reject:
it is counted in its own cell.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

from detectors import Bins
from detectors.columns import NumericColumn
from monitor.batch import Batch, Records
from monitor.config import Fields, Labels, Model

Path = tuple[str, ...]
STAMP: Final = 0
ID: Final = 1
"""What is read of a row beside its columns; numbered behind them."""


@dataclass(frozen=True)
class Layout:
    """Where a model's columns stand in a record.

    paths: for every column of `bins.names` its keys from the outermost object inwards. timestamp: the event time's
    keys, None where the record has none. features: keys of the object whose members are the features (the empty path
    is the record itself). ignored: names in that object that are known and not watched (the id, the label ...).
    id: the keys of the row's id, None where nobody asks for it.
    """

    bins: Bins
    paths: tuple[Path, ...]
    timestamp: Path | None = None
    features: Path = ()
    ignored: frozenset[str] = frozenset()
    id: Path | None = None

    def spelled(self, column: int) -> int | None:
        """The categorical column, by its place among them, in whose words a column is read; None: it is of numbers."""
        return self._spelled[column]

    @cached_property
    def _spelled(self) -> list[int | None]:
        n_numeric = self.bins.n_numeric
        places = (self.bins.errors.get(column, column) - n_numeric for column in range(self.bins.n_columns))
        return [place if place >= 0 else None for place in places]

    @cached_property
    def known(self) -> frozenset[str]:
        """Names in the features' object that are no surprise."""
        depth, stamp = len(self.features), () if self.timestamp is None else (self.timestamp,)
        return self.ignored | {path[depth] for path in (*self.paths, *stamp) if path[:depth] == self.features}

    @cached_property
    def places(self) -> tuple[tuple[int, Path], ...]:
        """Every column that is to be read, by its number, and its path; the event time and the id are two more."""
        n_columns = self.bins.n_columns
        others = ((n_columns + STAMP, self.timestamp), (n_columns + ID, self.id))
        return (*enumerate(self.paths), *((column, path) for column, path in others if path is not None))


def layout(fields: Fields, bins: Bins, *, ids: bool = False) -> Layout:
    """Where a model's columns stand, from `[model.fields]`. ids: whether rows' ids are to be read too.

    The columns of prediction and score stand at their own paths, and the loss, which labels make, at that of the label;
    the others are members of the features' object, or dotted paths where the features are listed one by one, or members
    of the record itself.
    """
    features = _path(fields.features) if isinstance(fields.features, str) else ()
    own = {name: _path(name) for name in (fields.prediction, fields.score, fields.label) if name}
    if isinstance(fields.features, tuple):
        own |= {name: _path(name) for name in fields.features}
    if fields.label:
        own |= {bins.names[row]: _path(fields.label) for row in bins.errors}
    paths = tuple(own.get(name, (*features, name)) for name in bins.names)
    known = [path for path in map(_path, _named(fields)) if path[: len(features)] == features]
    ignored = frozenset(path[len(features)] for path in known if len(path) > len(features))
    timestamp = _path(fields.timestamp) if fields.timestamp else None
    return Layout(bins, paths, timestamp, features, ignored, _path(fields.id) if ids and fields.id else None)


def label_layout(model: Model, labels: Labels, bins: Bins) -> Layout:
    """Where a label and its id stand in a record of labels; the one column is the output that it is compared with."""
    ((_, output),) = bins.errors.items()
    column = bins.columns[output]
    own = Bins((column,), ()) if isinstance(column, NumericColumn) else Bins((), (column,))
    label, identity = labels.label or model.fields.label or "", labels.id or model.fields.id or ""
    timestamp = _path(labels.timestamp) if labels.timestamp else None
    return Layout(own, (_path(label),), timestamp, id=_path(identity))


def _named(fields: Fields) -> Iterable[str]:
    names = (fields.id, fields.timestamp, fields.prediction, fields.score, fields.label)
    return (name for name in names if name)


def _path(dotted: str) -> Path:
    return tuple(dotted.split("."))


Schemas = Callable[[int], str]
"""The JSON text of a schema by its number. LookupError: there is none. SourceError: that cannot be learnt just now."""


class Decoder(ABC):
    """One log format. Defining it with a `format` registers it."""

    format: ClassVar[str]
    needs_schemas: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "format" in cls.__dict__:
            REGISTRY[cls.format] = cls

    @abstractmethod
    def __init__(self, layout: Layout) -> None: ...

    def look_up(self, schemas: Schemas) -> None:  # noqa: B027  # most formats carry their own
        """Where to find the schemas that the records only name; for formats that have such."""

    @abstractmethod
    def decode(self, records: Records) -> Batch:
        """Rows of these records, in their order. Never raises for what a record holds, only what `Schemas` does."""


REGISTRY: Final[dict[str, type[Decoder]]] = {}

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
