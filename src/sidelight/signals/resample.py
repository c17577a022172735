"""Resampling to another rate by a polyphase filter."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError

LARGEST = 100_000
"""Of the two whole numbers whose ratio the rates have; above it the filter would be too long to be meant."""


def resample(values: NDArray, rate: float, to: float, axis: int = 0) -> NDArray:
    """Values sampled at `rate` Hz as sampled at `to` Hz: ceil(T · to / rate) samples along `axis`.

    The signal is raised by p, low-passed (Kaiser window, β = 5) at the lower of the two Nyquist frequencies and lowered
    by q, p/q = to/rate; beyond its ends it goes on as the line through its first and last value, so that an offset
    makes no edge. float32 stays float32, other types become float64. Errors: ConfigError for rates whose ratio is not
    p/q of whole numbers up to 100 000, DataError for values that are empty or not finite.
    """
    from scipy.signal import resample_poly

    x = np.asarray(values)
    x = x if x.dtype == np.float32 else x.astype(np.float64)
    if not (0 < rate < np.inf and 0 < to < np.inf):
        raise ConfigError(f"resampling from {rate} Hz to {to} Hz; expected rates above 0")
    if not x.shape[axis] or not np.isfinite(x).all():
        raise DataError(f"resampling an array of shape {x.shape} that is empty or not finite; mend its values first")
    ratio = (Fraction(to).limit_denominator(10**6) / Fraction(rate).limit_denominator(10**6)).limit_denominator(LARGEST)
    if ratio.numerator > LARGEST or ratio == 0 or abs(float(ratio) * rate / to - 1) > 1e-9:
        raise ConfigError(f"{rate} Hz to {to} Hz is no ratio of whole numbers up to {LARGEST}; round one of the rates")
    if ratio == 1:
        return x
    return np.asarray(resample_poly(x, ratio.numerator, ratio.denominator, axis=axis, padtype="line"))
