"""Crops of a recording: which part of the frame and which moment a row shows, the same for all of its modalities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class CropParams:
    """Clip start, crop and flip of a row, as shares, so that they fit any modality's frame rate and resolution.

    Args:
        time: where the clip starts, as a share of the latest possible start; 0.5: the clip lies in the middle.
        share: area of the crop as a share of the largest crop with its aspect ratio that fits into the frame.
        top: where the crop starts, as a share of the lowest possible position; 0.5: in the middle.
        left: the same from left to right.
        flip: whether the crop is mirrored left to right.
    """

    time: float = 0.5
    share: float = 1.0
    top: float = 0.5
    left: float = 0.5
    flip: bool = False


CENTER_CROP = CropParams()
"""The crop of evaluation: the largest one, in the middle, not flipped."""


def row_generator(seed: int, epoch: int, row: int) -> torch.Generator:
    """Build the random generator of one row in one epoch.

    It depends on its arguments only, so the draws are the same in any worker and after a resume, without stored state.

    Args:
        seed: of the training run.
        epoch: counted from 0.
        row: number of the row in the data set.

    Returns:
        A CPU generator.
    """
    # The shift keeps 63 bits: `manual_seed` takes signed numbers.
    state = int(np.random.SeedSequence([seed, epoch, row]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(state)


def sample_crop(
    generator: torch.Generator, share: tuple[float, float] = (1.0, 1.0), flip: float = 0.0, time: bool = False
) -> CropParams:
    """Sample a crop.

    Args:
        generator: the source of randomness.
        share: smallest and largest area of the crop, as in `CropParams`. If the smallest is below 1, the position is
            random too.
        flip: probability of a flip.
        time: whether the clip start is random; otherwise the clip lies in the middle.

    Returns:
        The crop.
    """
    # Five numbers are drawn in any case, so that one setting does not change what another one draws.
    u = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
    smallest, largest = share
    moves = smallest < 1
    return CropParams(
        time=u[0] if time else CENTER_CROP.time,
        share=smallest + (largest - smallest) * u[1],
        top=u[2] if moves else CENTER_CROP.top,
        left=u[3] if moves else CENTER_CROP.left,
        flip=u[4] < flip,
    )


@dataclass(frozen=True)
class CropSampler:
    """Samples the crops of a training run.

    Args:
        seed: of the training run.
        share: smallest area of a crop, as in `CropParams`.
        flip: whether half of the crops are flipped.
        time: whether clip starts are random.
    """

    seed: int
    share: float = 1.0
    flip: bool = False
    time: bool = False

    def draw(self, epoch: int, row: int) -> CropParams:
        """The crop of a row in an epoch; always the same, in any worker and after a resume."""
        generator = row_generator(self.seed, epoch, row)
        return sample_crop(generator, (self.share, 1.0), 0.5 if self.flip else 0.0, self.time)


@dataclass(frozen=True)
class CropBox:
    """A crop in pixels: the frame is scaled to (height, width); the crop starts at (top, left) of the scaled frame."""

    height: int
    width: int
    top: int
    left: int

    @classmethod
    def from_params(cls, crop: CropParams, height: int, width: int, size: tuple[int, int]) -> CropBox:
        """Compute the crop of one frame.

        Args:
            crop: the crop as shares.
            height: of the frame in pixels.
            width: of the frame in pixels.
            size: (height, width) of the result in pixels.

        Returns:
            The box; scaling keeps the frame's aspect ratio.
        """
        # Scaled by the larger ratio, the frame covers `size` on both axes; a smaller share of it is a larger frame.
        scale = max(size[0] / height, size[1] / width) / crop.share**0.5
        scaled_height = max(size[0], round(height * scale))
        scaled_width = max(size[1], round(width * scale))
        top = pick_index(crop.top, scaled_height - size[0] + 1)
        left = pick_index(crop.left, scaled_width - size[1] + 1)
        return cls(scaled_height, scaled_width, top, left)

    def source_box(self, height: int, width: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The crop in pixels of the frame before scaling, for libraries that crop and scale in one step.

        Args:
            height: of the frame in pixels.
            width: of the frame in pixels.
            size: (height, width) of the result in pixels.

        Returns:
            (left, top, right, bottom).
        """
        y, x = height / self.height, width / self.width
        # Rounding may move an edge past the frame by a fraction of a pixel.
        right, bottom = min(width, (self.left + size[1]) * x), min(height, (self.top + size[0]) * y)
        return self.left * x, self.top * y, right, bottom

    def crop(self, scaled: Tensor, size: tuple[int, int]) -> Tensor:
        """Crop a frame that has been scaled to the height and width of the box: (…, H, W) -> (…, *size)."""
        return scaled[..., self.top : self.top + size[0], self.left : self.left + size[1]]

    def nearest_pixels(self, height: int, width: int, size: tuple[int, int]) -> tuple[NDArray, NDArray]:
        """For each pixel of the crop, the nearest pixel of the frame, for values that must not be mixed.

        Args:
            height: of the frame in pixels.
            width: of the frame in pixels.
            size: (height, width) of the result in pixels.

        Returns:
            (size[0],) rows and (size[1],) columns of the frame.
        """
        y, x = height / self.height, width / self.width
        # A pixel's value belongs to its center, hence + 0.5.
        rows = ((self.top + np.arange(size[0]) + 0.5) * y).astype(np.int64)
        columns = ((self.left + np.arange(size[1]) + 0.5) * x).astype(np.int64)
        return rows.clip(max=height - 1), columns.clip(max=width - 1)


def crop_nearest(x: Tensor, crop: CropParams, size: tuple[int, int]) -> Tensor:
    """Crop, scale and flip pixels whose values must not be mixed, such as depths and class numbers.

    Args:
        x: (…, H, W).
        crop: the crop as shares.
        size: (height, width) of the result in pixels.

    Returns:
        (…, *size), each pixel the nearest one of x.
    """
    height, width = x.shape[-2:]
    rows, columns = CropBox.from_params(crop, height, width, size).nearest_pixels(height, width, size)
    return apply_flip(x[..., torch.from_numpy(rows)[:, None], torch.from_numpy(columns)], crop)


def pick_index(share: float, count: int) -> int:
    """The index 0 … count − 1 that lies at a share 0 … 1 of the range."""
    return min(int(share * count), count - 1)


def apply_flip(x: Tensor, crop: CropParams) -> Tensor:
    """Mirror the last axis of x if the crop is flipped."""
    return x.flip(-1) if crop.flip else x
