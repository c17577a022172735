"""Random views of a row: one crop, flip and time for all modalities filmed together; and normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sidelight.errors import ConfigError, DataError, unknown
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
        area: least and largest share of the image's area that a crop covers, at the view's aspect ratio; (1, 1): the
            largest crop that fits.
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
    """One view: frame numbers (None: all), the crop's top, left, height and width in pixels, whether it is mirrored."""

    frames: tuple[int, ...] | None
    top: int
    left: int
    height: int
    width: int
    flip: bool


def row_generator(seed: int, epoch: int, row: int) -> torch.Generator:
    """Random numbers of one row in one epoch: the same in any worker and after a resume, without stored state."""
    state = int(np.random.SeedSequence([seed, epoch, row]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(state)


def draw_view(
    views: Views, shape: Sequence[int], generator: torch.Generator | None = None, total: int | None = None
) -> View:
    """A random view of a clip of shape (T, …, H, W); without a generator, the largest one in the middle, not mirrored.

    total: how many frames there are, where the clip is not decoded yet. Decode `View.frames` only, then `apply_view`
    with them left out (`dataclasses.replace(view, frames=None)`).
    """
    height, width = shape[-2:]
    frames = None
    if views.frames is not None:
        count = shape[0] if total is None else total
        frames = tuple(clip_frames(count, views.frames, views.stride, generator=generator).tolist())
    ratio = views.size[1] / views.size[0]
    tall, wide = min(height, width / ratio), min(width, height * ratio)
    share = 1.0
    if generator is not None:
        low = min(1.0, views.area[0] * height * width / (tall * wide))
        high = min(1.0, views.area[1] * height * width / (tall * wide))
        share = low + (high - low) * float(torch.rand((), generator=generator))
    h, w = (max(1, min(round(side * share**0.5), whole)) for side, whole in ((tall, height), (wide, width)))
    if generator is None:
        return View(frames, (height - h) // 2, (width - w) // 2, h, w, False)
    top, left = (int(torch.randint(spare + 1, (), generator=generator)) for spare in (height - h, width - w))
    return View(frames, top, left, h, w, bool(torch.rand((), generator=generator) < views.flip))


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
    differ in height, width or frames, or that the view does not fit into.
    """
    check_pair(dict(clips), name)
    out = {}
    for m, x in clips.items():
        if view.top + view.height > x.shape[-2] or view.left + view.width > x.shape[-1]:
            raise DataError(f"{name or m}: {view} lies outside of frames of {x.shape[-2]} x {x.shape[-1]}")
        x = x if view.frames is None else x[torch.tensor(view.frames)]
        x = x[..., view.top : view.top + view.height, view.left : view.left + view.width]
        out[m] = _resize(x.flip(-1) if view.flip else x, size, m in exact)
    return out


def _resize(x: Tensor, size: tuple[int, int], exact: bool) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if exact:
        rows, columns = (
            ((torch.arange(n, device=x.device) + 0.5) * whole / n).long() for n, whole in zip(size, x.shape[-2:])
        )
        return x[..., rows[:, None], columns]
    y = F.interpolate(x if x.is_floating_point() else x.float(), size, mode="bilinear", antialias=True)
    return y if x.is_floating_point() else y.round().clamp(0, 255).to(x.dtype)


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
