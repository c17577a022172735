"""Tokens and maps of different numbers or sizes: averages over stretches of time, interpolation, means."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def compute_stretch_weights(steps: int, tokens: int, length: Tensor) -> Tensor:
    """Weights (B, tokens, steps) that average the valid steps of each row over equal stretches.

    w[b, j, t] = |[t, t + 1) ∩ [j·L/K, (j + 1)·L/K)| · K/L with L = length[b] and K = tokens: a step that lies in two
    stretches counts in each for its share.

    Args:
        steps: T, the number of steps of a row, padding included.
        tokens: K.
        length: (B,) floating point, the valid steps of each row.

    Returns:
        (B, K, T). Every row of weights sums to 1, or to 0 where L = 0.
    """
    start = torch.arange(steps, dtype=length.dtype, device=length.device)
    stretch = length.view(-1, 1, 1) / tokens
    left = torch.arange(tokens, dtype=length.dtype, device=length.device).view(1, -1, 1) * stretch
    # How much of step t lies in stretch j, as a share of the step.
    overlap = torch.minimum(start + 1, left + stretch) - torch.maximum(start, left)
    return overlap.clamp(min=0) * (tokens / length.clamp(min=1)).view(-1, 1, 1)


def countable(x: Tensor) -> torch.dtype:
    """The type of x, but at least float32: half precision cannot count to 300."""
    return torch.promote_types(x.dtype, torch.float32)


def resample_tokens(x: Tensor, tokens: int) -> Tensor:
    """(B, T, D) -> (B, tokens, D) by averages over equal stretches; `x` itself where T already is `tokens`."""
    steps = x.shape[1]
    if steps == tokens:
        return x
    if steps == 1:
        return x.expand(-1, tokens, -1)
    if steps % tokens == 0:  # whole steps in each stretch: no weights needed
        return x.reshape(x.shape[0], tokens, steps // tokens, x.shape[2]).mean(2)
    weights = compute_stretch_weights(steps, tokens, x.new_full((1,), steps, dtype=countable(x)))
    return torch.matmul(weights.to(x.dtype), x)


def num_channels(shape: Sequence[int]) -> int:
    """D of features of shape (T, D) or (D, h, w)."""
    return int(shape[0] if len(shape) == 3 else shape[1])


def pool(x: Tensor) -> Tensor:
    """(B, D): a vector itself, the mean over the tokens of (B, T, D), or over the positions of a map (B, D, h, w)."""
    if x.dim() == 4:
        return x.mean((2, 3))
    return mean_token(x) if x.dim() == 3 else x


def mean_token(x: Tensor) -> Tensor:
    """The mean (B, D) over the tokens of (B, T, D); a single token as it is, which spares a small network time."""
    return x.squeeze(1) if x.shape[1] == 1 else x.mean(1)


def to_tokens(x: Tensor, tokens: int) -> Tensor:
    """(B, tokens, D) from tokens (B, T, D), or from a map (B, D, h, w), whose mean every token repeats."""
    return resample_tokens(pool(x).unsqueeze(1) if x.dim() == 4 else x, tokens)


def to_map(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, D, h, w) of the size (h, w): a map by bilinear interpolation; the mean of tokens at every position."""
    if x.dim() == 3:
        return pool(x)[:, :, None, None].expand(-1, -1, *size)
    if x.shape[2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
