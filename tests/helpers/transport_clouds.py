"""Clouds and checks that the transport's tests share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from helpers.support import Noted, reference


def references(size: int) -> Noted:
    """What released implementations give on a batch of this size; skips the test where the file is not at hand."""
    return Noted({name: torch.from_numpy(np.asarray(value)) for name, value in reference(size).items()})


def clouds(
    n: int = 20, m: int | None = None, d: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, d, generator=generator, dtype=torch.float64)
    y = torch.rand(m or n, d, generator=generator, dtype=torch.float64) + 0.2
    return x.to(dtype), y.to(dtype)


def measured_error(plan: Tensor, a: Tensor | None = None, b: Tensor | None = None) -> float:
    a = torch.full_like(plan[..., 0], 1 / plan.shape[-2]) if a is None else a
    b = torch.full_like(plan[..., 0, :], 1 / plan.shape[-1]) if b is None else b
    rows = (plan.sum(-1) - a).abs().sum(-1).max()
    return max(rows.item(), (plan.sum(-2) - b).abs().sum(-1).max().item())
