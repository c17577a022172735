"""Means and standard deviations of what is there, by column or channel."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sidelight.data.pixels import rows_at_once


def mask(f: Tensor, length: Tensor | None, present: Tensor | None) -> Tensor | None:
    """Bool that broadcasts over f: what is there; None if everything is."""
    shape = (-1, *[1] * (f.dim() - 1))
    keep = None if present is None else present.view(shape)
    if length is not None:
        valid = (torch.arange(f.shape[1], device=f.device)[None] < length[:, None]).unsqueeze(-1)
        keep = valid if keep is None else keep & valid
    return keep


def moments(f: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation of every last-axis column over what is kept and not NaN, summed in float64.

    The scale of a (nearly) constant column is 0: it tells nothing, and must not blow up on new rows.
    """
    x = f.double()
    valid = ~torch.isnan(x) if keep is None else ~torch.isnan(x) & keep
    over = tuple(range(x.dim() - 1))
    n = valid.sum(over).clamp(min=1)
    mean = x.masked_fill(~valid, 0).sum(over) / n
    std = ((x - mean).masked_fill(~valid, 0).square().sum(over) / n).sqrt()
    constant = std <= 1e-6 * mean.abs().clamp(min=1e-6)
    scale = torch.where(constant, 0, 1 / std.clamp(min=1e-30))
    return mean.to(f.dtype), scale.to(f.dtype)


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
