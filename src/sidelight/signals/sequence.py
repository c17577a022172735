"""Sound as a sequence of log-mel frames, by operations that other runtimes have too."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sidelight.signals.spectrogram import Spectrogram, get_preset


def compute_sequence(x: Tensor, preset: str) -> Tensor:
    """The frames of sound: (B, T, C) samples -> (B, 1 + T // hop, C * mels).

    A row's frames do not depend on the zeros that pad it to the length of others. A graph for other runtimes gets the
    Fourier transform as a convolution, which all of them have; both ways agree to the rounding of float32.

    Args:
        x: sound at the rate of the preset; zeros after the end of shorter rows.
        preset: a name in `SEQUENCES`.
    """
    spectrogram = get_preset(preset)
    waves = x.transpose(1, 2)
    if torch.compiler.is_exporting():
        frames = _convolve(waves, preset)
    else:
        frames = spectrogram.compute(waves)
    return frames.flatten(1, 2).transpose(1, 2)


def count_frames(samples: Tensor, preset: str) -> Tensor:
    """The frames of rows of so many samples; none of an absent row, which has no samples."""
    return (1 + samples // get_preset(preset).hop) * (samples > 0)


def _convolve(waves: Tensor, preset: str) -> Tensor:
    """(B, C, T) -> (B, C, mels, frames), as `Spectrogram.compute`."""
    spectrogram = get_preset(preset)
    channels = waves.shape[1]
    half = spectrogram.window // 2
    padded = F.pad(waves.flatten(0, 1).unsqueeze(1), (half, half))
    kernel = torch.from_numpy(_waves(preset)).to(padded)
    parts = F.conv1d(padded, kernel, stride=spectrogram.hop).square()
    bins = spectrogram.length // 2 + 1
    power = parts[:, :bins] + parts[:, bins:]
    bands = torch.matmul(spectrogram.filters().to(power), power)
    decibel = bands.clamp(min=spectrogram.floor).log10() * 10
    return decibel.view(-1, channels, *decibel.shape[1:])


@lru_cache(maxsize=4)
def _waves(preset: str) -> NDArray[np.float32]:
    """(2 frequencies, 1, window) tapered cosines, then sines; numpy's, so that a graph holds their float32 values."""
    spectrogram: Spectrogram = get_preset(preset)
    taper = spectrogram.taper_weights()
    bins = np.arange(spectrogram.length // 2 + 1)[:, None]
    angle = 2 * math.pi * bins * np.arange(spectrogram.window) / spectrogram.length
    waves = np.concatenate([np.cos(angle), np.sin(angle)]) * taper
    return waves[:, None].astype(np.float32)
