"""A modality's rows as plain columns: what a linear model, or a comparison of rows, reads without any training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset

GRID = 4


def compute_features(dataset: Dataset, m: str) -> NDArray:
    """(N, D) float: vectors as they are, signals as window statistics, images as the means of a coarse grid.

    NaN where a value or the row is missing; 0 in columns that a run reads as constant (`moments.is_constant`).
    """
    import torch

    from sidelight.data.scaling import build_mask, compute_scaling, compute_statistics_rms
    from sidelight.data.statistics import STANDARD, window_statistics

    x, size, present = dataset.inputs[m], None, torch.from_numpy(dataset.present[m])
    if x.ndim == 3:
        signal = torch.from_numpy(np.nan_to_num(x))
        length = torch.from_numpy(dataset.lengths[m]) if m in dataset.lengths else None
        starts = range(0, len(x), 4096)
        parts = [(signal[i : i + 4096], None if length is None else length[i : i + 4096]) for i in starts]
        f = torch.cat([window_statistics(*part) for part in parts])
        size = compute_statistics_rms(signal, build_mask(signal, length, present), f, STANDARD)
    elif x.ndim >= 4:
        f = torch.from_numpy(np.stack([_grid(np.nan_to_num(row.astype(np.float32))) for row in x]))
    else:
        f = torch.from_numpy(x)
    varies = compute_scaling(f, build_mask(f, None, present), size)[1] != 0
    return np.where(dataset.present[m][:, None], (f * varies).numpy(), np.float32(np.nan))


def _grid(image: NDArray) -> NDArray:
    """Mean of every channel of (C, H, W), or a clip's mean image, in at most 4 × 4 equal parts, and its deviation."""
    image = image.mean(1) if image.ndim == 4 else image
    parts = [c for band in np.array_split(image, min(GRID, image.shape[1]), 1) for c in np.array_split(band, GRID, 2)]
    means = [p.mean((1, 2)) for p in parts if p.size]
    return np.concatenate([*means, image.std((1, 2))])
