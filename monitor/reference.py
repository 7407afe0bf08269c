"""Sealed references: what is normal for a model, fixed once, in a directory that names itself by its content.

A sealed reference holds the cells (`bins.json`), the profile of the reference rows on them (`profile.bin`), a small
sample of rows as they were (`sample.parquet`) and as windows keep theirs (`rows.bin`), the windows of its rows if they
were cut (`windows.bin`) and what a person wants to know (`reference.json`). Its id is the SHA-256 of all but the last,
so that a changed byte is noticed and equal data give equal ids. What a calibration learnt lies beside them
(`calibration.bin`), and the null laws that had to be drawn (`laws.bin`); both follow from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import Bins, Kind, Profile
from detectors.blocks import Cut, Rows, least_rows
from detectors.cells import Cells, Floats
from detectors.correlation import watched
from detectors.domain import LEAST_ROWS
from detectors.law import Laws
from detectors.parts import Measure
from monitor import past
from monitor.allowance import Calibrations, cut_of
from monitor.batch import NO_TIME, Int64s, Partition
from monitor.check import Reference
from monitor.config import Model
from monitor.errors import ReferenceFault
from monitor.frozen import checked, unchecked
from monitor.loss import LOSS
from monitor.rowsample import TAUGHT_SHARE, RowSample, affordable, lots, taught
from monitor.table import counted, errors, is_numeric, numbers, storable, times, word_counts
from monitor.window import WHOLE, Segments

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_ROWS: Final = 1_000
_PARTS: Final = ("bins.json", "profile.bin", "sample.parquet")
_FACTS: Final = "reference.json"
_WINDOWS: Final = "windows.bin"
_ROWS: Final = "rows.bin"
_CALIBRATION: Final = "calibration.bin"
_LAWS: Final = "laws.bin"
_OWN: Final = Partition("reference", 0)
SPARE: Final = 0.05
"""Of a window's rows: how many of them teach a classifier is up to chance."""


@dataclass(frozen=True, slots=True)
class Slicing:
    """How a reference's rows are cut into windows and segments, as the model's log will be.

    time_ms: of each row, NO_TIME where it has none. segments, max_segments, correlations: as in the model's
    configuration; joint: whether "mmd" is among its `multivariate`; n_sampled: rows that are kept of a window, if
    "classifier" is, else 0. importance: of columns, where it is not 1.
    """

    cut: Cut
    time_ms: Int64s
    segments: tuple[str, ...] = ()
    max_segments: int = 50
    correlations: int = 0
    joint: bool = False
    n_sampled: int = 0
    importance: Mapping[str, float] = field(default_factory=dict)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in `reference.json`. columns: name to kind, in the order of the profile's rows."""

    version: int
    id: str
    n_rows: int
    columns: dict[str, str]


def slicing(frame: pd.DataFrame, model: Model, sample_rows: int) -> Slicing:
    """How a model's reference is cut. frame: all of its columns, that of the time among them if there is one.

    sample_rows: that are kept of every window.
    """
    name = model.fields.timestamp
    known = name is not None and name in frame
    time_ms = times(frame[name]) if known else np.full(len(frame), NO_TIME)
    importance = {name: column.importance for name, column in model.columns.items()}
    return Slicing(
        cut_of(model), time_ms, model.segments, model.max_segments, model.correlations,
        Measure.JOINT in model.multivariate, sample_rows * (Measure.CLASSIFIER in model.multivariate), importance,
    )  # fmt: skip


def kinds_of(frame: pd.DataFrame, wanted: Mapping[str, str]) -> dict[str, Kind]:
    """The kind of every column that will be watched.

    wanted: kinds that the configuration names; "ignore" leaves a column out, "boolean" is a category. Elsewhere columns
    of numbers are numeric and everything else is categorical.
    """
    kinds: dict[str, Kind] = {}
    for name in map(str, frame.columns):
        kind = wanted.get(name)
        if kind in ("ignore", "text", "embedding"):
            continue
        is_number = not kind and is_numeric(frame[name])
        kinds[name] = Kind(kind) if kind in tuple(Kind) else Kind.NUMERIC if is_number else Kind.CATEGORICAL
    return kinds


def with_loss(
    frame: pd.DataFrame, kinds: Mapping[str, Kind], rows: pd.DataFrame, model: Model
) -> tuple[pd.DataFrame, dict[str, Kind], str]:
    """The watched columns and one more, the loss, where the rows tell it; and whose error it is, "" where none is told.

    frame: the columns of these rows that are watched, of these kinds. A column of that name stays what it is.
    """
    label, own = model.fields.label, model.columns.get(LOSS)
    if label not in rows or LOSS in rows or (own is not None and own.kind == "ignore"):
        return frame, dict(kinds), ""
    labels = rows[label]
    of_numbers = is_numeric(labels) or labels.dropna().isin([True, False]).all()
    for output in (model.fields.score, model.fields.prediction):
        kind = kinds.get(output or "")
        if output and kind is not None and (of_numbers or kind is Kind.CATEGORICAL):
            loss = errors(frame[output], labels, kind)
            if np.isfinite(loss).any():
                return frame.assign(**{LOSS: loss}), {**kinds, LOSS: Kind.NUMERIC}, output
    return frame, dict(kinds), ""


def build(frame: pd.DataFrame, kinds: Mapping[str, Kind], error_of: str = "") -> tuple[Bins, Profile]:
    """Fix the cells from these rows and count the rows on them. ReferenceFault when there is nothing to learn from.

    error_of: the column whose error the loss is, where the rows have one made by `with_loss`.
    """
    bins, profile, _, _ = _counted(frame, kinds, error_of, None)
    return bins, profile


def _counted(
    frame: pd.DataFrame, kinds: Mapping[str, Kind], error_of: str, slicing: Slicing | None
) -> tuple[Bins, Profile, Floats, Cells]:
    """Cells, profile, and the rows on the cells; with the pairs of columns that the slicing asks for."""
    if frame.empty or not kinds:
        raise ReferenceFault(f"found {len(frame)} rows and {len(kinds)} columns to watch; wanted at least one of each")
    bins = Bins.of(
        {name: numbers(frame[name])[0] for name, kind in kinds.items() if kind is Kind.NUMERIC},
        {name: word_counts(frame[name])[0] for name, kind in kinds.items() if kind is Kind.CATEGORICAL},
        {LOSS: error_of},
    )
    matrix, cells = counted(frame, bins)
    profile = Profile.of(bins, matrix, cells)
    if slicing is not None and (slicing.correlations or slicing.joint or slicing.n_sampled):
        importance = np.array([slicing.importance.get(name, 1.0) for name in bins.names], np.float64)
        importance[list(bins.errors)] = 0.0  # an error follows its column
        pairs = watched(profile, cells, importance, slicing.correlations, joint=slicing.joint)
        pairs = replace(pairs, n_shown=_shown(profile, slicing))
        bins = replace(bins, pairs=pairs)
        profile = replace(profile, bins=bins, pairs=pairs.sums(cells))
    return bins, profile, matrix, cells


def _shown(profile: Profile, slicing: Slicing) -> int:
    """Rows of a window that a classifier is shown: as many as are kept of one, and as most of the reference's windows
    have beside those that teach it; 0 for none."""
    most = int((1 - TAUGHT_SHARE - SPARE) * least_rows(slicing.time_ms, slicing.cut))
    found = min(affordable(profile.bins, slicing.n_sampled) if slicing.n_sampled else 0, most)
    return found if found >= LEAST_ROWS else 0


def seal(
    frame: pd.DataFrame,
    kinds: Mapping[str, Kind],
    directory: Path,
    slicing: Slicing | None = None,
    error_of: str = "",
) -> Reference:
    """Build a reference and write it; equal rows give equal bytes. An existing directory is replaced file by file.

    slicing: without it nothing is learnt from how the rows' own windows differ, nor of segments. error_of: see `build`.
    """
    bins, profile, matrix, cells = _counted(frame, kinds, error_of, slicing)
    segments = Segments({}) if slicing is None else Segments.of(bins, slicing.segments, slicing.max_segments)
    directory.mkdir(parents=True, exist_ok=True)
    for name in (_WINDOWS, _CALIBRATION, _LAWS):
        (directory / name).unlink(missing_ok=True)
    pasts: past.Pasts = {}
    kept = _rows(frame, bins)
    if slicing is not None:
        classifier = taught(profile, kept) if bins.pairs.n_shown else None
        order = np.argsort(np.argsort(_lots(len(frame))))
        rows = Rows(matrix, cells, slicing.time_ms, np.ones(len(frame), np.bool_), order, classifier)
        pasts = past.by_segment(bins, rows, slicing.cut, segments.cells, WHOLE)
        (directory / _WINDOWS).write_bytes(past.freeze(pasts))
    (directory / "bins.json").write_bytes(bins.to_json())
    (directory / "profile.bin").write_bytes(profile.to_bytes())
    laws = Laws.of(profile)
    (directory / _LAWS).write_bytes(laws.to_bytes())
    (directory / _ROWS).write_bytes(kept.to_bytes())
    storable(_sample(frame[list(kinds)])).to_parquet(directory / "sample.parquet", index=False)
    columns = {name: str(kind) for name, kind in zip(bins.names, bins.kinds, strict=True)}
    facts = Facts(version=1, id=_content_id(directory), n_rows=profile.n_rows, columns=columns)
    (directory / _FACTS).write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1))
    return Reference(facts.id, bins, profile, pasts, rows=kept, laws=laws)


def keep(directory: Path, calibrations: Calibrations) -> None:
    """Lay what a calibration learnt beside the reference."""
    (directory / _CALIBRATION).write_bytes(checked(msgspec.msgpack.encode(calibrations)))


def facts(directory: Path) -> Facts:
    """What the reference says of itself. ReferenceFault when there is none."""
    try:
        return msgspec.json.decode((directory / _FACTS).read_bytes(), type=Facts)
    except OSError as error:
        raise ReferenceFault(
            f"{directory}: no sealed reference there ({error.strerror}); make one with `driftd reference build`"
        ) from error
    except msgspec.MsgspecError as error:
        raise ReferenceFault(f"{directory / _FACTS}: {error}") from error


def verified(directory: Path) -> Facts:
    """What a sealed reference says of itself, when its files are what they were. ReferenceFault as in `unseal`."""
    known = facts(directory)
    try:
        found = _content_id(directory)
    except OSError as error:
        raise ReferenceFault(f"{directory}: {error.filename} cannot be read: {error.strerror}") from error
    if known.version != 1:
        raise ReferenceFault(f"{directory}: reference of version {known.version}; this driftd reads version 1")
    if found != known.id:
        raise ReferenceFault(
            f"{directory}: its files do not match its id {known.id[:12]} (found {found[:12]}); build it anew"
        )
    return known


def unseal(directory: Path) -> Reference:
    """Open a sealed reference. ReferenceFault when it is absent, damaged or of another version."""
    try:
        known = verified(directory)
        bins = Bins.from_json((directory / "bins.json").read_bytes())
        profile = Profile.from_bytes(bins, (directory / "profile.bin").read_bytes())
        windows = directory / _WINDOWS
        pasts = past.thaw(windows.read_bytes(), bins) if windows.exists() else {}
        rows = directory / _ROWS
        sample = RowSample.from_bytes(bins, rows.read_bytes()) if rows.exists() else None
        laws = _laws(directory, profile)
        made_at = (directory / _FACTS).stat().st_mtime
        return Reference(known.id, bins, profile, pasts, _calibrations(directory), sample, laws, made_at)
    except OSError as error:
        raise ReferenceFault(f"{directory}: {error.filename} cannot be read: {error.strerror}") from error


def _calibrations(directory: Path) -> Calibrations:
    file = directory / _CALIBRATION
    if not file.exists():
        return Calibrations()
    try:
        return msgspec.msgpack.decode(unchecked(file.read_bytes()), type=Calibrations)
    except ValueError as error:  # of which msgspec's own is one
        raise ReferenceFault(f"{file}: {error}; delete it, or make it anew with `driftd calibrate`") from error


def _laws(directory: Path, profile: Profile) -> Laws | None:
    file = directory / _LAWS
    if not file.exists():
        return None
    try:
        return Laws.from_bytes(profile, file.read_bytes())
    except ValueError as error:
        raise ReferenceFault(f"{file}: {error}; build the reference anew") from error


def _content_id(directory: Path) -> str:
    digest = hashlib.sha256()
    for part in [*_PARTS, *(part for part in (_ROWS, _WINDOWS) if (directory / part).exists())]:
        digest.update(hashlib.sha256((directory / part).read_bytes()).digest())
    return digest.hexdigest()


def _rows(frame: pd.DataFrame, bins: Bins) -> RowSample:
    """Of the rows, those of the lowest lots; their offset is their number in the table."""
    lot = _lots(len(frame))
    chosen = np.sort(np.argsort(lot)[: affordable(bins, SAMPLE_ROWS)])
    matrix, cells = counted(frame.iloc[chosen], bins)
    none = np.full(chosen.size, NO_TIME)
    place = np.zeros(chosen.size, np.int32)
    return RowSample(bins, SAMPLE_ROWS, lot[chosen], (_OWN,), place, chosen, none, matrix, cells).lowest()


def _lots(n_rows: int) -> NDArray[np.uint64]:
    """Of the rows of a table, each by its number there."""
    return lots(_OWN, np.arange(n_rows))


def _sample(frame: pd.DataFrame) -> pd.DataFrame:
    """A fixed pseudo-random choice of rows, in their own order: the same rows for the same table."""
    if len(frame) <= SAMPLE_ROWS:
        return frame
    chosen = np.random.default_rng(0).choice(len(frame), SAMPLE_ROWS, replace=False)
    return frame.iloc[np.sort(chosen)]
