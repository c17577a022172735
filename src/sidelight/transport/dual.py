"""What both refinements of the potentials share: the kernel, the size of the gradient of the masses, and limits."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-15  # error of the normalised marginals in float64, which 1 / (1 - s) multiplies


def log_kernel(cost: Tensor, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
    return (f.unsqueeze(-1) + g.unsqueeze(-2) - cost).div_(epsilon)


def gradient_scale(a: Tensor, b: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """The mean size of the gradient of the masses, along masses that keep their sum."""
    return _mean_deviation(a, f) + _mean_deviation(b, g)


def _mean_deviation(weight: Tensor, z: Tensor) -> Tensor:
    return (weight * (z - (weight * z).sum(-1, keepdim=True)).abs()).sum(-1)


def fixed_noise(like: Tensor) -> Tensor:
    """Numbers without a pattern, the same at every call."""
    noise = torch.randn(like.shape[-1], generator=torch.Generator().manual_seed(0), dtype=like.dtype)
    return noise.to(like.device).expand_as(like)
