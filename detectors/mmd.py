"""Whether rows as wholes come from where the reference's come from: maximum mean discrepancy by random features.

    MMD = | mean f(reference row) - mean f(current row) |,    <f(x), f(y)> about k(x, y) = exp(-d(x, y)^2 / (2 columns))

with d Euclid's distance between rows whose numbers are ranks in the reference, of variance 1 and so blind to units and
outliers, and whose words (missing values are one) are points of their own, each sqrt(2) from any other. It sees what no
column shows by itself, such as two columns that lose their correlation.

The law without drift needs no formula: if both samples come from one source, any choice of as many of all the rows was
as likely, so p is the share of such choices with at least this distance. That is exact for any number of rows, but for
the cells' having been cut by the reference.

Rahimi and Recht (2007), Random features for large-scale kernel machines, NIPS 20; Gretton et al. (2012), A kernel
two-sample test, J. Mach. Learn. Res. 13.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.cells import BELOW, N_CELLS, Bools, Cells, Floats
from detectors.profile import Profile

N_FEATURES: Final = 256
N_CHOICES: Final = 999
MOST_SINGLE: Final = 0.5
"""Words of which a larger share occurs once are keys, and tell of nothing but themselves."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """What was found. statistic: MMD, in [0, sqrt 2]. p_value: at least 1/1000. n_reference, n_current: rows."""

    statistic: float
    p_value: float
    n_reference: int
    n_current: int


def discrepancy(profile: Profile, reference: Cells, current: Cells, seed: int = 0) -> Discrepancy | None:
    """Compare rows. Equal arguments give equal numbers; the order of columns and of rows changes no distance.

    profile: of the reference's rows, whose ranks are meant. reference, current: cells of some rows of either side,
    shape (columns, rows). None where a side has no row, or no column is anything but a key.
    """
    n, m = reference.shape[1], current.shape[1]
    kept = kept_columns(profile)
    if not (n and m and kept.any()):
        return None
    rows = features(profile, np.concatenate((reference, current), axis=1), seed)
    drawn = np.random.default_rng(seed).random((N_CHOICES, n + m), np.float32)
    chosen = np.zeros((N_CHOICES + 1, n + m), np.float32)
    chosen[0, n:] = 1
    np.put_along_axis(chosen[1:], np.argpartition(drawn, m - 1, axis=1)[:, :m], 1.0, axis=1)
    inside = chosen @ rows
    gap = inside / m - (rows.sum(axis=0) - inside) / n
    squared = np.vecdot(gap, gap)
    p_value = np.mean(squared >= squared[0] * np.float32(1 - 1e-5))  # of a thousand choices the real one is one
    return Discrepancy(float(np.sqrt(squared[0])), float(p_value), n, m)


def features(profile: Profile, cells: Cells, seed: int = 0, n_features: int = N_FEATURES) -> Floats:
    """f of every row, shape (rows, features), as float32; cells: shape (columns, rows)."""
    kept = np.flatnonzero(kept_columns(profile))
    phase = np.zeros((cells.shape[1], n_features), np.float32)
    for row in kept.tolist():
        phase += _phases(profile, row, seed, n_features, kept.size)[cells[row]]
    phase += np.random.default_rng(seed).uniform(0, 2 * np.pi, n_features).astype(np.float32)
    return np.asarray(np.cos(phase) * np.float32(np.sqrt(2 / n_features)))


def _phases(profile: Profile, row: int, seed: int, n_features: int, n_kept: int) -> Floats:
    """What a column adds to the argument of each feature, by cell, shape (256, features); its own by its name."""
    bins = profile.bins
    rng = np.random.default_rng((seed, zlib.crc32(bins.names[row].encode())))
    found = rng.normal(size=(N_CELLS, n_features))
    if row < bins.n_numeric:
        ranks = profile.halfway[row] / max(profile.running[row, -1], 1.0)
        found[BELOW:] = rng.normal(size=n_features) * (np.sqrt(12) * (ranks - 0.5))[:, None]
    return np.asarray((found / np.sqrt(n_kept)).astype(np.float32))


def kept_columns(profile: Profile) -> Bools:
    """Columns that are no keys and no errors, shape (columns,)."""
    bins = profile.bins
    kept = np.concatenate((np.ones(bins.n_numeric, np.bool_), bins.singleton_shares <= MOST_SINGLE))
    kept[list(bins.errors)] = False
    return kept
