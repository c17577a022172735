"""Losses between the distributions of two sets of rows."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_mmd(x: Tensor, y: Tensor, kernels: int = 5, factor: float = 2.0) -> Tensor:
    """Squared maximum mean discrepancy with a sum of Gaussian kernels (biased estimate).

    MMD² = mean K(x, x) + mean K(y, y) − 2 mean K(x, y), K = Σ_i exp(−d² / (b · factor^i)), i = 0 … kernels − 1, with
    b = (mean pairwise squared distance over x ∪ y, self excluded) / factor^(kernels // 2), without gradient.
    x: (B, D), y: (B', D). Returns a scalar ≥ 0, and 0 with a gradient of 0 where a set is empty or all rows of both
    are the same. Source: OS-MD (arXiv 2309.08204) eq. 2; Long et al. 2015.
    """
    z = torch.cat([x, y])
    n = len(z)
    if len(x) == 0 or len(y) == 0:
        return z.sum() * 0
    z = z - z.detach().mean(0)  # distances are the same, and lose fewer digits to cancellation
    squares = z.square().sum(1)
    distance = (squares[:, None] + squares[None] - 2 * z @ z.T).clamp(min=0)
    bandwidth = distance.detach().sum() / (n * n - n) / factor ** (kernels // 2)
    spread = bandwidth > 0
    scaled = distance / bandwidth.where(spread, bandwidth.new_ones(())) * spread
    k = torch.stack([torch.exp(-scaled / factor**i) for i in range(kernels)]).sum(0)
    a = len(x)
    return k[:a, :a].mean() + k[a:, a:].mean() - 2 * k[:a, a:].mean()
