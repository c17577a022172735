"""Mean and scale of every column or channel, computed from the values that are present."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.pixels import compute_chunk_size
from sidelight.data.standardize import build_mask
from sidelight.data.statistics import BINS
from sidelight.data.stored_rows import StoredRows, Values, gather, iterate_parts

RESOLUTION = 2 * torch.finfo(torch.float32).eps
"""Spread, as a share of the values' size, that float32 rounding alone explains (about 2.4e-7)."""
SAMPLE = 256
"""Train rows, evenly spaced, that are decoded to fit the scaling of a modality whose rows are files."""


def sample_files(x: Any, standard: str) -> Tensor:
    """Decode at most `SAMPLE` present rows of files, or none where nothing is fitted to them."""
    present = np.flatnonzero(x.present)
    count = min(SAMPLE, len(present)) if standard == "train" else 0
    chosen = np.linspace(0, len(present) - 1, count).round().astype(int)
    decoded: Tensor = x[present[chosen]].read(threads=None)
    return decoded


def is_constant(std: Tensor, size: Tensor) -> Tensor:
    """Bool: columns whose standard deviation is at most `RESOLUTION` times the size of their values.

    Only the ratio counts, so the unit does not: 1e6 ± 1 varies, and so do magnetic fields of 1e-13 T. Below the
    smallest normal number of float32 (1.2e-38) values cannot be distinguished, and a column is constant too.

    Args:
        std: (C,) standard deviations, float64.
        size: (C,) magnitude of the values, or of the numbers that they were computed from.
    """
    return std <= (RESOLUTION * size).clamp(min=torch.finfo(torch.float32).tiny)


def compute_scaling(f: Values, keep: Tensor | None, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation of every column over the valid values that are not NaN, summed in float64.

    The scale of a constant column (`is_constant`) is 0: it carries no information and must not blow up on new rows.

    Args:
        f: (N, D) or (N, T, C), as it is stored.
        keep: bool that broadcasts over `f`; None: everything is valid.
        size: (C,) magnitude of the numbers that the columns were computed from, where it exceeds their own. A statistic
            that ought to be 0 holds the rounding errors of these much larger numbers.

    Returns:
        (C,) mean and (C,) scale, in the dtype of `f`.
    """
    mean, std = _mean_and_std(f, keep)
    magnitude = mean.abs() if size is None else torch.maximum(mean.abs(), size)
    return mean.to(f.dtype), _invert_std(std, magnitude).to(f.dtype)


def find_varying_columns(x: NDArray, length: NDArray | None, present: NDArray) -> NDArray:
    """(C,) bool: the columns of vectors or signals, or channels of images, that are not constant to a network.

    Args:
        x: (N, D), (N, T, C), (N, C, H, W) or (N, C, T, H, W).
        length: (N,) valid time steps of signals.
        present: (N,) bool.
    """
    rows = StoredRows(torch.from_numpy(x), torch.from_numpy(np.flatnonzero(present)))
    if x.ndim >= 4:
        return np.asarray(compute_pixel_scaling(rows, None)[1] != 0)
    keep = build_mask(rows, None if length is None else torch.from_numpy(length[present]), None)
    return np.asarray(compute_scaling(rows, keep)[1] != 0)


def compute_rms(f: Values, keep: Tensor | None) -> Tensor:
    """(C,) root mean square of every column over the valid values that are not NaN, in float64."""
    mean, std = _mean_and_std(f, keep)
    return (mean.square() + std.square()).sqrt()


def compute_statistics_rms(x: Values, keep: Tensor | None, f: Tensor, parts: Sequence[str]) -> Tensor:
    """(D,) magnitude of the numbers that each window statistic was computed from, for `compute_scaling`.

    It is the root mean square of the column's channel. A spectrum is log(1 + amplitude), which shrinks rounding errors
    of the amplitude by the factor 1 + amplitude.

    Args:
        x: (N, T, C) signals.
        keep: bool that broadcasts over `x`; None: everything is valid.
        f: (N, D) their `window_statistics`.
        parts: the statistics in `f`.
    """
    channel_rms = compute_rms(x, keep)
    if "magnitude" in parts and len(channel_rms) > 1:
        # The norm over channels counts as one more channel.
        norm = channel_rms.square().sum().sqrt()
        channel_rms = torch.cat([channel_rms, norm[None]])
    rms = channel_rms[:, None].repeat(1, f.shape[1] // len(channel_rms))
    if "spectrum" in parts:
        total = _add_up(part.double().nan_to_num(0, 0, 0).sum(0) for _, part in iterate_parts(f))
        level = (total / len(f)).view_as(rms)[:, -BINS:]
        rms[:, -BINS:] *= (-level).exp()
    return rms.flatten()


def compute_pixel_scaling(x: Values, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation of every channel over the pixels of present rows that are not NaN, in float64.

    Args:
        x: (N, C, H, W) images or (N, C, T, H, W) clips of any dtype, converted a few rows at a time.
        present: (N,) bool; None: all rows are present.

    Returns:
        (C,) mean and (C,) scale in float32; the scale of a constant channel (`is_constant`) is 0.
    """
    channels = x.shape[1]
    n = torch.zeros(channels, dtype=torch.float64)
    total, squares = torch.zeros_like(n), torch.zeros_like(n)
    for chunk in _iterate_chunks(x, present):
        n += (~chunk.isnan()).sum((0, 2))
        total += chunk.nan_to_num(0).sum((0, 2))
    mean = total / n.clamp(min=1)
    # A second pass: the difference of squares would lose the digits of images with a large mean.
    for chunk in _iterate_chunks(x, present):
        squares += (chunk - mean[:, None]).nan_to_num(0).square().sum((0, 2))
    std = (squares / n.clamp(min=1)).sqrt()
    return mean.float(), _invert_std(std, mean.abs()).float()


def _mean_and_std(f: Values, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """(C,) mean and (C,) standard deviation in float64, by two passes over a few rows at a time."""
    over = tuple(range(f.dim() - 1))

    def iterate_valid() -> Iterator[tuple[Tensor, Tensor]]:
        for rows, part in iterate_parts(f):
            invalid = torch.isnan(part) if keep is None else torch.isnan(part) | ~keep[rows]
            yield part.to(torch.float64, copy=True), invalid

    if not len(f):
        nothing = torch.zeros(f.shape[-1], dtype=torch.float64)
        return nothing, nothing
    n = _add_up((~invalid).sum(over) for _, invalid in iterate_valid()).clamp(min=1)
    mean = _add_up(x.masked_fill_(invalid, 0).sum(over) for x, invalid in iterate_valid()) / n
    squares = _add_up(x.sub_(mean).masked_fill_(invalid, 0).square_().sum(over) for x, invalid in iterate_valid())
    return mean, (squares / n).sqrt()


def _add_up(parts: Iterator[Tensor]) -> Tensor:
    """The sum of at least one tensor."""
    return functools.reduce(torch.add, parts)


def _invert_std(std: Tensor, size: Tensor) -> Tensor:
    constant = is_constant(std, size)
    return torch.where(constant, 0, 1 / std.where(~constant, 1))


def _iterate_chunks(x: Values, present: Tensor | None) -> Iterator[Tensor]:
    """(n, C, pixels) float64 of a few rows at a time, absent rows left out."""
    size = compute_chunk_size([x.shape[1:]])
    for i in range(0, len(x), size):
        chunk = gather(x[i : i + size])
        if present is not None:
            chunk = chunk[present[i : i + size]]
        yield chunk.double().flatten(2)
