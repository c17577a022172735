"""Removes the jitter of time stamps without closing gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHORTEST = 8
"""Fewest samples between two gaps to which a line is fitted."""


def find_gaps(times: NDArray, least: float = 1.0, steps: float = 2.0) -> NDArray[np.int64]:
    """Find where a recording was interrupted.

    Args:
        times: (T,) time stamps in seconds; the samples of a packet may share one.
        least: shortest gap in seconds.
        steps: shortest gap in usual steps from one stamp to the next.

    Returns:
        Number of the first sample after each gap, or after each jump back by as much.
    """
    step = np.diff(np.asarray(times, np.float64))
    moved = np.abs(step[step != 0])
    if not len(moved):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.abs(step) > max(least, steps * float(np.median(moved)))) + 1


def remove_jitter(times: NDArray, least: float = 1.0) -> tuple[NDArray[np.float64], float, int]:
    """Fit a line to the time stamps between two gaps, for a sensor that samples at a constant rate.

    Stamps that are taken when samples arrive jitter, and those of a packet are equal; the line through them is the
    clock of the sensor. Gaps stay as they are.

    Args:
        times: (T,) time stamps in seconds.
        least: shortest gap, as in `find_gaps`. Shorter ones are taken for jitter.

    Returns:
        times: (T,) without jitter.
        rate: samples per second outside of the gaps; 0 where fewer than two samples follow one another.
        gaps: number of gaps.
    """
    t = np.asarray(times, np.float64)
    gaps = find_gaps(t, least)
    out = t.copy()
    steps, seconds = 0, 0.0
    for first, end in zip([0, *gaps], [*gaps, len(t)], strict=True):
        n = end - first
        i = np.arange(n) - (n - 1) / 2
        centre = t[first:end].mean()
        slope = float((i @ (t[first:end] - centre)) / (i @ i)) if n > 1 else 0.0
        if n >= SHORTEST and slope > 0:
            out[first:end] = centre + slope * i
        steps, seconds = steps + n - 1, seconds + float(out[end - 1] - out[first])
    return out, steps / seconds if seconds > 0 else 0.0, len(gaps)


def usual_rate(times: NDArray) -> float:
    """Samples per second outside of gaps of more than one and a half usual steps; 0 where no two times differ."""
    t = np.asarray(times, np.float64)
    gaps = find_gaps(t, 0.0, 1.5)
    seconds = float(t[-1] - t[0] - (t[gaps] - t[gaps - 1]).sum()) if len(t) else 0.0
    return (len(t) - 1 - len(gaps)) / seconds if seconds > 0 else 0.0
