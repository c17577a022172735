"""Standardization of images that keep their stored dtype, and the number of rows to process at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

CLIP = 10.0
"""Standardized values are clipped at plus and minus this number of standard deviations."""
VALUES_AT_ONCE = 2**24
"""Values that are held in floating point at a time: 64 MiB of float32."""


def compute_chunk_size(shapes: Sequence[Sequence[int]], most: int = 1024) -> int:
    """How many rows of these shapes are processed at a time: at most `most`, fewer if they are large."""
    values = sum(map(math.prod, shapes))
    return max(1, min(most, VALUES_AT_ONCE // max(values, 1)))


def standardize_images(x: Tensor, mean: Tensor, scale: Tensor, present: Tensor | None = None) -> Tensor:
    """clip((x − mean) · scale) at ±10, with 0 for NaN pixels and absent rows.

    Args:
        x: (B, C, H, W) images or (B, C, T, H, W) clips of any dtype.
        mean: (C,) or (B, C).
        scale: (C,) or (B, C), 1 / standard deviation.
        present: (B,) bool; None: all rows are present.

    Returns:
        Floating point values of the shape of `x`.
    """
    values = x if x.dtype in (torch.float32, torch.float64) else x.float()
    shape = (-1, mean.shape[-1], *[1] * (x.dim() - 2))
    values = (values - mean.to(values).view(shape)) * scale.to(values).view(shape)
    values = torch.where(values.isnan(), 0, values).clamp(-CLIP, CLIP)
    if present is None:
        return values
    return values.masked_fill(~present.view(-1, *[1] * (x.dim() - 1)), 0)
