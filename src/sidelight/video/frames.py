"""Folders of numbered frames, and depth images in metres."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import ConfigError, DataError
from sidelight.utils.images import read_image

NEAR, FAR = 0.1, 15.0
"""Metres between which the median of a depth image has to lie to be believed."""


@dataclass(frozen=True, eq=False)
class FrameFolder:
    """A folder with one image per frame.

    pattern: their names, `img_{:05d}.jpg`. numbers: (N,) frame numbers that exist, rising. missing: numbers between the
    first and the last that do not.
    """

    path: Path
    pattern: str
    numbers: NDArray
    missing: NDArray = field(repr=False)

    def __len__(self) -> int:
        return len(self.numbers)

    def nearest(self, numbers: NDArray) -> NDArray[np.int64]:
        """(T,) of each asked number the nearest that exists, the lower of two."""
        right = np.searchsorted(self.numbers, numbers).clip(1, max(1, len(self) - 1))
        near = np.stack([self.numbers[right - 1], self.numbers[np.minimum(right, len(self) - 1)]])
        return np.asarray(near[np.abs(near - numbers).argmin(0), np.arange(len(numbers))])

    def file(self, number: int) -> Path:
        """The file of a frame."""
        return self.path / self.pattern.format(number)


def frame_folder(path: str | Path, pattern: str = "img_{:05d}.jpg") -> FrameFolder:
    """The numbered images of a folder; raises DataError for a folder that is missing or has none of that name."""
    path = Path(path)
    parts = re.fullmatch(r"([^{}]*)\{:0?\d*d\}([^{}]*)", pattern)
    if not parts:
        raise ConfigError(f"frame names {pattern!r}; expected one number between braces: img_{{:05d}}.jpg")
    if not path.is_dir():
        raise DataError(f"{path}: the folder of frames does not exist")
    name = re.compile(re.escape(parts[1]) + r"(\d+)" + re.escape(parts[2]))
    found = [int(m[1]) for f in path.iterdir() if (m := name.fullmatch(f.name)) and pattern.format(int(m[1])) == f.name]
    if not found:
        seen = sorted(f.name for f in path.iterdir())[:3]
        raise DataError(f"{path} has no frames named {pattern}; there are: {', '.join(seen) or 'no files'}")
    numbers = np.unique(np.array(found, np.int64))
    return FrameFolder(path, pattern, numbers, np.setdiff1d(np.arange(numbers[0], numbers[-1] + 1), numbers))


def read_folder(
    folder: FrameFolder, numbers: Sequence[int] | NDArray, missing: Literal["error", "nearest"] = "error"
) -> Tensor:
    """(T, C, H, W) uint8 of the frames of these numbers (as in their names), in their order.

    missing: what a frame that does not exist becomes: a DataError that names it, or the nearest one that does. Raises
    DataError, naming the file, for images that cannot be read or differ in size.
    """
    asked = np.asarray(numbers, np.int64)
    if not asked.size:
        raise DataError(f"{folder.path}: asked for no frames")
    chosen = folder.nearest(asked)
    if missing == "error" and (absent := asked[chosen != asked]).size:
        raise DataError(
            f"{folder.path}: frame {int(absent[0])} ({folder.pattern.format(int(absent[0]))}) is missing "
            f"({len(absent)} of the {len(asked)} asked for); leave the row out, or take the nearest (missing='nearest')"
        )
    images: dict[int, NDArray] = {}
    for n in np.unique(chosen).tolist():
        images[n] = read_image(folder.file(n))
        first = next(iter(images))
        if images[n].shape != images[first].shape:
            raise DataError(
                f"{folder.file(n)} is {images[n].shape} (C, H, W), but {folder.file(first).name} is "
                f"{images[first].shape}"
            )
    return torch.from_numpy(np.stack([images[n] for n in chosen.tolist()]))


def read_depth(path: str | Path, step: float = 0.001, near: float = NEAR, far: float = FAR, rotated: int = 0) -> Tensor:
    """(1, H, W) float32 metres of a 16-bit depth image; 0 where nothing was measured.

    step: metres that 1 stands for: 0.001 for the usual millimetres. rotated: bits by which its values are rotated to
    the left: 3 in SUN RGB-D. Raises DataError, naming the file, for an image of another kind, without any
    measurement, or whose median lies outside `near` to `far` metres: its unit is another one.
    """
    path = Path(path)
    raw = read_image(path)
    if raw.shape[0] != 1 or (raw.dtype == np.uint8):
        raise DataError(
            f"{path}: depth is {raw.dtype} with {raw.shape[0]} channels; expected one channel of 16 bits (uint16 "
            "millimetres). 8 bits are a picture of depth: read it as an image"
        )
    whole = raw.astype(np.uint32)
    depth = ((whole >> rotated | whole << (16 - rotated)) & 0xFFFF if rotated else raw).astype(np.float32)
    depth *= np.float32(step)
    if not (there := depth[depth > 0]).size:
        raise DataError(
            f"{path}: every depth is 0: nothing was measured, or its unit is metres, of which whole ones were kept"
        )
    middle = float(np.median(there))
    if not near <= middle <= far:
        raise DataError(
            f"{path}: the median depth is {middle:.4g} m if 1 stands for {step:g} m; expected {near:g} to {far:g} m. "
            "Is the unit another one (step=…)? Millimetres: 0.001; TUM: 0.0002; SUN RGB-D: 0.001, rotated=3"
        )
    return torch.from_numpy(depth)


def check_pair(clips: dict[str, Tensor], name: str = "") -> None:
    """Raises DataError, naming both, where two modalities of a row differ in height, width or number of frames.

    clips: modality -> (T, C, H, W).
    """
    first, *rest = clips
    have = clips[first]
    for m in rest:
        x = clips[m]
        if (x.shape[0], *x.shape[-2:]) != (have.shape[0], *have.shape[-2:]):
            raise DataError(
                f"{name + ': ' if name else ''}{first!r} has {have.shape[0]} frames of {have.shape[-2]} x "
                f"{have.shape[-1]}, but {m!r} has {x.shape[0]} of {x.shape[-2]} x {x.shape[-1]}; they have to show the "
                "same view"
            )
