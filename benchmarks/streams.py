"""Simulated prediction logs with a known truth, as counts: what a reference, and the weeks after it, look like.

A stream has 50 columns, 40 of numbers (32 values each) and 10 of words (6 each), in hourly windows of four panes. Under
it moves a latent shift per column, in standard deviations: a season of the day with a second harmonic, an
autoregressive wobble that is shared in part, and whatever else a condition adds. Counts are Poisson, so that windows
have traffic, and every cell of it is what rows drawn one by one would give.

The first 16 columns of numbers are watched two by two. Columns 0 and 1, 2 and 3 and so on are correlated, and Fisher's
z of their correlation moves as columns do, season, wobble and all. Sums of products come from rows drawn one by one, of
the same number and under the same shifts as the counts, but not the same rows. So do, where a condition asks for them,
the sums of joint scores, which are of these 16 columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.special import ndtr, ndtri

from detectors import Bins, Profile
from detectors.blocks import Blocks, folded, panes_of
from detectors.calibration import Allowance, Calibration, Material, calibrate
from detectors.cells import BELOW, MISSING, N_CELLS, UNSEEN
from detectors.correlation import choose
from detectors.joint import choose as choose_joint
from detectors.null import Null
from detectors.profile import N_SUMS
from detectors.season import HOUR_MS, MONDAY_MS
from detectors.signals import Reading, Signals
from detectors.vigil import Sight, Vigil

N_NUMBERS, N_WORD_COLUMNS = 40, 10
N_COLUMNS: Final = N_NUMBERS + N_WORD_COLUMNS
N_VALUES: Final = 32
WORDS: Final = np.array([0.38, 0.25, 0.2, 0.1, 0.05, 0.02])
WEEK: Final = 168
EDGES: Final = np.concatenate(([-np.inf], ndtri(np.arange(1, N_VALUES) / N_VALUES), [np.inf]))
VALUE_CELLS: Final = slice(1, 1 + N_VALUES)
NEW: Final = 1 + N_VALUES
N_COMPACT: Final = NEW + 1
"""Cells as they are simulated: missing, the values or words, and what the reference never held."""
N_PAIRED: Final = 16
TOGETHER: Final = np.array([-0.9, -0.6, -0.3, 0.0, 0.2, 0.5, 0.7, 0.9])
"""Correlations of columns 0 and 1, 2 and 3 ..."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a stream is like while nothing drifts.

    rows: per hour, on average. season, wobble: ranges of amplitudes over columns, in standard deviations. rho: from
    hour to hour. common: share of the wobble that all columns have in common. weeks: of reference. jump: of the traffic
    after the reference. is_timed: whether the reference's rows have a time; else it is `rows_untimed` rows in no order.
    joint: whether the joint distribution is watched; entwined: share of rows in which three columns go together, and no
    two of them show it.
    """

    name: str
    rows: float = 2000
    season: float = 0.3
    wobble: tuple[float, float] = (0.02, 0.08)
    rho: float = 0.7
    common: float = 0.3
    traffic: float = 0.7
    heavy: bool = False
    weekend: float = 0.0
    batch: float = 0.0
    spikes: float = 0.0
    walk: float = 0.0
    jump: float = 1.0
    weeks: int = 4
    is_timed: bool = True
    rows_untimed: int = 20_000
    joint: bool = False
    entwined: float = 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to the first `n_columns` columns of a kind from the 25th hour on.

    kind: level | spread | shape | new | missing | correlation (of the first `n_columns` correlated pairs) | joint (by
    how much the share of entwined rows grows). ramp: hours until the full size is reached. lasts: hours, 0 for good.
    """

    kind: str
    size: float
    n_columns: int = 10
    ramp: int = 0
    lasts: int = 0
    begins: int = 24


@dataclass(frozen=True, eq=False)
class Stream:
    """A reference and the windows after it: counts, shape (windows, panes, columns, compact cells), and sums of pairs,
    shape (windows, panes, sums)."""

    condition: Condition
    bins: Bins
    reference: np.ndarray
    live: np.ndarray
    reference_pairs: np.ndarray
    live_pairs: np.ndarray


def simulate(condition: Condition, hours: int, seed: int, change: Change | None = None) -> Stream:
    """A stream of that condition with so many hours after the reference."""
    rng = np.random.default_rng(seed)
    n_panes = panes_of(condition.rows)
    n_reference = condition.weeks * WEEK
    n_hours = n_reference + hours
    shift = _latent(condition, rng, n_hours, n_panes)
    hour = np.arange(n_hours * n_panes).reshape(n_hours, n_panes) / n_panes
    factor = 1 + condition.traffic * np.sin(2 * np.pi * (hour - 9) / 24)
    factor[n_reference:] *= condition.jump
    rows = condition.rows / n_panes * factor
    grown = np.zeros(n_hours)
    if change is not None:
        at = n_reference + change.begins
        grown[at:] = np.minimum((np.arange(n_hours - at) + 1) / max(change.ramp, 1), 1)
        if change.lasts:
            grown[at + change.lasts :] = 0
    counts = np.empty((n_hours, n_panes, N_COLUMNS, N_COMPACT), np.int32)
    for begin in range(0, n_hours, WEEK):
        week = slice(begin, begin + WEEK)
        share = _shares(shift[week], change, grown[week])
        counts[week] = rng.poisson(rows[week, :, None, None] * share)
    reference, live = counts[:n_reference], counts[n_reference:]
    together = _Together(condition, seed, n_hours, n_panes)
    if change is not None and change.kind == "joint":
        together.entwined[n_reference:] += grown[n_reference:] * change.size
    if change is not None and change.kind == "correlation":
        together.z[:, :, : change.n_columns] += grown[:, None, None] * change.size
    pairs = together.sums(shift, counts)
    reference_pairs, live_pairs = pairs[:n_reference], pairs[n_reference:]
    if not condition.is_timed:
        pooled = reference.sum(axis=(0, 1)) / reference.sum(axis=(0, 1, 3))[:, None]
        n_blocks = max(int(condition.rows_untimed // condition.rows), 1)
        size = condition.rows_untimed / n_blocks / n_panes
        reference = rng.poisson(size * pooled, (n_blocks, n_panes, *pooled.shape)).astype(np.int32)
        reference_pairs = together.sums(None, reference)
    return Stream(condition, together.bins, reference, live, reference_pairs, live_pairs)


class _Together:
    """Rows of the columns that are watched two by two. z: Fisher's z of the correlated pairs, shape (hours, panes, 8).
    entwined: share of rows in which the sign of column 7 is that of the product of columns 0 and 6, shape (hours,).

    Draws of its own, so that the counts are what they would be without it.
    """

    def __init__(self, condition: Condition, seed: int, hours: int, n_panes: int) -> None:
        self._rng = np.random.default_rng([seed, N_PAIRED])
        self._base = np.arctanh(TOGETHER)
        self.entwined = np.full(hours, condition.entwined)
        self.z = self._base + _latent(condition, self._rng, hours, n_panes)[:, :, : TOGETHER.size]
        bins = _bins()
        self._cell = _places(bins)[0].astype(np.uint8)
        cells = self._cell[1 + self._values(np.zeros(N_PAIRED), self._base, 20_000, condition.entwined)]
        counts = np.stack([np.bincount(row, minlength=N_CELLS) for row in cells])
        pairs = choose(counts, cells, np.ones(N_PAIRED), N_PAIRED)
        if condition.joint:
            pairs = replace(pairs, joint=choose_joint(list(counts[:, BELOW:] / cells.shape[1]), N_PAIRED, cells, BELOW))
        self.bins = replace(bins, pairs=pairs)

    def sums(self, shift: np.ndarray | None, counts: np.ndarray) -> np.ndarray:
        """Of as many rows as the first column's counts have, shape (hours, panes, sums); without a shift none moves."""
        n_rows = counts[:, :, 0].sum(axis=-1)
        found = np.empty((*n_rows.shape, self.bins.pairs.n_sums), np.int64)
        for place in np.ndindex(n_rows.shape):
            level, z = (np.zeros(N_PAIRED), self._base) if shift is None else (shift[place][:N_PAIRED], self.z[place])
            entwined = float(self.entwined[place[0]])
            found[place] = self.bins.pairs.sums(self._cell[1 + self._values(level, z, int(n_rows[place]), entwined)])
        return found

    def _values(self, level: np.ndarray, z: np.ndarray, n_rows: int, entwined: float = 0.0) -> np.ndarray:
        """Which of the 32 values each row has, shape (16, rows)."""
        rows = self._rng.standard_normal((N_PAIRED, n_rows), np.float32)
        r = np.tanh(z).astype(np.float32)[:, None]
        rows[1::2] = r * rows[::2] + np.sqrt(1 - r * r) * rows[1::2]
        if entwined:
            mine = self._rng.random(n_rows) < entwined
            rows[7, mine] = (np.abs(rows[7]) * np.sign(rows[0] * rows[6]))[mine]
        rows += level.astype(np.float32)[:, None]
        return np.minimum((ndtr(rows) * np.float32(N_VALUES)).astype(np.uint8), N_VALUES - 1)


def _latent(condition: Condition, rng: np.random.Generator, hours: int, n_panes: int) -> np.ndarray:
    """The shift of every column at every pane, shape (hours, panes, columns)."""
    steps, n = hours * n_panes, N_COLUMNS
    hour = np.arange(steps)[:, None] / n_panes
    amplitude, phase = rng.uniform(0, condition.season, n), rng.uniform(0, 24, (2, n))
    second = amplitude * rng.uniform(0, 0.5, n)
    shift = amplitude * np.sin(2 * np.pi * (hour - phase[0]) / 24)
    shift += second * np.sin(4 * np.pi * (hour - phase[1]) / 24)
    shift += (hour // 24 % 7 >= 5) * rng.uniform(-condition.weekend, condition.weekend, n)
    rho = condition.rho ** (1 / n_panes)
    own, shared = (_autoregression(rng, steps, m, rho, condition.heavy) for m in (n, 1))
    sign = rng.choice([-1, 1], n)
    wobble = np.sqrt(1 - condition.common) * own + np.sqrt(condition.common) * shared * sign
    shift += wobble * rng.uniform(*condition.wobble, n)
    shift += (np.floor(hour) % 24 == 2) * condition.batch * (rng.random(n) < 0.3)
    spikes = (rng.random((hours, n)) < 0.01) * rng.choice([-1, 1], (hours, n)) * condition.spikes
    shift += np.repeat(spikes, n_panes, axis=0)
    shift += np.cumsum(rng.standard_normal((steps, n)), axis=0) * condition.walk / np.sqrt(n_panes)
    return shift.reshape(hours, n_panes, n)


def _autoregression(rng: np.random.Generator, steps: int, n: int, rho: float, heavy: bool) -> np.ndarray:
    shocks = rng.standard_t(4, (steps, n)) / np.sqrt(2) if heavy else rng.standard_normal((steps, n))
    found = np.empty((steps, n))
    found[0] = rng.standard_normal(n)
    for t in range(1, steps):
        found[t] = rho * found[t - 1] + np.sqrt(1 - rho * rho) * shocks[t]
    return found


def _shares(shift: np.ndarray, change: Change | None, grown: np.ndarray) -> np.ndarray:
    """The share of each compact cell, shape (hours, panes, columns, cells)."""
    share = np.zeros((*shift.shape, N_COMPACT))
    level, spread = shift.copy(), np.ones(N_COLUMNS)
    size = np.zeros(shift.shape[0])
    kind, several = ("", slice(0, 0)) if change is None else (change.kind, slice(0, change.n_columns))
    if change is not None:
        size = grown * change.size
    if kind == "level":
        level[:, :, several] += size[:, None, None]
    widths = np.ones((shift.shape[0], 1, N_COLUMNS)) * spread
    if kind == "spread":
        widths[:, :, several] += size[:, None, None]
    edges = (EDGES - level[:, :, :N_NUMBERS, None]) / widths[:, :, :N_NUMBERS, None]
    share[:, :, :N_NUMBERS, VALUE_CELLS] = np.diff(ndtr(edges), axis=-1)
    if kind == "shape":
        middle = (np.arange(N_VALUES) + 0.5) / N_VALUES
        tilt = np.sqrt(7) * (20 * middle**3 - 30 * middle**2 + 12 * middle - 1)
        share[:, :, several, VALUE_CELLS] *= 1 + size[:, None, None, None] * tilt
    score = np.array([-1.0, 0.2, 0.8, 0.8, 1.5, 1.5])
    score = (score - WORDS @ score) / np.sqrt(WORDS @ score**2 - (WORDS @ score) ** 2)
    words = WORDS * np.exp(shift[:, :, N_NUMBERS:, None] * score)
    share[:, :, N_NUMBERS:, 1 : 1 + WORDS.size] = words / words.sum(axis=-1, keepdims=True)
    if change is not None and kind == "words":
        part = slice(N_NUMBERS, N_NUMBERS + change.n_columns)
        moved = size[:, None, None] * share[:, :, part, 1]
        share[:, :, part, 1] -= moved
        share[:, :, part, 3] += moved
    if change is not None and kind == "new":
        part = slice(N_NUMBERS, N_NUMBERS + change.n_columns)
        share[:, :, part] *= 1 - size[:, None, None, None]
        share[:, :, part, NEW] += size[:, None, None]
    if kind == "missing":
        share[:, :, several] *= 1 - size[:, None, None, None]
        share[:, :, several, 0] += size[:, None, None]
    return share


class Line:
    """A calibrated watch over a stream: what `driftd` learns of its reference, and the readings of what comes after."""

    def __init__(self, stream: Stream, alarms: float = 1.0) -> None:
        self.bins = stream.bins
        self._places = _places(self.bins)
        total, pairs = stream.reference.sum(axis=(0, 1)), stream.reference_pairs.sum(axis=(0, 1))
        reference = Profile(self.bins, self.counts(total), np.zeros((N_NUMBERS, N_SUMS), np.int64), 0, pairs)
        condition = stream.condition
        self.signals = Signals.of(reference, condition.rows)
        self._rules = self._rules_of_cells()
        timed = condition.is_timed
        starts = MONDAY_MS + np.arange(len(stream.reference)) * HOUR_MS * timed
        reading = self.read(stream.reference, stream.reference_pairs)
        self.material = Material(
            self.signals, self.signals.read(reference), self.signals.row_variance(reference),
            Blocks(reading, starts, np.zeros(N_COLUMNS, np.int64), 1.0, timed), HOUR_MS,
        )  # fmt: skip
        weights = np.ones(self.signals.n_columns)
        weights[N_COLUMNS : N_COLUMNS + self.signals.n_pairs] = 1 / (N_PAIRED - 1)
        self.allowance = Allowance(alarms, float(WEEK), weights / weights.sum())
        self.calibration: Calibration = calibrate(self.material, self.allowance)
        self.live = self.read(stream.live, stream.live_pairs)
        hours = condition.weeks * WEEK + np.arange(len(stream.live))
        self.cells = self.material.season.cells(MONDAY_MS + hours * HOUR_MS)

    def counts(self, compact: np.ndarray) -> np.ndarray:
        """Compact counts on all cells."""
        found = np.zeros((*compact.shape[:-1], N_CELLS), np.int64)
        np.put_along_axis(found, np.broadcast_to(self._places, compact.shape), compact, axis=-1)
        return found

    def read(self, compact: np.ndarray, pairs: np.ndarray) -> Reading:
        """Readings of compact counts: every number of a reading is a sum over rows, so one per cell is all it takes."""
        layout, own = self.signals, self._own
        by_column = np.moveaxis(compact.reshape(-1, N_COLUMNS, N_COMPACT), 1, 0).astype(np.float64)
        sums = np.rint(np.moveaxis(by_column @ self._rules, 0, 1)).astype(np.int64)
        sums = sums.reshape(*compact.shape[:-1], -1)
        first = 2 + _place(own).max()
        return Reading(
            compact.sum(axis=-1, dtype=np.int64)[..., 0], sums[..., 0], sums[..., own, 1 + _place(own)],
            sums[..., layout.event_column, first + _place(layout.event_column)], pairs,
            np.zeros((*compact.shape[:2], 0), np.int64),
        )  # fmt: skip

    @property
    def _own(self) -> np.ndarray:
        """The column of each signal that is not a pair's."""
        return self.signals.column[~self.signals.is_together]

    def _rules_of_cells(self) -> np.ndarray:
        """What one row in a cell adds to its column's valid rows, signals and events, shape (columns, cells, parts)."""
        one = np.moveaxis(np.broadcast_to(np.eye(N_COMPACT, dtype=np.int32), (N_COLUMNS, N_COMPACT, N_COMPACT)), 1, 0)
        rules, own, events = self.signals.read_counts(self.counts(one)), self._own, self.signals.event_column
        first = 2 + _place(own).max()
        found = np.zeros((N_COLUMNS, N_COMPACT, first + _place(events).max() + 1))
        found[:, :, 0] = rules.valid.T
        found[own, :, 1 + _place(own)] = rules.totals.T
        found[events, :, first + _place(events)] = rules.events.T
        return found


def watch(lines: Sequence[Line], *, is_live: bool = True) -> list[Watched]:
    """Watch streams of one condition to their end, side by side where their watches have the same form."""
    found: dict[int, Watched] = {}
    alike: dict[object, list[int]] = {}
    for i, line in enumerate(lines):
        calibration, layout = line.calibration, line.signals
        form = calibration.by_window, len(calibration.null.season), calibration.null.is_timed
        alike.setdefault((form, layout.column.tobytes(), layout.event), []).append(i)
    for several in alike.values():
        found |= zip(several, _side_by_side([lines[i] for i in several], is_live), strict=True)
    return [found[i] for i in range(len(lines))]


def _side_by_side(lines: Sequence[Line], is_live: bool) -> list[Watched]:
    """Windows have as many panes as the streams' mean of rows allows: they hardly differ in it."""
    terms = [line.calibration.terms(line.allowance) for line in lines]
    together = replace(
        terms[0], ln_bar=np.stack([each.ln_bar for each in terms]), silent=np.stack([each.silent for each in terms]),
        is_live=is_live,
    )  # fmt: skip
    null = Null.stacked([line.calibration.null for line in lines])
    layout = replace(
        lines[0].signals,
        mean=np.stack([line.signals.mean for line in lines]), scale=np.stack([line.signals.scale for line in lines]),
    )  # fmt: skip
    vigil = Vigil.begin(layout, null, together)
    alarms, opened = [], []
    cells = lines[0].cells.tolist() if len(null.season) > 1 else [0] * lines[0].cells.size
    for window, cell in enumerate(cells):
        readings = [line.live[window].arrays for line in lines]
        panes = Reading(**{name: np.stack([each[name] for each in readings], axis=1) for name in readings[0]})
        vigil, seen = vigil.after(layout, null, together, Sight(folded(panes), np.zeros(len(lines)), cell))
        alarms.append(seen.alarm.loud)
        opened.append(seen.opened)
    each = zip(np.stack(alarms, axis=1), np.stack(opened, axis=1), strict=True)
    return [Watched(*pair) for pair in each]


def _place(column: np.ndarray) -> np.ndarray:
    """The how-manieth of its column each part is."""
    return np.arange(column.size) - np.searchsorted(column, column)


@dataclass(frozen=True, eq=False)
class Watched:
    """What came of a stream: alarms and openings of columns' and pairs' incidents, shape (windows, columns)."""

    alarms: np.ndarray
    opened: np.ndarray

    @property
    def pages(self) -> np.ndarray:
        """Windows in which people are told something new, shape (windows,)."""
        return np.asarray(self.opened.any(axis=1))


def _bins() -> Bins:
    words = {chr(97 + i): int(1e4 * share) for i, share in enumerate(WORDS)}
    numbers = {f"x{i}": np.arange(N_VALUES, dtype=np.float64) for i in range(N_NUMBERS)}
    return Bins.of(numbers, {f"w{i}": words for i in range(N_WORD_COLUMNS)})


def _places(bins: Bins) -> np.ndarray:
    """Where each compact cell lies among the 256, shape (columns, compact cells)."""
    values = np.broadcast_to(np.arange(N_VALUES, dtype=np.float64), (N_NUMBERS, N_VALUES))
    found = np.zeros((N_COLUMNS, N_COMPACT), np.intp)
    found[:, 0], found[:, NEW] = MISSING, UNSEEN
    found[:N_NUMBERS, VALUE_CELLS] = bins.cells(values, np.zeros((N_WORD_COLUMNS, N_VALUES), np.uint8))[:N_NUMBERS]
    free = 200 + np.arange(N_VALUES)  # cells that no word has
    found[N_NUMBERS:, VALUE_CELLS] = free
    for row, column in enumerate(bins.categorical):
        codes = column.codes()
        found[N_NUMBERS + row, 1 : 1 + WORDS.size] = [codes[chr(97 + i)] for i in range(WORDS.size)]
    return found
