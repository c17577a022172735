"""Mel filter banks: triangles that are evenly spaced on a scale of perceived pitch, as in torchaudio and librosa."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sidelight.errors import ConfigError, SidelightWarning, unknown

Scale = Literal["htk", "slaney"]
SCALES: tuple[Scale, ...] = ("htk", "slaney")
# Slaney: linear up to 1 kHz, 200/3 Hz a mel; then 27 mels for a factor of 6.4
LINEAR, BREAK, LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27


def hz_to_mel(hz: ArrayLike, scale: Scale = "htk") -> NDArray[np.float64]:
    """Convert frequencies in Hz to mels.

    "htk": 2595 log10(1 + f/700) (O'Shaughnessy 1987). "slaney": f / (200/3) up to 1 kHz, then 15 + 27 ln(f/1000) / ln
    6.4 (Auditory Toolbox, Slaney 1998).
    """
    f = np.asarray(hz, np.float64)
    if scale == "htk":
        return np.asarray(2595 * np.log10(1 + f / 700))
    _check(scale)
    above = BREAK / LINEAR + np.log(np.maximum(f, BREAK) / BREAK) / LOG_STEP
    return np.where(f < BREAK, f / LINEAR, above)


def mel_to_hz(mel: ArrayLike, scale: Scale = "htk") -> NDArray[np.float64]:
    """Convert mels to frequencies in Hz; the inverse of `hz_to_mel`."""
    m = np.asarray(mel, np.float64)
    if scale == "htk":
        return np.asarray(700 * (10 ** (m / 2595) - 1))
    _check(scale)
    return np.where(m < BREAK / LINEAR, m * LINEAR, BREAK * np.exp(LOG_STEP * (m - BREAK / LINEAR)))


def mel_filters(
    mels: int, n_fft: int, rate: float, low: float = 0.0, high: float | None = None, scale: Scale = "htk"
) -> Tensor:
    """Build triangular filters over the bins of a one-sided power spectrum.

    mels + 2 frequencies f_0 … are evenly spaced in mels from `low` to `high`. Filter m rises from 0 at f_m to 1 at
    f_{m+1} and falls to 0 at f_{m+2}. "slaney" divides each filter by its area (f_{m+2} − f_m) / 2, so that white noise
    is flat. A filter that contains no bin causes a warning.

    Args:
        mels: number of filters.
        n_fft: length of the transform.
        rate: sampling rate in Hz.
        low: lowest frequency in Hz.
        high: highest frequency in Hz; None: rate / 2.
        scale: "htk", torchaudio's default, or "slaney", librosa's.

    Returns:
        (mels, n_fft // 2 + 1) float32.

    Raises:
        ConfigError: no filter, an unknown scale, or frequencies out of order.
    """
    return torch.from_numpy(build_filters(mels, n_fft, rate, low, high, scale))


def build_filters(
    mels: int, n_fft: int, rate: float, low: float = 0.0, high: float | None = None, scale: Scale = "htk"
) -> NDArray[np.float32]:
    """`mel_filters` as an array, which a traced graph holds as a constant."""
    high = rate / 2 if high is None else high
    if mels < 1 or not 0 <= low < high <= rate / 2:
        raise ConfigError(
            f"{mels} mel filters from {low:g} to {high:g} Hz at a sampling rate of {rate:g} Hz; expected at least one, "
            f"and 0 <= low < high <= {rate / 2:g}"
        )
    edge = mel_to_hz(np.linspace(float(hz_to_mel(low, scale)), float(hz_to_mel(high, scale)), mels + 2), scale)[:, None]
    bins = np.arange(n_fft // 2 + 1) * rate / n_fft
    rise = (bins - edge[:-2]) / (edge[1:-1] - edge[:-2])
    fall = (edge[2:] - bins) / (edge[2:] - edge[1:-1])
    # Both slopes meet at 1 in the center of the triangle; outside of it the lower one is negative.
    filters = np.maximum(0, np.minimum(rise, fall))
    if empty := int((filters.max(1) == 0).sum()):
        warnings.warn(
            f"{empty} of {mels} mel filters lie between two bins {rate / n_fft:g} Hz apart and are always 0; "
            "take fewer filters or a larger n_fft",
            SidelightWarning,
            stacklevel=2,
        )
    if scale == "slaney":
        filters *= 2 / (edge[2:] - edge[:-2])
    return filters.astype(np.float32)


def _check(scale: str) -> None:
    if scale not in SCALES:
        raise ConfigError(unknown("mel scale", scale, SCALES))
