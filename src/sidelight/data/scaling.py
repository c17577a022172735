"""Means and standard deviations of what is there, by column or channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.pixels import compute_chunk_size
from sidelight.data.rows import is_lazy
from sidelight.data.statistics import BINS

RESOLUTION = 2 * torch.finfo(torch.float32).eps
"""Spread, as a share of the values' size, up to which roundings of float32 alone explain it (about 2.4e-7)."""
SAMPLE = 256
"""Train rows that are decoded, evenly spread, for the moments of a modality whose rows are files."""


def sample_tensor(x: Any, standard: str) -> Any:
    """Rows as a tensor; of files, a sample of those that are there, or none where nothing is fitted to them."""
    if not is_lazy(x):
        return torch.from_numpy(x)
    there = np.flatnonzero(x.present)
    count = min(SAMPLE, len(there)) if standard == "train" else 0
    return x[there[np.linspace(0, len(there) - 1, count).round().astype(int)]].read(threads=None)


def build_mask(f: Tensor, length: Tensor | None, present: Tensor | None) -> Tensor | None:
    """Bool that broadcasts over f: what is there; None if everything is."""
    shape = (-1, *[1] * (f.dim() - 1))
    keep = None if present is None else present.view(shape)
    if length is not None:
        valid = (torch.arange(f.shape[1], device=f.device)[None] < length[:, None]).unsqueeze(-1)
        keep = valid if keep is None else keep & valid
    return keep


def is_constant(std: Tensor, size: Tensor) -> Tensor:
    """Bool: columns whose standard deviation is at most `RESOLUTION` times the size of their values.

    Only the ratio counts, so the unit does not: 1e6 ± 1 varies, and so do magnetic fields of 1e-13 T. Below the
    smallest normal number of float32 (1.2e-38) nothing can be told apart, and a column is constant too.

    Args:
        std: (C,) standard deviations, float64.
        size: (C,) what the values, or the numbers that they were computed from, are as large as.
    """
    return std <= (RESOLUTION * size).clamp(min=torch.finfo(torch.float32).tiny)


def compute_scaling(f: Tensor, keep: Tensor | None, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation of every last-axis column over what is kept and not NaN, summed in float64.

    The scale of a constant column (`is_constant`) is 0: it tells nothing, and must not blow up on new rows.

    Args:
        f: (N, D) or (N, T, C), as it is stored.
        keep: bool that broadcasts over f; None: everything counts.
        size: (C,) the size of what the columns were computed from, where that is not their own: a statistic that ought
            to be 0 holds the roundings of numbers that are much larger.
    """
    mean, std = _mean_and_std(f, keep)
    of_values = mean.abs() if size is None else torch.maximum(mean.abs(), size)
    return mean.to(f.dtype), _scale(std, of_values).to(f.dtype)


def find_varying_columns(x: NDArray, length: NDArray | None = None) -> NDArray:
    """(C,) bool: which columns of vectors or signals, or channels of images, are not constant to a network.

    x: (N, D), (N, T, C), (N, C, H, W) or (N, C, T, H, W). length: (N,) valid time steps of signals.
    """
    rows = torch.from_numpy(x)
    if x.ndim >= 4:
        return np.asarray(compute_pixel_scaling(rows, None)[1] != 0)
    keep = build_mask(rows, None if length is None else torch.from_numpy(length), None)
    return np.asarray(compute_scaling(rows, keep)[1] != 0)


def compute_rms(f: Tensor, keep: Tensor | None) -> Tensor:
    """(C,) root mean square of every last-axis column over what is kept and not NaN, float64."""
    mean, std = _mean_and_std(f, keep)
    return (mean.square() + std.square()).sqrt()


def compute_statistics_rms(x: Tensor, keep: Tensor | None, f: Tensor, parts: Sequence[str]) -> Tensor:
    """(D,) the size of what each column of window statistics was computed from, for `moments`.

    It is the root mean square of the column's channel. A spectrum is log(1 + amplitude), which shrinks roundings of the
    amplitude by the factor 1 + amplitude.

    Args:
        x: (N, T, C) signals. keep: bool that broadcasts over x; None: everything counts.
        f: (N, D) their `window_statistics`, made with these `parts`.
    """
    of_channel = compute_rms(x, keep)
    if "magnitude" in parts and len(of_channel) > 1:
        of_channel = torch.cat([of_channel, of_channel.square().sum().sqrt()[None]])
    each = of_channel[:, None].repeat(1, f.shape[1] // len(of_channel))
    if "spectrum" in parts:
        level = f.double().nan_to_num(0, 0, 0).mean(0).view_as(each)[:, -BINS:]
        each[:, -BINS:] *= (-level).exp()
    return each.flatten()


def compute_pixel_scaling(x: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """(C,) mean and 1 / standard deviation over the rows that are there and their pixels that are not NaN, in float64.

    x: (N, C, H, W), or clips (N, C, T, H, W), of any type, read a few rows at a time. The scale of a constant channel
    (`is_constant`) is 0.
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
    return mean.float(), _scale(std, mean.abs()).float()


def _mean_and_std(f: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    x = f.double()
    valid = ~torch.isnan(x) if keep is None else ~torch.isnan(x) & keep
    over = tuple(range(x.dim() - 1))
    n = valid.sum(over).clamp(min=1)
    mean = x.masked_fill(~valid, 0).sum(over) / n
    return mean, ((x - mean).masked_fill(~valid, 0).square().sum(over) / n).sqrt()


def _scale(std: Tensor, size: Tensor) -> Tensor:
    constant = is_constant(std, size)
    return torch.where(constant, 0, 1 / std.where(~constant, 1))


def _parts(x: Tensor, present: Tensor | None) -> Iterator[Tensor]:
    size = compute_chunk_size([x.shape[1:]])
    for i in range(0, len(x), size):
        part = x[i : i + size]
        yield (part if present is None else part[present[i : i + size]]).double().flatten(2)
