"""Resamples signals to another rate with a polyphase filter."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError

LARGEST = 100_000
"""Largest p and q of the ratio p/q of two rates; beyond it the filter would be absurdly long."""


def resample(values: NDArray, rate: float, to: float, axis: int = 0) -> NDArray:
    """Resample a signal.

    With p/q = to/rate, the signal is upsampled by p, low-passed (Kaiser window, β = 5) at the lower of the two Nyquist
    frequencies, and downsampled by q. Beyond its ends it continues as the line through its first and last value, so
    that an offset makes no edge.

    Args:
        values: the signal, with T samples along `axis`.
        rate: its sampling rate in Hz.
        to: the new sampling rate in Hz.
        axis: of time.

    Returns:
        The signal with ceil(T · to / rate) samples along `axis`; float32 stays float32, other types become float64.

    Raises:
        ConfigError: rates whose ratio is not p/q with whole numbers up to 100 000.
        DataError: values that are empty or not finite.
    """
    from scipy.signal import resample_poly

    x = np.asarray(values)
    x = x if x.dtype == np.float32 else x.astype(np.float64)
    if not (0 < rate < np.inf and 0 < to < np.inf):
        raise ConfigError(f"resampling from {rate} Hz to {to} Hz; expected rates above 0")
    if not x.shape[axis] or not np.isfinite(x).all():
        raise DataError(f"resampling an array of shape {x.shape} that is empty or not finite; mend its values first")
    # Rates such as 29.97 are rounded to a millionth first; their ratio is then exact.
    ratio = (Fraction(to).limit_denominator(10**6) / Fraction(rate).limit_denominator(10**6)).limit_denominator(LARGEST)
    if ratio.numerator > LARGEST or ratio == 0 or abs(float(ratio) * rate / to - 1) > 1e-9:
        raise ConfigError(f"{rate} Hz to {to} Hz is no ratio of whole numbers up to {LARGEST}; round one of the rates")
    if ratio == 1:
        return x
    return np.asarray(resample_poly(x, ratio.numerator, ratio.denominator, axis=axis, padtype="line"))
