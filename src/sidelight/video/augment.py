"""Random views of a row: one crop, flip and time for all modalities filmed together; and normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sidelight.errors import ConfigError, DataError, unknown
from sidelight.video.crop import CENTRE, CropParams, Place, mirrored, nearest, sample_crop
from sidelight.video.decode import clip_frames
from sidelight.video.frames import check_pair

STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "kinetics": ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of RGB in 0–1 that public checkpoints expect: images, R3D and its like, I3D and faces."""


@dataclass(frozen=True)
class Views:
    """How views are drawn.

    Args:
        size: (height, width) of a view.
        frames: how many frames it has; None: all.
        stride: frames from one of them to the next.
        area: least and largest share of the largest crop that fits, at the view's aspect ratio; (1, 1): that crop.
        flip: probability of a mirrored view.
    """

    size: tuple[int, int]
    frames: int | None = None
    stride: int = 1
    area: tuple[float, float] = (0.6, 1.0)
    flip: float = 0.5

    def __post_init__(self) -> None:
        if min(self.size) < 1 or not 0 < self.area[0] <= self.area[1] <= 1 or not 0 <= self.flip <= 1:
            raise ConfigError(
                f"{self}: expected a size of at least 1, 0 < least area <= largest area <= 1, 0 <= flip <= 1"
            )


@dataclass(frozen=True)
class View:
    """One view: frame numbers (None: all), and where on the frames it lies, free of their size."""

    frames: tuple[int, ...] | None
    crop: CropParams


def draw_view(
    views: Views, shape: Sequence[int], generator: torch.Generator | None = None, total: int | None = None
) -> View:
    """A random view of a clip of shape (T, …, H, W); without a generator, the largest one in the middle, not mirrored.

    total: how many frames there are, where the clip is not decoded yet. Decode `View.frames` only, then `apply_view`
    with them left out (`dataclasses.replace(view, frames=None)`).
    """
    crop = CENTRE if generator is None else sample_crop(generator, views.area, views.flip, time=True)
    if views.frames is None:
        return View(None, crop)
    count = shape[0] if total is None else total
    return View(tuple(clip_frames(count, views.frames, views.stride, at=crop.time).tolist()), crop)


def apply_view(
    view: View,
    clips: Mapping[str, Tensor],
    size: tuple[int, int],
    exact: Sequence[str] = ("depth", "labels"),
    name: str = "",
) -> dict[str, Tensor]:
    """The same view of every modality: (T, C, H, W) -> (T', C, *size), types kept.

    exact: modalities whose values must not be mixed (depths, class numbers): their nearest pixel is taken; the others
    are interpolated, smoothed where they are shrunk. name: the row, in errors. Raises DataError for modalities that
    differ in height, width or frames.
    """
    check_pair(dict(clips), name)
    out = {}
    for m, x in clips.items():
        x = x if view.frames is None else x[torch.tensor(view.frames)]
        out[m] = nearest(x, view.crop, size) if m in exact else _interpolated(x, view.crop, size)
    return out


def _interpolated(x: Tensor, crop: CropParams, size: tuple[int, int]) -> Tensor:
    place = Place.of(crop, x.shape[-2], x.shape[-1], size)
    scaled = x
    if tuple(x.shape[-2:]) != (place.height, place.width):
        y = x if x.is_floating_point() else x.float()
        y = F.interpolate(y, (place.height, place.width), mode="bilinear", antialias=True)
        scaled = y if x.is_floating_point() else y.round().clamp(0, 255).to(x.dtype)
    return mirrored(place.cut(scaled, size), crop)


def normalise(clip: Tensor, statistics: str = "imagenet") -> Tensor:
    """(T, 3, H, W) uint8 RGB -> (3, T, H, W) float32, (value / 255 − mean) / std; statistics: a name of `STATISTICS`.

    A single image (3, H, W) stays (3, H, W). Raises ConfigError for an unknown name, DataError for a clip that is not
    uint8 RGB.
    """
    if statistics not in STATISTICS:
        raise ConfigError(unknown("statistics", statistics, STATISTICS))
    if clip.dtype != torch.uint8 or clip.dim() not in (3, 4) or clip.shape[-3] != 3:
        raise DataError(
            f"a clip of {clip.dtype} and shape {tuple(clip.shape)}; expected uint8 RGB, (T, 3, H, W) or (3, H, W)"
        )
    mean, std = (torch.tensor(v, device=clip.device).view(3, 1, 1) for v in STATISTICS[statistics])
    out = (clip.float() / 255 - mean) / std
    return out.transpose(0, 1).contiguous() if out.dim() == 4 else out
