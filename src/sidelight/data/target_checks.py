"""Checks of a target by task; each error names the first faulty row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.rows import is_lazy, name_row
from sidelight.data.target_values import count_pixels, hide_target
from sidelight.errors import ConfigError, DataError, unknown

DIMENSIONS = {"classification": 1, "regression": 2, "segmentation": 3}
"""Task -> number of axes of its target."""
TARGET_KINDS = tuple(DIMENSIONS)


def check_target(name: str, task: str, target: Any, labelled: NDArray, labels: Sequence[str], ids: NDArray) -> Any:
    """Check a target and blank the rows without a label, so that nothing can read them.

    Args:
        name: name of the data set in errors.
        task: one of `TARGET_KINDS`.
        target: (N,) class codes, (N, K) values, or (N, H, W) class codes of pixels, in an array or `LabelMaps`.
        labelled: (N,) bool.
        labels: names of the classes, or of the K values.
        ids: (N,) ids, for errors.

    Returns:
        The target with −1 or NaN in unlabelled rows.

    Raises:
        ConfigError: an unknown task.
        DataError: a wrong shape or value, no labelled row, or a single class.
    """
    if task not in TARGET_KINDS:
        raise ConfigError(unknown("task", task, TARGET_KINDS))
    if target.ndim != DIMENSIONS[task]:
        raise DataError(
            f"{name}: a {task} target cannot have shape {target.shape}; "
            "expected (N,) class codes, (N, K) values or, for segmentation, (N, H, W) class codes of pixels"
        )
    if not labelled.any():
        raise DataError(f"{name}: no row has a label; at least the rows to be scored need a target")
    check = {"classification": _check_classes, "regression": _check_values, "segmentation": _check_pixels}[task]
    return check(name, target, labelled, labels, ids)


def _check_classes(name: str, target: Any, labelled: NDArray, labels: Sequence[str], ids: NDArray) -> Any:
    target = hide_target(target, labelled)
    for i in np.flatnonzero(labelled & ((target < 0) | (target >= len(labels)))):
        raise DataError(
            f"{name}: {name_row(int(i), ids)}: class code {target[i]} has no name; "
            f"there are {len(labels)} classes: {', '.join(labels)}"
        )
    if len(np.unique(target[labelled])) < 2:
        only = labels[int(target[labelled][0])]
        raise DataError(f"{name}: every labelled row is of class {only!r}; two classes are needed")
    return target


def _check_values(name: str, target: Any, labelled: NDArray, labels: Sequence[str], ids: NDArray) -> Any:
    target = hide_target(target, labelled)
    if target.shape[1] != len(labels):
        raise DataError(f"{name}: {target.shape[1]} target columns, but names {list(labels)}")
    bad = np.isinf(target) | (np.isnan(target).all(1) & labelled)[:, None]
    for i, k in np.argwhere(bad):
        raise DataError(
            f"{name}: target {labels[k]!r} is {target[i, k]} in {name_row(int(i), ids)}; "
            "expected a finite number, or an empty cell for a row without a label"
        )
    return target


def _check_pixels(name: str, target: Any, labelled: NDArray, labels: Sequence[str], ids: NDArray) -> Any:
    # Label maps in files were checked when the files were scanned.
    if is_lazy(target):
        target = hide_target(target, labelled)
    else:
        target = _compact_codes(name, target, labelled, labels, ids)
    counts = count_pixels(target)
    for i in np.flatnonzero(labelled & ~counts.any(1)):
        raise DataError(f"{name}: {name_row(int(i), ids)} is labelled, but all its pixels are ignored")
    if np.count_nonzero(counts[labelled].any(0)) < 2:
        raise DataError(f"{name}: all labelled pixels are of one class; two classes are needed")
    return target


def _compact_codes(name: str, target: Any, labelled: NDArray, labels: Sequence[str], ids: NDArray) -> Any:
    """Checked class codes of pixels in as few bytes as the number of classes allows."""
    kind = np.int8 if len(labels) < 128 else np.int16
    if target.dtype.kind not in "iu":
        raise DataError(f"{name}: the target holds {target.dtype}; expected class codes of pixels")
    # Minimum and maximum of each row find a wrong code without a mask of all pixels.
    flat = target.reshape(len(target), -1)
    low, high = flat.min(1), flat.max(1)
    for i in np.flatnonzero(labelled & ((low < -1) | (high >= len(labels)))):
        raise DataError(
            f"{name}: {name_row(int(i), ids)}: class code {low[i] if low[i] < -1 else high[i]} of a pixel has no "
            f"name; there are {len(labels)} classes: {', '.join(labels)} (−1: ignored)"
        )
    return hide_target(target, labelled).astype(kind)
