"""What the array of a target says of its rows, whatever the task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.rows import is_lazy


def compute_row_values(target: Any) -> NDArray:
    """(N,) one number per row to order and stratify by: its class code, its first value, or of class codes of pixels
    (N, H, W), in an array or `LabelMaps`, the share of a row's pixels that are not of the most common class; NaN where
    a row has none.
    """
    if target.ndim < 3:
        return np.asarray(target if target.ndim == 1 else target[:, 0])
    counts = count_pixels(target)
    known = counts.sum(1)
    rare = known - counts[:, counts.sum(0).argmax()]
    return np.asarray(np.divide(rare, known, out=np.full(len(target), np.nan), where=known > 0))


def count_pixels(target: Any) -> NDArray:
    """(N, C) pixels of every class code of (N, H, W), in an array (C: up to the largest) or `LabelMaps`."""
    if is_lazy(target):
        return np.asarray(target.counts)
    classes = max(int(target.max(initial=0)) + 1, 1)
    rows = (row[row >= 0].astype(np.int64) for row in target)
    return np.array([np.bincount(row, minlength=classes) for row in rows]).reshape(-1, classes)


def hide_target(target: Any, keep: NDArray) -> Any:
    """The target with −1 or NaN outside of `keep` (N,), so that nothing can read what is there."""
    if is_lazy(target):
        return target.keep_labels(keep)
    nothing = np.float32(np.nan) if target.dtype.kind == "f" else target.dtype.type(-1)
    return np.where(keep.reshape(-1, *[1] * (target.ndim - 1)), target, nothing)
