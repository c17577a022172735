"""Values that are read from the array of a target, whatever the task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.rows import is_lazy


def compute_row_values(target: Any) -> NDArray:
    """(N,) one number per row to sort and stratify by; NaN for a row without a label.

    It is the class code, the first value of a regression, or, for class codes of pixels (N, H, W) in an array or
    `LabelMaps`, the share of a row's pixels that are not of the most common class.
    """
    if target.ndim < 3:
        return np.asarray(target if target.ndim == 1 else target[:, 0])
    counts = count_pixels(target)
    known = counts.sum(1)
    rare = known - counts[:, counts.sum(0).argmax()]
    return np.asarray(np.divide(rare, known, out=np.full(len(target), np.nan), where=known > 0))


def count_pixels(target: Any) -> NDArray:
    """(N, C) pixels of every class code in (N, H, W) codes or `LabelMaps`; C is at least the largest code + 1."""
    if is_lazy(target):
        return np.asarray(target.counts)
    classes = max(int(target.max(initial=0)) + 1, 1)
    counts = np.zeros((len(target), classes), np.int64)
    # Row by row: the int64 codes of all pixels at once would take eight times the memory of the target.
    for i, row in enumerate(target):
        counts[i] = np.bincount(row[row >= 0].astype(np.int64), minlength=classes)
    return counts


def hide_target(target: Any, keep: NDArray) -> Any:
    """The target with −1 or NaN in the rows outside of `keep` (N,), so that nothing can read their labels.

    Where all rows keep theirs it is the array itself, which processes may share.
    """
    if is_lazy(target):
        return target.keep_labels(keep)
    if keep.all() and target.flags.writeable:  # torch warns of arrays that are not
        return target
    nothing = np.float32(np.nan) if target.dtype.kind == "f" else target.dtype.type(-1)
    return np.where(keep.reshape(-1, *[1] * (target.ndim - 1)), target, nothing)
