"""Window statistics: a parameter-free map from a signal to a vector, in operations that ONNX supports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import ConfigError, unknown

STANDARD = ("moments", "range", "change", "trend", "quartiles", "spectrum", "magnitude")
BINS = 8
"""Number of frequencies in a spectrum."""


# Each part maps x (B, T, C), mask (B, T, 1) and n (B, 1), the number of valid steps, to (B, C, values).


def _moments(x: Tensor, mask: Tensor, n: Tensor) -> Tensor:
    mean = (x * mask).sum(1) / n
    return torch.stack([mean, _std(x, mask, n)], -1)


def _std(x: Tensor, mask: Tensor, n: Tensor) -> Tensor:
    centred = (x - ((x * mask).sum(1) / n)[:, None]) * mask
    return (centred.square().sum(1) / n).sqrt()


def _range(x: Tensor, mask: Tensor, n: Tensor) -> Tensor:
    # Padding must win neither the minimum nor the maximum.
    low = x.masked_fill(mask == 0, math.inf).amin(1)
    high = x.masked_fill(mask == 0, -math.inf).amax(1)
    return torch.stack([low, high], -1)


def _change(x: Tensor, mask: Tensor, n: Tensor) -> Tensor:
    """Mean absolute and standard deviation of the differences between neighbouring steps."""
    if x.shape[1] < 2:
        return x.new_zeros(x.shape[0], x.shape[2], 2)
    step, both = x[:, 1:] - x[:, :-1], mask[:, 1:]
    pairs = (n - 1).clamp(min=1)
    return torch.stack([(step.abs() * both).sum(1) / pairs, _std(step, both, pairs)], -1)


def _trend(x: Tensor, mask: Tensor, n: Tensor) -> Tensor:
    """Slope of the line through the signal, as the change over the whole window."""
    time = torch.arange(x.shape[1], dtype=x.dtype, device=x.device).view(1, -1, 1)
    time = (time - (n[:, None] - 1) / 2) * mask
    slope = (time * x).sum(1) / time.square().sum(1).clamp(min=1e-6)
    return (slope * n).unsqueeze(-1)


def _quartiles(x: Tensor, mask: Tensor, n: Tensor) -> Tensor:
    """The values at a quarter, a half and three quarters of the sorted valid steps (lower neighbour).

    Uses topk of the lower three quarters, since some runtimes lack a sort (ExecuTorch).
    """
    needed = 1 + 3 * (x.shape[1] - 1) // 4
    ordered = x.masked_fill(mask == 0, math.inf).topk(needed, dim=1, largest=False, sorted=True).values
    picks = []
    for q in (0.25, 0.5, 0.75):
        at = (q * (n - 1)).floor().long().expand(-1, x.shape[2])
        picks.append(ordered.gather(1, at[:, None])[:, 0])
    return torch.stack(picks, -1)


@lru_cache(maxsize=64)
def _circle(window: int, double: bool) -> NDArray:
    """(2, window) cosines and sines of one cycle in `window` steps, computed in float64.

    Computed outside of torch, so that a traced graph holds their float32 values and no float64 operation.
    """
    angle = 2 * math.pi * np.arange(window) / window
    return np.stack([np.cos(angle), np.sin(angle)]).astype(np.float64 if double else np.float32)


def _waves(steps: int, window: int, bins: int, like: Tensor) -> Tensor:
    """(2 bins, steps) cosines, then sines, of 1 to `bins` cycles in `window` steps."""
    # Cycle k at step t is a point of the one circle, so sines are computed for one cycle only.
    circle = torch.from_numpy(_circle(window, like.dtype == torch.float64)).to(like)
    place = torch.arange(1, bins + 1, device=like.device)[:, None] * torch.arange(steps, device=like.device) % window
    return torch.cat([circle[0][place], circle[1][place]])


def _spectrum(x: Tensor, mask: Tensor, n: Tensor, window: int, bins: int = BINS) -> Tensor:
    """log(1 + amplitude) of the lowest `bins` frequencies (k cycles in `window` steps) of the centred signal."""
    centred = (x - ((x * mask).sum(1) / n)[:, None]) * mask
    wave = _waves(x.shape[1], window, bins, x)
    parts = torch.einsum("kt,btc->bck", wave, centred) * (2 / n.unsqueeze(-1))
    amplitude = (parts[..., :bins].square() + parts[..., bins:].square()).sqrt()
    return torch.log1p(amplitude)


_SIMPLE = {
    "moments": _moments,
    "range": _range,
    "change": _change,
    "trend": _trend,
    "quartiles": _quartiles,
}
PARTS = (*_SIMPLE, "spectrum", "magnitude")


_WIDTHS = {"moments": 2, "range": 2, "change": 2, "trend": 1, "quartiles": 3, "spectrum": BINS}
"""Number of values per channel in each part."""


def statistics_width(channels: int, parts: Sequence[str]) -> int:
    """D, the length of the vectors that `window_statistics` returns for signals with this many channels.

    Raises ConfigError for an unknown part.
    """
    _check_parts(parts)
    per_channel = sum(_WIDTHS.get(part, 0) for part in parts)
    # The norm over channels counts as one more channel.
    return (channels + ("magnitude" in parts and channels > 1)) * per_channel


def _check_parts(parts: Sequence[str]) -> None:
    for part in parts:
        if part not in PARTS:
            raise ConfigError(unknown("window statistic", part, PARTS))


def window_statistics(
    x: Tensor, length: Tensor | None = None, parts: Sequence[str] = STANDARD, window: int | None = None
) -> Tensor:
    """Compute window statistics of signals; padding does not change them.

    Args:
        x: (B, T, C) signals.
        length: (B,) valid time steps; None: all.
        parts: any of "moments" (mean, standard deviation), "range" (minimum, maximum), "change" (mean absolute value
            and standard deviation of the differences), "trend", "quartiles", "spectrum" (the 8 lowest frequencies), and
            "magnitude", which adds the norm over channels as one more channel.
        window: time steps of a full window, if `x` is shorter or padded longer; None: T.

    Returns:
        (B, D) vectors.

    Raises:
        ConfigError: an unknown part.
    """
    _check_parts(parts)
    if "magnitude" in parts and x.shape[2] > 1:
        x = torch.cat([x, x.square().sum(2, keepdim=True).sqrt()], 2)
    if length is None:
        mask = torch.ones_like(x[:, :, :1])
    else:
        # An absent row has length 0; one step avoids a division by 0, and the row is blanked later.
        steps = torch.arange(x.shape[1], device=x.device)
        mask = (steps[None] < length.clamp(min=1)[:, None]).to(x.dtype).unsqueeze(-1)
    n = mask.sum(1)
    values = [_SIMPLE[part](x, mask, n) for part in parts if part in _SIMPLE]
    if "spectrum" in parts:
        values.append(_spectrum(x, mask, n, window or x.shape[1]))
    return torch.cat(values, -1).flatten(1)
