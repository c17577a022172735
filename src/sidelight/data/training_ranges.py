"""The ranges of the training rows in their own unit, and whether new rows are far outside of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.001, 0.999)
NEW_ROWS, ROWS, VALUES, PER_ROW = 512, 2**15, 2**23, 1024
"""The most new rows, training rows, values of all rows, and time steps or pixels of a row that are measured."""
FACTOR, SPANS = 3.0, 1.0
"""Far outside: this many times below or above a range of one sign, this many of its widths beyond one of both signs."""
ALONE = 30.0
"""A single column of a vector is reported on its own only at this many times the usual distance."""
NOTHING = 1.5
"""The least distance of 0 from a range of one sign: many sensors report 0 now and then."""
SHARE = 0.2
"""The share of a vector's columns that has to be far outside."""
SEVERAL, COLLAPSED = 20, 0.01
"""From this many rows on, most columns of a vector have to vary by more than this share of the range."""
NORM = "norm over the channels"

Ranges = tuple[tuple[float, float], ...]
"""(low, high) of every channel."""


@dataclass(frozen=True)
class OutOfRange:
    """A quantity of new rows that is far outside of its training range.

    Args:
        what: the quantity, such as "mean".
        channel: its number; None: all channels together.
        given: the median over the new rows.
        low: lower end of the training range.
        high: upper end of the training range.
        distance: from 1 on it is far outside.
    """

    what: str
    channel: int | None
    given: float
    low: float
    high: float
    distance: float


@dataclass(frozen=True)
class TrainingRanges:
    """Ranges (0.1 % and 99.9 % quantiles) over the training rows of one modality, in the unit of the stored values.

    Args:
        values: range of the values of every channel (every column of a vector).
        levels: range of the rows' means of every channel; () for vectors.
        spreads: range of the rows' standard deviations of every channel; () for vectors.
        norm: range of the rows' mean norm over channels; () for vectors, images and single channels.
    """

    values: Ranges
    levels: Ranges = ()
    spreads: Ranges = ()
    norm: Ranges = ()

    @classmethod
    def fit(cls, x: NDArray, length: NDArray | None, present: NDArray | None = None) -> TrainingRanges:
        """Measure training rows, or those that `choose_rows` chose.

        Args:
            x: (N, D), (N, T, C), (N, C, H, W) or (N, C, T, H, W).
            length: (N,) valid time steps of signals; None: all.
            present: (N,) bool, at least one of them true; None: all rows are present.
        """
        rows = choose_rows(np.arange(len(x)) if present is None else np.flatnonzero(present), x.shape, ROWS)
        values, levels, spreads, norm = _measure(x[rows], None if length is None else length[rows])
        return cls(_compute_ranges(values), _compute_ranges(levels), _compute_ranges(spreads), _compute_ranges(norm))

    def find_out_of_range(
        self, x: NDArray, length: NDArray | None = None, present: NDArray | None = None
    ) -> list[OutOfRange]:
        """The quantities of these rows that are far outside the training ranges, the farthest first.

        Each quantity's median over the rows is compared with its range, so a few odd rows among many do not count. For
        signals and images the quantities are the rows' means and standard deviations of every channel and the mean norm
        over channels. For vectors they are the columns, of which many have to be outside, or one by much.

        Args:
            x: (N, …) rows as for `fit`.
            length: (N,) valid time steps; None: all.
            present: (N,) bool; None: all rows are present.

        Returns:
            An empty list for ordinary rows.
        """
        candidates = np.arange(len(x)) if present is None else np.flatnonzero(present)
        rows = choose_rows(candidates, x.shape, NEW_ROWS)
        if not len(rows):
            return []
        values, levels, spreads, norm = _measure(x[rows], None if length is None else length[rows])
        if x.ndim == 2:
            outside = _compare("value", values, self.values)
            if len(outside) <= SHARE * len(self.values):
                outside = [o for o in outside if o.distance > ALONE]
            return outside or self._find_collapsed(values)

        outside = _compare("mean", levels, self.levels)
        outside += _compare("standard deviation", spreads, self.spreads)
        outside += _compare(NORM, norm, self.norm)
        return sorted(outside, key=lambda o: -o.distance)

    def _find_collapsed(self, x: NDArray) -> list[OutOfRange]:
        """The columns that hardly vary although they did in training, where these are most columns of several rows."""
        low, high = np.array(self.values).T
        known = (high > low) & ~np.isnan(x).all(0)
        if len(x) < SEVERAL or not known.any():
            return []
        spread = np.nanmax(x[:, known], 0) - np.nanmin(x[:, known], 0)
        collapsed = np.flatnonzero(known)[spread <= COLLAPSED * (high - low)[known]]
        if 2 * len(collapsed) <= known.sum():
            return []
        # The numbers are those of the first column; the others only add to the count.
        first = collapsed[0]
        given = float(np.nanmax(x[:, first]) - np.nanmin(x[:, first]))
        width = float(high[first] - low[first])
        return [OutOfRange("range over the rows", int(c), given, width, width, 1.0) for c in collapsed]

    def to_config(self) -> dict[str, Any]:
        """The ranges as JSON-able values, NaN as null; `from_config` reads them."""
        config = {}
        for name, ranges in vars(self).items():
            if ranges:
                config[name] = [[_to_json(low), _to_json(high)] for low, high in ranges]
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None) -> TrainingRanges | None:
        """Read what `to_config` wrote; None for files of earlier versions, which have no ranges."""
        if not config:
            return None
        ranges = {}
        for name, pairs in config.items():
            ranges[name] = tuple((_from_json(low), _from_json(high)) for low, high in pairs)
        return cls(**ranges)


def _to_json(x: float) -> float | None:
    return x if np.isfinite(x) else None


def _from_json(x: float | None) -> float:
    return np.nan if x is None else float(x)


def choose_rows(rows: NDArray, shape: tuple[int, ...], most: int) -> NDArray:
    """At most `most` of the row numbers, evenly spaced; fewer of large rows, (N, …) of them in this shape."""
    if len(shape) == 3:
        size = min(shape[1], PER_ROW) * shape[2]
    else:
        size = shape[1] * min(int(np.prod(shape[2:])), PER_ROW)
    count = max(min(most, VALUES // max(size, 1)), 32)
    if len(rows) <= count:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, count).round().astype(int)])


def _measure(x: NDArray, length: NDArray | None) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """(·, C) values, (N, C) means and (N, C) standard deviations of rows, (N, 1) mean norms; NaN is left out."""
    if x.ndim == 2:
        return x.astype(np.float64), x[:, :0], x[:, :0], x[:, :0]
    image = x.ndim >= 4
    if image:
        # Pixels take the place of time steps: (N, pixels, C).
        x = np.moveaxis(x.reshape(*x.shape[:2], -1), 1, 2)
    steps = np.arange(0, x.shape[1], -(-x.shape[1] // PER_ROW))
    x = x[:, steps].astype(np.float64)
    if length is not None:
        x = np.where((steps < length[:, None])[:, :, None], x, np.nan)

    valid = ~np.isnan(x)
    n = valid.sum(1)
    n = np.where(n, n, np.nan)  # a row without values has no mean
    filled = np.where(valid, x, 0)
    mean = filled.sum(1) / n
    std = np.sqrt(np.where(valid, (x - mean[:, None]) ** 2, 0).sum(1) / n)

    norm = np.zeros((len(x), 0))
    if not image and x.shape[2] > 1:
        complete = valid.all(2)
        size = np.sqrt((filled**2).sum(2))
        count = complete.sum(1)
        norm = (np.where(complete, size, 0).sum(1) / np.where(count, count, np.nan))[:, None]
    return x.reshape(-1, x.shape[2]), mean, std, norm


def _compute_ranges(x: NDArray) -> Ranges:
    """(low, high) of every column; NaN for a column without values."""
    ranges = []
    for column in x.T:
        known = column[np.isfinite(column)]
        low, high = np.quantile(known, QUANTILES) if len(known) else (np.nan, np.nan)
        ranges.append((float(low), float(high)))
    return tuple(ranges)


def _compare(what: str, x: NDArray, ranges: Ranges) -> list[OutOfRange]:
    """The columns of (N, C) values whose median is far outside of their range, the farthest first."""
    if not ranges:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of nothing but NaN
        given = np.nanmedian(x, 0)
    low, high = np.array(ranges).T
    # A negative range is mirrored, so that ratios are those of positive numbers.
    mirrored = high < 0
    size, least, most = np.where(mirrored, (-given, -high, -low), (given, low, high))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        apart = np.maximum(low - given, given - high) / (SPANS * (high - low))
        ratio = np.maximum(least / size, size / most) / FACTOR
    ratio = np.where(size > 0, ratio, np.fmax(apart, NOTHING))
    # Ranges of one sign are compared by ratio, others by width. A column that was always 0 is not read.
    distance = np.where(least > 0, ratio, np.where(high > low, apart, 0))
    distance = np.where(np.isnan(given), 0, distance)

    outside = []
    for i in np.argsort(-np.nan_to_num(distance), kind="stable").tolist():
        if distance[i] > 1:
            channel = None if what == NORM else i
            outside.append(
                OutOfRange(what, channel, float(given[i]), float(low[i]), float(high[i]), float(distance[i]))
            )
    return outside
