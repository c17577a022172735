"""Standardization of vectors and signals, value by value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sidelight.data.pixels import CLIP

if TYPE_CHECKING:
    from sidelight.data.stored_rows import Values


def fill_missing(x: Tensor, fill: Tensor | None) -> Tensor:
    """The values with NaN replaced by `fill` (C,); unchanged if it is None."""
    return x if fill is None else torch.where(torch.isnan(x), fill, x)


def standardize(
    f: Tensor, mean: Tensor, scale: Tensor, clip: bool, length: Tensor | None, present: Tensor | None
) -> Tensor:
    """(f − mean) · scale, clipped at ±10 where asked, with zeros in padding and absent rows.

    Every value is computed by itself, so that rows have the same bits in a batch of any size.

    Args:
        f: (B, D) or (B, T, C).
        mean: broadcasts over `f`.
        scale: broadcasts over `f`.
        clip: whether values are clipped.
        length: (B,) valid time steps of signals; None: all.
        present: (B,) bool; None: all rows are present.
    """
    f = (f - mean) * scale
    if clip:
        f = f.clamp(-CLIP, CLIP)
    # Padding and absent rows are zero again: the mean was subtracted from them too.
    keep = build_mask(f, length if f.dim() == 3 else None, present)
    return f if keep is None else f.masked_fill(~keep, 0)


def build_mask(f: Values, length: Tensor | None, present: Tensor | None) -> Tensor | None:
    """The mask of valid values.

    Args:
        f: (N, D), (N, T, C) or (N, C, …).
        length: (N,) valid time steps of (N, T, C); None: all steps are valid.
        present: (N,) bool; None: all rows are present.

    Returns:
        Bool that broadcasts over `f`; None where everything is valid.
    """
    keep = None if present is None else present.view(-1, *[1] * (f.dim() - 1))
    if length is not None:
        valid = (torch.arange(f.shape[1], device=length.device)[None] < length[:, None]).unsqueeze(-1)
        keep = valid if keep is None else keep & valid
    return keep
