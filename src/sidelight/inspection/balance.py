"""How the target is distributed, over all rows and over parts of them, and what an answer scores that looks at none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.target_values import count_pixels
from sidelight.inspection.coverage import number_parts


def count_classes(dataset: Dataset) -> dict[str, int]:
    """Class -> its labelled rows, or pixels; empty for a regression."""
    if dataset.task == "regression":
        return {}
    return dict(zip(dataset.class_names, dataset.class_counts().tolist()))


def count_classes_of(dataset: Dataset, part_of: NDArray) -> dict[str, tuple[int, ...]]:
    """Part -> the labelled rows, or pixels, of each class in it; empty for a regression.

    part_of: (N,) the part of each row, a group or a part of the official split.
    """
    if dataset.task == "regression":
        return {}
    names, at = number_parts(part_of)
    counts = np.zeros((len(names), len(dataset.class_names)), np.int64)
    rows = np.flatnonzero(dataset.labelled)
    if dataset.size:
        pixels = count_pixels(dataset.target)
        np.add.at(counts[:, : pixels.shape[1]], at[rows], pixels[rows])
    else:
        np.add.at(counts, (at[rows], dataset.target[rows]), 1)
    return {name: tuple(map(int, c)) for name, c in zip(names, counts)}


def score_majority(dataset: Dataset, classes: dict[str, int]) -> dict[str, float]:
    """Metric -> the score of the most common class everywhere; of a regression, of each target's mean everywhere."""
    if dataset.task == "regression":
        spread = [float(np.nanstd(y)) for y in dataset.target.T if np.isfinite(y).any()]
        return {"ccc": 0.0, "rmse": float(np.sqrt(np.mean(np.square(spread))))} if spread else {}
    total, known = sum(classes.values()), sum(n > 0 for n in classes.values())
    if not total:
        return {}
    share = max(classes.values()) / total
    if dataset.size:
        # The most common class has an IoU of its share; the others have 0.
        return {"miou": share / known, "pixel_accuracy": share}
    return {"accuracy": share, "unweighted_accuracy": 1 / known, "macro_f1": 2 * share / (1 + share) / known}


def describe_range(values: NDArray) -> dict[str, float]:
    """Rows with a value, and their lowest, mean and highest value and standard deviation."""
    v = values[np.isfinite(values)]
    if not len(v):
        return {"rows": 0.0}
    return {
        "rows": float(len(v)),
        "min": float(v.min()),
        "mean": float(v.mean()),
        "max": float(v.max()),
        "std": float(v.std()),
    }
