"""Rows of different lengths as one padded array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.rows import to_float32
from sidelight.errors import DataError
from sidelight.utils.images import channels_first, stack_images


def stack_rows(
    source: str, modality: str, rows: Sequence[NDArray | None], names: Sequence[str], longest: int = 0
) -> tuple[NDArray, NDArray, NDArray | None]:
    """Stack one array per row.

    Rows of different lengths (T_i, C) are padded with zeros. Rows that are None, empty or NaN throughout are absent.

    Args:
        source: name of the data in errors.
        modality: name of the modality.
        rows: (N,) arrays (D,), (T, C), (H, W, C) or (C, H, W), or clips.
        names: (N,) names of the rows in errors.
        longest: time steps to keep of longer rows; 0: all.

    Returns:
        (values, present, lengths): (N, D) or (N, T, C) float32, or images (N, C, H, W) or clips (N, C, T, H, W);
        (N,) bool; (N,) valid time steps, or None where all rows are equally long.

    Raises:
        DataError: names the two rows whose shapes differ.
    """
    if longest > 0:
        rows = [r[:longest] if r is not None and r.ndim == 2 else r for r in rows]
    present = np.array([r is not None and r.size > 0 and not _is_all_nan(r) for r in rows])
    kept = np.flatnonzero(present).tolist()
    if not kept:
        raise DataError(f"{source}: modality {modality!r} is absent from every row")
    first: Any = rows[kept[0]]
    if first.ndim >= 3:
        what = f"{source}: modality {modality!r}"
        images = [_narrow(r, f"{what}, {n}") if here else None for r, here, n in zip(rows, present, names)]
        x, present = stack_images(source, f"modality {modality!r}", images, names)
        return channels_first(x), present, None
    for i in kept:
        r: Any = rows[i]
        if r.dtype.kind not in "fiub":
            raise DataError(f"{source}: modality {modality!r}, {names[i]} holds {r.dtype}; expected numbers")
        if r.ndim not in (1, 2):
            raise DataError(
                f"{source}: modality {modality!r}, {names[i]} has shape {r.shape}; "
                "expected (D,) features, a (T, C) signal or an (H, W, C) image"
            )
        if r.ndim != first.ndim or r.shape[-1] != first.shape[-1]:
            hint = ""
            if r.ndim == first.ndim == 1:
                hint = "; a one-channel signal of varying length must be stored as (T, 1)"
            raise DataError(
                f"{source}: modality {modality!r}, {names[i]} has shape {r.shape}, but {names[kept[0]]} has "
                f"{first.shape}; only the length of a (T, C) signal may differ{hint}"
            )
    if first.ndim == 1:
        x = np.zeros((len(rows), len(first)), np.float32)
    else:
        steps = max(len(rows[i]) for i in kept)  # type: ignore[arg-type]
        x = np.zeros((len(rows), steps, first.shape[1]), np.float32)
    lengths = np.zeros(len(rows), np.int64)
    # Copied row by row, so that no second copy of the data is in memory.
    for i in kept:
        r = rows[i]
        lengths[i] = len(r)
        x[i, : len(r)] = to_float32(r, f"{source}: modality {modality!r}, {names[i]}", ())
    variable = first.ndim == 2 and bool((lengths[kept] != x.shape[1]).any())
    return x, present, lengths if variable else None


def _narrow(x: Any, what: str) -> NDArray:
    """float64 as float32; other dtypes unchanged."""
    wide = x.dtype.kind == "f" and x.dtype.itemsize > 4
    return to_float32(x, what, ()) if wide else np.asarray(x)


def _is_all_nan(x: NDArray) -> bool:
    return x.dtype.kind == "f" and bool(np.isnan(x).all())
