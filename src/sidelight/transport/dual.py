"""What both refinements of the potentials share: the kernel, the size of the gradient of the masses, and limits."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-15  # error of the normalised marginals in float64, which 1 / (1 - s) multiplies


def log_kernel(cost: Tensor, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
    """Exponents ``(f_i + g_j - C_ij) / epsilon`` of the kernel.

    Args:
        cost: costs (..., n, m).
        f: potentials of the rows (..., n).
        g: potentials of the columns (..., m).
        epsilon: regularisation strength in units of the cost.

    Returns:
        (..., n, m).
    """
    return (f.unsqueeze(-1) + g.unsqueeze(-2) - cost).div_(epsilon)


def gradient_scale(a: Tensor, b: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """The mean size of the gradient of the masses, along changes that keep the total mass.

    Args:
        a: masses of the rows (..., n).
        b: masses of the columns (..., m).
        f: potentials of the rows (..., n), the gradient of ``a``.
        g: potentials of the columns (..., m), the gradient of ``b``.

    Returns:
        One number for each problem, (...).
    """
    return _mean_deviation(a, f) + _mean_deviation(b, g)


def _mean_deviation(weight: Tensor, z: Tensor) -> Tensor:
    """The mean absolute deviation of ``z`` (..., n) from its mean under the masses ``weight``."""
    return (weight * (z - (weight * z).sum(-1, keepdim=True)).abs()).sum(-1)


def fixed_noise(like: Tensor) -> Tensor:
    """Pseudo-random numbers of the shape of ``like``, the same at every call."""
    noise = torch.randn(like.shape[-1], generator=torch.Generator().manual_seed(0), dtype=like.dtype)
    return noise.to(like.device).expand_as(like)
