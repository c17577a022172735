"""Zero-phase filters that need nothing but scipy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError


def bandpass(
    values: NDArray, rate: float, low: float | None, high: float | None, order: int = 4, axis: int = 0
) -> NDArray:
    """Filter a signal with a Butterworth filter, run forwards and backwards.

    Nothing is delayed, and the edges are at −6 dB. The filter looks ahead: use it for recorded signals, not for a
    student that reads a live one.

    Args:
        values: the signal.
        rate: sampling rate in Hz.
        low: lower edge in Hz; None: low-pass.
        high: upper edge in Hz; None: high-pass.
        order: of the filter.
        axis: of time.

    Returns:
        The filtered signal; float32 stays float32, other types become float64.

    Raises:
        ConfigError: edges that are not 0 < low < high < rate / 2.
        DataError: a signal that is too short or not finite.
    """
    from scipy.signal import butter, sosfiltfilt

    edges = [e for e in (low, high) if e is not None]
    if not 0 < rate < math.inf or order < 1:
        raise ConfigError(f"a filter of order {order} at {rate} Hz; expected a rate above 0 and an order of at least 1")
    if not edges or not all(0 < e < rate / 2 for e in edges) or edges != sorted(set(edges)):
        raise ConfigError(f"a band of {low} to {high} Hz at {rate:g} Hz; expected 0 < low < high < {rate / 2:g}")
    x = np.asarray(values)
    if x.dtype.kind not in "fiub":
        raise DataError(f"the signal to be filtered is {x.dtype}; expected numbers")
    if not np.isfinite(x).all():
        raise DataError(
            "the signal to be filtered is not finite; a filter would spread that over all of it: mend it first"
        )
    kind = "bandpass" if len(edges) == 2 else "highpass" if high is None else "lowpass"
    sos = butter(order, edges if len(edges) == 2 else edges[0], kind, fs=rate, output="sos")
    # The padding of `sosfiltfilt`, by which it needs more samples than that.
    least = 3 * (2 * len(sos) + 1)
    if x.shape[axis] <= least:
        raise DataError(f"a signal of {x.shape[axis]} samples; this filter needs more than {least}")
    return np.asarray(sosfiltfilt(sos, x, axis=axis), np.float32 if x.dtype == np.float32 else np.float64)


def envelope(values: NDArray, rate: float, cutoff: float = 5.0, axis: int = 0) -> NDArray:
    """Compute how strong a signal is over time: |x|, low-passed at `cutoff`.

    Band-pass EMG first (20 Hz to just below 450 Hz or rate / 2); otherwise its offset is rectified too.

    Args:
        values: the signal.
        rate: sampling rate in Hz.
        cutoff: in Hz.
        axis: of time.

    Returns:
        The envelope, in the signal's unit.
    """
    # The filter overshoots below zero at steep falls.
    return np.asarray(np.maximum(bandpass(np.abs(values), rate, None, cutoff, order=2, axis=axis), 0))
