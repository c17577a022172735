"""Random crops of clips, one crop, flip and clip start for all modalities filmed together; and normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sidelight.errors import ConfigError, DataError, unknown
from sidelight.video.crop import CENTER_CROP, CropBox, CropParams, apply_flip, crop_nearest, sample_crop
from sidelight.video.decode import clip_frames
from sidelight.video.frames import check_aligned

STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "kinetics": ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of RGB in 0–1 that public checkpoints expect.

imagenet: image networks (torchvision). kinetics: R3D and R(2+1)D (torchvision). half: I3D, and networks of faces.
"""


@dataclass(frozen=True)
class ClipCropSettings:
    """Settings from which clip crops are sampled.

    Args:
        size: (height, width) of a crop in pixels.
        frames: number of frames in a clip; None: all.
        stride: step from one frame of a clip to the next.
        area: smallest and largest area of a crop, as a share of the largest crop that fits; (1, 1): the largest crop.
        flip: probability of a flip.
    """

    size: tuple[int, int]
    frames: int | None = None
    stride: int = 1
    area: tuple[float, float] = (0.6, 1.0)
    flip: float = 0.5

    def __post_init__(self) -> None:
        if min(self.size) < 1 or not 0 < self.area[0] <= self.area[1] <= 1 or not 0 <= self.flip <= 1:
            raise ConfigError(
                f"{self}: expected a size of at least 1, 0 < smallest area <= largest area <= 1, 0 <= flip <= 1"
            )


@dataclass(frozen=True)
class ClipCrop:
    """One crop of a clip: the frame numbers (None: all), and the crop of every frame."""

    frames: tuple[int, ...] | None
    crop: CropParams


def sample_clip_crop(
    settings: ClipCropSettings, shape: Sequence[int], generator: torch.Generator | None = None, total: int | None = None
) -> ClipCrop:
    """Sample a crop of a clip.

    Args:
        settings: what to sample from.
        shape: (T, …, H, W) of the clip.
        generator: the source of randomness; None: the largest crop, in the middle, not flipped.
        total: number of frames, if the clip is not decoded yet. Decode the frames `ClipCrop.frames` only, then call
            `crop_clips` with `dataclasses.replace(crop, frames=None)`.

    Returns:
        The crop.
    """
    crop = CENTER_CROP if generator is None else sample_crop(generator, settings.area, settings.flip, time=True)
    if settings.frames is None:
        return ClipCrop(None, crop)
    count = shape[0] if total is None else total
    return ClipCrop(tuple(clip_frames(count, settings.frames, settings.stride, at=crop.time).tolist()), crop)


def crop_clips(
    clip_crop: ClipCrop,
    clips: Mapping[str, Tensor],
    size: tuple[int, int],
    exact: Sequence[str] = ("depth", "labels"),
    name: str = "",
) -> dict[str, Tensor]:
    """Crop the clips of all modalities of a row in the same way.

    Args:
        clip_crop: the frames and the crop.
        clips: modality -> (T, C, H, W).
        size: (height, width) of the result in pixels.
        exact: modalities whose values must not be mixed (depths, class numbers): the nearest pixel is taken. Other
            modalities are interpolated with antialiasing.
        name: of the row, for errors.

    Returns:
        modality -> (T', C, *size), of the dtype that it had.

    Raises:
        DataError: modalities differ in height, width or number of frames.
    """
    check_aligned(dict(clips), name)
    out = {}
    for m, x in clips.items():
        x = x if clip_crop.frames is None else x[torch.tensor(clip_crop.frames)]
        out[m] = crop_nearest(x, clip_crop.crop, size) if m in exact else _crop_bilinear(x, clip_crop.crop, size)
    return out


def _crop_bilinear(x: Tensor, crop: CropParams, size: tuple[int, int]) -> Tensor:
    box = CropBox.from_params(crop, x.shape[-2], x.shape[-1], size)
    scaled = x
    # Interpolation to the same size would only cost time.
    if tuple(x.shape[-2:]) != (box.height, box.width):
        y = x if x.is_floating_point() else x.float()
        y = F.interpolate(y, (box.height, box.width), mode="bilinear", antialias=True)
        scaled = y if x.is_floating_point() else y.round().clamp(0, 255).to(x.dtype)
    return apply_flip(box.crop(scaled, size), crop)


def normalize(clip: Tensor, statistics: str = "imagenet") -> Tensor:
    """Normalize a clip: (value / 255 − mean) / std.

    Args:
        clip: (T, 3, H, W) or, for a single image, (3, H, W) uint8 RGB.
        statistics: a name of `STATISTICS`.

    Returns:
        (3, T, H, W), the layout of video networks, or (3, H, W), in float32.

    Raises:
        ConfigError: an unknown name.
        DataError: the clip is not uint8 RGB.
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
