"""Removes slow drift from each window of a signal, in operations that ONNX supports."""

from __future__ import annotations

import torch
from torch import Tensor

from sidelight.errors import ConfigError, unknown

KINDS = ("mean", "line", "difference")
"""What is removed: the window's mean, the straight line through it, or each step's predecessor."""


def check_detrend(m: str, kind: str, shape: tuple[int, ...]) -> None:
    """Raise ConfigError for an unknown kind, and for rows that are no signals.

    Args:
        m: name of the modality.
        kind: one of `KINDS`.
        shape: shape of one row.
    """
    if kind not in KINDS:
        raise ConfigError(unknown(f"value of detrend.{m}", kind, KINDS))
    if len(shape) != 2:
        raise ConfigError(f"detrend: rows of {m!r} have shape {shape}; only signals (T, C) have a drift over time")


def remove_drift(x: Tensor, kind: str, length: Tensor | None = None, gaps: bool = False) -> Tensor:
    """Remove the drift of every channel of every row; nothing but the row itself is read.

    "mean" subtracts the mean over the valid steps, "line" the least-squares line through them, and "difference" gives
    x[t] − x[t−1], with 0 at the first step, so that the number of steps stays.

    Args:
        x: (B, T, C) signals.
        kind: one of `KINDS`.
        length: (B,) valid time steps; None: all.
        gaps: whether NaN are gaps, which the drift is not computed from and which become 0.

    Returns:
        (B, T, C), 0 in padding and gaps.
    """
    time = torch.arange(x.shape[1], dtype=x.dtype, device=x.device).view(1, -1, 1)
    mask = torch.ones_like(x[:, :, :1])
    if length is not None:
        valid = time < length.view(-1, 1, 1)
        x, mask = x.masked_fill(~valid, 0), valid.to(x.dtype)  # padding may hold anything: 0 × infinity is NaN
    if gaps:
        missing = torch.isnan(x)
        x, mask = x.masked_fill(missing, 0), mask * (~missing).to(x.dtype)
    if kind == "difference":
        if x.shape[1] < 2:
            return x * 0
        steps = (x[:, 1:] - x[:, :-1]) * mask[:, 1:] * mask[:, :-1]
        return torch.cat([torch.zeros_like(x[:, :1]), steps], 1)
    n = mask.sum(1, keepdim=True).clamp(min=1)
    centred = (x - (x * mask).sum(1, keepdim=True) / n) * mask
    if kind == "mean":
        return centred
    time = (time - (time * mask).sum(1, keepdim=True) / n) * mask
    slope = (time * centred).sum(1, keepdim=True) / time.square().sum(1, keepdim=True).clamp(min=1e-6)
    return centred - slope * time
