"""What the training rows were like in their own unit, and whether new rows are far from that."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.001, 0.999)
NEW_ROWS, ROWS, VALUES, PER_ROW = 512, 2**15, 2**23, 1024
"""At most so many new rows, training rows, values of all rows, and time steps or pixels of a row are looked at."""
FACTOR, SPANS = 3.0, 1.0
"""Far outside: this many times below or above a range of one sign, this many of its widths beyond one of both signs."""
ALONE = 30.0
"""A column of a vector is far outside on its own where it is this many times farther."""
NOTHING = 1.5
"""How far 0 is from a range of one sign, at least: many sensors say 0 now and then."""
SHARE = 0.2
"""Of a vector's columns, more than this share has to be far outside."""
SEVERAL, COLLAPSED = 20, 0.01
"""From so many rows on, most columns of a vector have to vary by more than this share of the range."""
NORM = "norm over the channels"

Ranges = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class OutOfRange:
    """A quantity of new rows that is far outside of its range in training.

    channel: its number; None: of all channels together. distance: 1 where it begins to be far.
    """

    what: str
    channel: int | None
    given: float
    low: float
    high: float
    distance: float


@dataclass(frozen=True)
class TrainingRanges:
    """Ranges (0.1 % and 99.9 % quantiles) over the training rows of one modality, in the unit that they are stored in.

    Args:
        values: of the values of every channel (of a vector: column).
        levels: of the rows' means of every channel; of vectors none.
        spreads: of the rows' standard deviations of every channel; of vectors none.
        norm: of the rows' means of the norm over channels; of vectors, images and single channels none.
    """

    values: Ranges
    levels: Ranges = ()
    spreads: Ranges = ()
    norm: Ranges = ()

    @classmethod
    def of(cls, x: NDArray, length: NDArray | None, present: NDArray) -> TrainingRanges:
        """Of training rows (N, D), (N, T, C), (N, C, H, W) or (N, C, T, H, W); at least one is present."""
        few = _some(np.flatnonzero(present), x, ROWS)
        values, levels, spreads, norm = _measured(x[few], None if length is None else length[few])
        return cls(_ranges(values), _ranges(levels), _ranges(spreads), _ranges(norm))

    def far(self, x: NDArray, length: NDArray | None = None, present: NDArray | None = None) -> list[OutOfRange]:
        """What is far outside the ranges in these rows, the farthest first; nothing in ordinary rows.

        Each quantity's median over the rows is held against its range, so single odd rows of several say nothing. Of
        signals and images these are the rows' means and standard deviations of every channel, and the mean norm over
        channels; of vectors the columns, of which many have to be outside, or one by much.

        Args:
            x: rows as for `of`. length: (N,) valid time steps. present: (N,) bool.
        """
        rows = _some(np.arange(len(x)) if present is None else np.flatnonzero(present), x, NEW_ROWS)
        if not len(rows):
            return []
        measured = _measured(x[rows], None if length is None else length[rows])
        if x.ndim == 2:
            found = _outside("value", measured[0], self.values)
            many = len(found) > SHARE * len(self.values)
            found = found if many else [f for f in found if f.distance > ALONE]
            return found or self._collapsed(measured[0])
        parts = ("mean", self.levels), ("standard deviation", self.spreads), (NORM, self.norm)
        found = [f for (what, ranges), v in zip(parts, measured[1:]) for f in _outside(what, v, ranges)]
        return sorted(found, key=lambda f: -f.distance)

    def _collapsed(self, x: NDArray) -> list[OutOfRange]:
        """The first column, where most columns of several rows hardly vary although they did in training."""
        low, high = np.array(self.values).T
        known = (high > low) & ~np.isnan(x).all(0)
        if len(x) < SEVERAL or not known.any():
            return []
        spread = np.nanmax(x[:, known], 0) - np.nanmin(x[:, known], 0)
        still = np.flatnonzero(known)[spread <= COLLAPSED * (high - low)[known]]
        if 2 * len(still) <= known.sum():
            return []
        first = still[0]
        given = float(np.nanmax(x[:, first]) - np.nanmin(x[:, first]))
        range_ = float(high[first] - low[first])
        return [OutOfRange("range over the rows", int(c), given, range_, range_, 1.0) for c in still]

    def to_config(self) -> dict[str, Any]:
        """JSON-able; `from_config` reads it."""
        return {
            name: [[x if np.isfinite(x) else None for x in r] for r in value]
            for name, value in vars(self).items()
            if value
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None) -> TrainingRanges | None:
        """What `to_config` wrote; None of files that do not say."""
        if not config:
            return None
        return cls(**{name: tuple((_number(a), _number(b)) for a, b in value) for name, value in config.items()})


def _some(rows: NDArray, x: NDArray, most: int) -> NDArray:
    """At most `most` of the rows, evenly spread; fewer of large ones."""
    each = (
        x.shape[1] * min(int(np.prod(x.shape[2:])), PER_ROW) if x.ndim != 3 else min(x.shape[1], PER_ROW) * x.shape[2]
    )
    count = max(min(most, VALUES // max(each, 1)), 32)
    return rows if len(rows) <= count else rows[np.linspace(0, len(rows) - 1, count).round().astype(int)]


def _measured(x: NDArray, length: NDArray | None) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """(·, C) values, (N, C) means and (N, C) standard deviations of rows, (N, 1) mean norms; NaN is left out."""
    if x.ndim == 2:
        return x.astype(np.float64), x[:, :0], x[:, :0], x[:, :0]
    image = x.ndim >= 4
    if image:
        x = np.moveaxis(x.reshape(*x.shape[:2], -1), 1, 2)
    steps = np.arange(0, x.shape[1], -(-x.shape[1] // PER_ROW))
    x = x[:, steps].astype(np.float64)
    if length is not None:
        x = np.where((steps < length[:, None])[:, :, None], x, np.nan)
    there = ~np.isnan(x)
    n = there.sum(1)
    n = np.where(n, n, np.nan)
    filled = np.where(there, x, 0)
    mean = filled.sum(1) / n
    std = np.sqrt(np.where(there, (x - mean[:, None]) ** 2, 0).sum(1) / n)
    norm = np.zeros((len(x), 0))
    if not image and x.shape[2] > 1:
        whole = there.all(2)
        size = np.sqrt((filled**2).sum(2))
        count = whole.sum(1)
        norm = (np.where(whole, size, 0).sum(1) / np.where(count, count, np.nan))[:, None]
    return x.reshape(-1, x.shape[2]), mean, std, norm


def _ranges(x: NDArray) -> Ranges:
    """(low, high) of every column; NaN where it has no value."""
    out = []
    for column in x.T:
        known = column[np.isfinite(column)]
        low, high = np.quantile(known, QUANTILES) if len(known) else (np.nan, np.nan)
        out.append((float(low), float(high)))
    return tuple(out)


def _number(x: float | None) -> float:
    return np.nan if x is None else float(x)


def _outside(what: str, x: NDArray, ranges: Ranges) -> list[OutOfRange]:
    """Where the medians of (N, C) values are far outside of their C ranges, the farthest first."""
    if not ranges:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of nothing but NaN
        given = np.nanmedian(x, 0)
    low, high = np.array(ranges).T
    mirrored = high < 0
    size, least, most = np.where(mirrored, (-given, -high, -low), (given, low, high))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        apart = np.maximum(low - given, given - high) / (SPANS * (high - low))
        ratio = np.maximum(least / size, size / most) / FACTOR
    ratio = np.where(size > 0, ratio, np.fmax(apart, NOTHING))
    distance = np.where(least > 0, ratio, np.where(high > low, apart, 0))  # what was always 0 is not read
    distance = np.where(np.isnan(given), 0, distance)
    order = [int(i) for i in np.argsort(-np.nan_to_num(distance), kind="stable") if distance[i] > 1]
    return [
        OutOfRange(what, None if what == NORM else i, float(given[i]), float(low[i]), float(high[i]), float(distance[i]))
        for i in order
    ]
