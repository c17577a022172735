"""What a network reads of images that are kept as they were stored, and how many are worked on at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

CLIP = 10.0
VALUES_AT_ONCE = 2**24


def compute_chunk_size(shapes: Sequence[Sequence[int]], most: int = 1024) -> int:
    """How many rows of these shapes are worked on at a time: `most`, fewer of images."""
    values = sum(math.prod(shape) for shape in shapes)
    return max(1, min(most, VALUES_AT_ONCE // max(values, 1)))


def standardize_images(x: Tensor, mean: Tensor, scale: Tensor, present: Tensor | None = None) -> Tensor:
    """clip((x − mean) · scale) at ±10, 0 where a pixel is NaN or the row absent: floating point, of x's shape.

    x: (B, C, H, W), or clips (B, C, T, H, W), of any type. mean, scale: (C,) or (B, C). present: (B,) bool.
    """
    values = x if x.dtype in (torch.float32, torch.float64) else x.float()
    shape = (-1, mean.shape[-1], *[1] * (x.dim() - 2))
    values = (values - mean.to(values).view(shape)) * scale.to(values).view(shape)
    values = torch.where(values.isnan(), 0, values).clamp(-CLIP, CLIP)
    return values if present is None else values.masked_fill(~present.view(-1, *[1] * (x.dim() - 1)), 0)
