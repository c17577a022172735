"""Where in a recording a row's view lies, as shares of what there is: the same for all modalities of the row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class CropParams:
    """A view, free of any modality's frames and pixels.

    time, top, left: 0–1, where it lies in the room that there is; 0.5: in the middle. share: of the area of the largest
    crop that fits. flip: mirrored.
    """

    time: float = 0.5
    share: float = 1.0
    top: float = 0.5
    left: float = 0.5
    flip: bool = False


CENTRE = CropParams()
"""What evaluation sees: the largest view in the middle."""


def row_generator(seed: int, epoch: int, row: int) -> torch.Generator:
    """Random numbers of one row in one epoch: the same in any worker and after a resume, without stored state."""
    state = int(np.random.SeedSequence([seed, epoch, row]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(state)


def sample_crop(
    generator: torch.Generator, share: tuple[float, float] = (1.0, 1.0), flip: float = 0.0, time: bool = False
) -> CropParams:
    """A random view: least and largest share (below 1: it lies anywhere), the probability to be mirrored, any time."""
    u = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
    (least, largest), moves = share, share[0] < 1
    return CropParams(
        u[0] if time else CENTRE.time,
        least + (largest - least) * u[1],
        u[2] if moves else CENTRE.top,
        u[3] if moves else CENTRE.left,
        u[4] < flip,
    )


@dataclass(frozen=True)
class CropSampler:
    """How a training run draws views: its `seed`, the least `share` of a crop, whether `flip` and `time` are drawn."""

    seed: int
    share: float = 1.0
    flip: bool = False
    time: bool = False

    def draw(self, epoch: int, row: int) -> CropParams:
        """The view of a row in an epoch; always the same, in any worker and after a resume."""
        generator = row_generator(self.seed, epoch, row)
        return sample_crop(generator, (self.share, 1.0), 0.5 if self.flip else 0.0, self.time)


@dataclass(frozen=True)
class Place:
    """A view on a frame: the frame scaled to (height, width), and cut from (top, left) on to the view's size."""

    height: int
    width: int
    top: int
    left: int

    @classmethod
    def of(cls, crop: CropParams, height: int, width: int, size: tuple[int, int]) -> Place:
        """Of a view that becomes `size` pixels, on a frame of height × width; its shape is kept."""
        scale = max(size[0] / height, size[1] / width) / crop.share**0.5
        tall, wide = max(size[0], round(height * scale)), max(size[1], round(width * scale))
        top, left = (between(at, n + 1) for at, n in ((crop.top, tall - size[0]), (crop.left, wide - size[1])))
        return cls(tall, wide, top, left)

    def box(self, height: int, width: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the view in the pixels of a frame of height × width."""
        y, x = height / self.height, width / self.width
        right, bottom = min(width, (self.left + size[1]) * x), min(height, (self.top + size[0]) * y)
        return self.left * x, self.top * y, right, bottom

    def cut(self, scaled: Tensor, size: tuple[int, int]) -> Tensor:
        """(…, *size) of a frame that has been scaled to the place's height and width."""
        return scaled[..., self.top : self.top + size[0], self.left : self.left + size[1]]

    def nearest(self, height: int, width: int, size: tuple[int, int]) -> tuple[NDArray, NDArray]:
        """(H',) rows and (W',) columns of the frame's pixels nearest to the view's, where values must not be mixed."""
        ends = ((self.top, size[0], height / self.height), (self.left, size[1], width / self.width))
        rows, columns = (((at + np.arange(n) + 0.5) * step).astype(np.int64) for at, n, step in ends)
        return rows.clip(max=height - 1), columns.clip(max=width - 1)


def nearest(x: Tensor, crop: CropParams, size: tuple[int, int]) -> Tensor:
    """(…, H, W) -> (…, *size): the view of pixels whose values must not be mixed; mirrored where it is."""
    height, width = x.shape[-2:]
    rows, columns = Place.of(crop, height, width, size).nearest(height, width, size)
    return mirrored(x[..., torch.from_numpy(rows)[:, None], torch.from_numpy(columns)], crop)


def between(at: float, count: int) -> int:
    """0 … count − 1: the position at a share of 0–1."""
    return min(int(at * count), count - 1)


def mirrored(x: Tensor, crop: CropParams) -> Tensor:
    """x, its last axis turned round where the view is mirrored."""
    return x.flip(-1) if crop.flip else x
