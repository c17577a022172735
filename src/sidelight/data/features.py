"""A modality's rows as plain columns, for linear models and comparisons of rows; nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset

if TYPE_CHECKING:
    from torch import Tensor

GRID = 4
"""Images are averaged over at most this many parts along each side."""
CHUNK = 4096
"""Signals whose window statistics are computed at a time."""
AROUND = (9, 33)
"""Sides of the squares around a pixel, in pixels, over which its features are averaged."""


class FeatureRows:
    """The features of a modality (`compute_features`), computed for the rows that are asked for.

    Args:
        values: (N, D) vectors, window statistics or means of images.
        varies: (D,) bool, false for columns that a run reads as constant.
        present: (N,) bool.
    """

    def __init__(self, values: NDArray, varies: NDArray, present: NDArray):
        self.values, self.varies, self.present = values, varies, present

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> NDArray:
        return np.where(self.present[rows][:, None], self.values[rows] * self.varies, np.float32(np.nan))


def compute_features(dataset: Dataset, m: str) -> FeatureRows:
    """(N, D) float32: vectors unchanged, window statistics of signals or frames of sound, means over a grid of images.

    Missing values and absent rows are NaN. Columns that a run reads as constant (`scaling.is_constant`) are 0.
    """
    import torch

    from sidelight.data.scaling import compute_scaling, compute_statistics_rms
    from sidelight.data.standardize import build_mask
    from sidelight.data.statistics import STANDARD, window_statistics
    from sidelight.data.stored_rows import StoredRows
    from sidelight.signals.sequence import compute_sequence, count_frames

    x, size, present = dataset.inputs[m], None, torch.from_numpy(dataset.present[m])
    if x.ndim == 3:
        signal = StoredRows(torch.from_numpy(x), torch.arange(len(x)), fill=torch.zeros(x.shape[2]))
        length = torch.from_numpy(dataset.lengths[m]) if m in dataset.lengths else None
        preset = dataset.sequence_preset(m)
        chunks = []
        for i in range(0, len(x), CHUNK):
            valid = None if length is None else length[i : i + CHUNK]
            part = signal[i : i + CHUNK].read()
            if preset:
                part, valid = compute_sequence(part, preset), None if valid is None else count_frames(valid, preset)
            chunks.append(window_statistics(part, valid))
        f = torch.cat(chunks)
        if not preset:
            size = compute_statistics_rms(signal, build_mask(signal, length, present), f, STANDARD)
    elif x.ndim >= 4:
        # One image at a time: all of them in float32 may not fit into memory.
        f = torch.from_numpy(np.stack([average_grid(np.nan_to_num(row.astype(np.float32))) for row in x]))
    else:
        f = torch.from_numpy(x)
    varies = compute_scaling(f, build_mask(f, None, present), size)[1] != 0
    return FeatureRows(f.numpy(), varies.numpy(), dataset.present[m])


def average_grid(image: NDArray) -> NDArray:
    """Means of every channel over at most 4 × 4 parts, and its deviation; a clip is averaged over time first.

    image: (C, H, W) or (C, T, H, W).
    """
    if image.ndim == 4:
        image = image.mean(1)
    values = []
    for band in np.array_split(image, min(GRID, image.shape[1]), 1):
        for part in np.array_split(band, GRID, 2):
            if part.size:
                values.append(part.mean((1, 2)))
    return np.concatenate([*values, image.std((1, 2))])


def compute_pixel_features(image: Tensor) -> Tensor:
    """(3 C, H, W): the values of the pixels of an image (C, H, W), and their means over the squares of `AROUND`."""
    import torch
    from torch.nn import functional as F

    pixels, means = image.float()[None], []
    for n in AROUND:  # down, then across: the mean of a rectangle is that of its rows' means
        down = F.avg_pool2d(pixels, (n, 1), 1, (n // 2, 0), count_include_pad=False)
        means.append(F.avg_pool2d(down, (1, n), 1, (0, n // 2), count_include_pad=False))
    return torch.cat([pixels, *means], 1)[0]
