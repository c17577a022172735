"""Pixels of images that are kept as they were stored: their moments, and what a network reads of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

CLIP = 10.0
VALUES_AT_ONCE = 2**24


def pixel_moments(x: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """(C,) mean and 1 / standard deviation over the rows that are there and their pixels that are not NaN, in float64.

    x: (N, C, H, W), or clips (N, C, T, H, W), of any type, read a few rows at a time. The scale of a (nearly) constant
    channel is 0.
    """
    channels = x.shape[1]
    n, total, squares = (torch.zeros(channels, dtype=torch.float64) for _ in range(3))
    for part in _parts(x, present):
        n += (~part.isnan()).sum((0, 2))
        total += part.nan_to_num(0).sum((0, 2))
    mean = total / n.clamp(min=1)
    for part in _parts(x, present):
        squares += (part - mean[:, None]).nan_to_num(0).square().sum((0, 2))
    std = (squares / n.clamp(min=1)).sqrt()
    constant = std <= 1e-6 * mean.abs().clamp(min=1e-6)
    return mean.float(), torch.where(constant, 0, 1 / std.clamp(min=1e-30)).float()


def _parts(x: Tensor, present: Tensor | None) -> Iterator[Tensor]:
    size = rows_at_once([x.shape[1:]])
    for i in range(0, len(x), size):
        part = x[i : i + size]
        yield (part if present is None else part[present[i : i + size]]).double().flatten(2)


def rows_at_once(shapes: Sequence[Sequence[int]], most: int = 1024) -> int:
    """How many rows of these shapes are worked on at a time: `most`, fewer of images."""
    values = sum(math.prod(shape) for shape in shapes)
    return max(1, min(most, VALUES_AT_ONCE // max(values, 1)))


def standardised(x: Tensor, mean: Tensor, scale: Tensor, present: Tensor | None = None) -> Tensor:
    """clip((x − mean) · scale) at ±10, 0 where a pixel is NaN or the row absent: floating point, of x's shape.

    x: (B, C, H, W), or clips (B, C, T, H, W), of any type. mean, scale: (C,) or (B, C). present: (B,) bool.
    """
    values = x if x.dtype in (torch.float32, torch.float64) else x.float()
    shape = (-1, mean.shape[-1], *[1] * (x.dim() - 2))
    values = (values - mean.to(values).view(shape)) * scale.to(values).view(shape)
    values = torch.where(values.isnan(), 0, values).clamp(-CLIP, CLIP)
    return values if present is None else values.masked_fill(~present.view(-1, *[1] * (x.dim() - 1)), 0)
