"""A recording on evenly spaced times, with the samples that were not measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.signals.recording import Recording
from sidelight.signals.resample import resample
from sidelight.signals.stamps import remove_jitter

PERIODS = 3.0
"""Longest gap that is bridged by default, in sample periods."""
CLOCK = 0.01
"""Largest difference of two rates, as a share, that is one of clocks: then times decide, and nothing is filtered."""

MEASURED = 5e-4
"""Largest difference of a rate from a whole number, as a share, that is one of measurement (29.97 Hz is not)."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Evenly spaced samples.

    Args:
        values: (T, C) float32.
        rate: in Hz.
        start: time of the first sample in seconds.
        holes: (T + 1,) number of samples before each that fall into a gap; None: there is no gap.
    """

    values: NDArray[np.float32]
    rate: float
    start: float
    holes: NDArray[np.int64] | None = None

    @property
    def end(self) -> float:
        """Time in seconds at which the next sample would come."""
        return self.start + len(self.values) / self.rate

    def is_whole(self, first: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
        """(N,) whether no sample of a window falls into a gap.

        Args:
            first: (N,) the windows' first samples, from 0 to T.
            width: their number of samples.
        """
        if self.holes is None:
            return np.ones(len(first), bool)
        end = (first + width).clip(0, len(self.values))
        return np.asarray(self.holes[end] == self.holes[first])


def choose_rate(recording: Recording, resample_to: float) -> float:
    """The rate of a sensor's windows in Hz: as asked for, or the recording's; a measured rate is rounded.

    Raises:
        DataError: samples at no fixed rate, and none is asked for.
    """
    rate = resample_to or recording.rate
    if not rate:
        raise DataError(
            f"{recording.name} comes at no fixed rate; name the rate of its windows and the longest time between two "
            "of its samples that may be bridged (resample_to: 4, largest_gap: 3)"
        )
    if resample_to:
        return rate
    # Measured clocks are a little off; the windows of every session need one rate.
    whole, off = round(rate), CLOCK if recording.times is not None else MEASURED
    if whole and abs(rate / whole - 1) < off:
        return float(whole)
    return rate if recording.times is None else float(f"{rate:.3g}")


def to_grid(recording: Recording, rate: float, largest_gap: float) -> Grid:
    """Put a recording on evenly spaced times, by its measured times.

    Args:
        recording: with a rate or with time stamps.
        rate: of the grid in Hz.
        largest_gap: longest time in seconds between two samples that is bridged by a straight line; 0: three periods.

    Raises:
        DataError: samples at no fixed rate, without `largest_gap`.
    """
    values, start = recording.values, recording.start
    there: NDArray[np.bool_] | None = None
    have = recording.rate
    if recording.times is not None:
        values, have, there, start = _interpolate(recording, rate, largest_gap)
    elif have != rate and abs(have / rate - 1) < CLOCK:
        values, have, there, start = _interpolate(replace(recording, times=_times(recording)), rate, largest_gap)
    if have != rate:
        values = resample(values, have, rate)
        there = None if there is None else _resample_mask(there, have, rate, len(values))
    values = np.ascontiguousarray(values, np.float32)
    if there is None or there.all():
        return Grid(values, rate, start)
    return Grid(values, rate, start, np.append(0, np.cumsum(~there)))


def _times(recording: Recording) -> NDArray[np.float64]:
    return recording.start + np.arange(len(recording.values)) / recording.rate


def _resample_mask(there: NDArray[np.bool_], rate: float, to: float, count: int) -> NDArray[np.bool_]:
    """(count,) whether every sample that a new one is made of was measured."""
    if there.all():
        return np.ones(count, bool)
    missing = np.concatenate([[0], np.cumsum(~there)])
    centre, half = np.arange(count) * rate / to, max(1.0, rate / to / 2)
    first = np.floor(centre - half).astype(np.int64).clip(0, len(there))
    end = (np.ceil(centre + half).astype(np.int64) + 1).clip(0, len(there))
    return np.asarray(missing[end] == missing[first])


def _interpolate(
    recording: Recording, target: float, largest_gap: float
) -> tuple[NDArray, float, NDArray[np.bool_], float]:
    """(values, rate, whether each sample was measured, start) on a grid, at the target rate or one that is filtered."""
    t = recording.times
    assert t is not None
    if recording.rate:
        least = largest_gap or PERIODS / recording.rate
        steps = np.diff(t)
        # The samples of a packet share one stamp, so that the steps are those of packets.
        bridge = max(least, 1.5 * float(np.median(steps[steps > 0]))) if (steps > 0).any() else least
        t, found, _ = remove_jitter(t, bridge)
        near = abs((found or recording.rate) / target - 1) < CLOCK
        rate = target if near else recording.rate
    else:
        if not largest_gap:
            raise DataError(
                f"{recording.name} comes at no fixed rate; name the longest time between two of its samples that may "
                "be bridged (largest_gap: 3)"
            )
        rate, bridge = target, largest_gap
    grid = t[0] + np.arange(int(np.floor((t[-1] - t[0]) * rate + 1e-6)) + 1) / rate
    if len(t) == 1:
        return recording.values[:1], rate, np.ones(1, bool), float(t[0])
    right = np.searchsorted(t, grid, "right").clip(1, len(t) - 1)
    left = right - 1
    nearest = np.minimum(np.abs(grid - t[left]), np.abs(grid - t[right]))
    there = (t[right] - t[left] <= bridge) | (nearest <= 0.5 / rate)
    return np.stack([np.interp(grid, t, c) for c in recording.values.T], 1), rate, there, float(t[0])
