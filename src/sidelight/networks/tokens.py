"""Tokens of a different number: averages over equal stretches of time."""

from __future__ import annotations

import torch
from torch import Tensor


def stretches(steps: int, tokens: int, length: Tensor) -> Tensor:
    """Weights (B, tokens, steps) that average the valid steps of each row over `tokens` equal stretches.

    w[b, j, t] = |[t, t + 1) ∩ [j·L/K, (j + 1)·L/K)| · K/L with L = length[b] and K = tokens: a step that lies in two
    stretches counts in each for its share. Every row of weights sums to 1, or to 0 where L = 0.

    Args:
        steps: T, how many steps a row has, padding included.
        tokens: K.
        length: (B,) floating point, the valid steps of each row.
    """
    start = torch.arange(steps, dtype=length.dtype, device=length.device)
    stretch = length.view(-1, 1, 1) / tokens
    left = torch.arange(tokens, dtype=length.dtype, device=length.device).view(1, -1, 1) * stretch
    overlap = torch.minimum(start + 1, left + stretch) - torch.maximum(start, left)
    return overlap.clamp(min=0) * (tokens / length.clamp(min=1)).view(-1, 1, 1)


def resample(x: Tensor, tokens: int) -> Tensor:
    """(B, T, D) -> (B, tokens, D) by averages over equal stretches; nothing is done where T already is `tokens`."""
    steps = x.shape[1]
    if steps == tokens:
        return x
    if steps == 1:
        return x.expand(-1, tokens, -1)
    if steps % tokens == 0:
        return x.reshape(x.shape[0], tokens, steps // tokens, x.shape[2]).mean(2)
    return torch.matmul(stretches(steps, tokens, x.new_full((1,), steps)), x)
