"""Reads folders of numbered frames, and depth images in meters."""

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

SATURATED = 2**16 - 1
"""The largest value of 16 bits: no sensor measures it, and many write it where they measured nothing."""
EIGHT_BITS = 2**8 - 1
NEAR, FAR = 0.1, 15.0
"""Meters between which the median of a depth image must lie; outside, its unit is probably another one."""


@dataclass(frozen=True, eq=False)
class FrameFolder:
    """A folder with one image per frame.

    Args:
        path: the folder.
        pattern: names of the files, such as `img_{:05d}.jpg`.
        numbers: (N,) existing frame numbers, ascending.
        missing: numbers between the first and the last that do not exist.
    """

    path: Path
    pattern: str
    numbers: NDArray
    missing: NDArray = field(repr=False)

    def __len__(self) -> int:
        return len(self.numbers)

    def nearest(self, numbers: NDArray) -> NDArray[np.int64]:
        """For each of (T,) frame numbers, the nearest that exists; the lower one of two."""
        right = np.searchsorted(self.numbers, numbers).clip(1, max(1, len(self) - 1))
        near = np.stack([self.numbers[right - 1], self.numbers[np.minimum(right, len(self) - 1)]])
        return np.asarray(near[np.abs(near - numbers).argmin(0), np.arange(len(numbers))])

    def file(self, number: int) -> Path:
        """The file of a frame."""
        return self.path / self.pattern.format(number)


def find_frames(path: str | Path, pattern: str = "img_{:05d}.jpg") -> FrameFolder:
    """List the numbered images of a folder; raises DataError if it does not exist or holds no such image."""
    path = Path(path)
    parts = re.fullmatch(r"([^{}]*)\{:0?\d*d\}([^{}]*)", pattern)
    if not parts:
        raise ConfigError(f"frame names {pattern!r}; expected one number between braces: img_{{:05d}}.jpg")
    if not path.is_dir():
        raise DataError(f"{path}: the folder of frames does not exist")
    name = re.compile(re.escape(parts[1]) + r"(\d+)" + re.escape(parts[2]))
    found = []
    for file in path.iterdir():
        match = name.fullmatch(file.name)
        # img_1.jpg matches the expression of img_{:05d}.jpg, but it is not the name of frame 1.
        if match and pattern.format(int(match[1])) == file.name:
            found.append(int(match[1]))
    if not found:
        examples = sorted(f.name for f in path.iterdir())[:3]
        raise DataError(f"{path} has no frames named {pattern}; there are: {', '.join(examples) or 'no files'}")
    numbers = np.unique(np.array(found, np.int64))
    return FrameFolder(path, pattern, numbers, np.setdiff1d(np.arange(numbers[0], numbers[-1] + 1), numbers))


def read_folder(
    folder: FrameFolder, numbers: Sequence[int] | NDArray, missing: Literal["error", "nearest"] = "error"
) -> Tensor:
    """Read frames of a folder.

    Args:
        folder: from `find_frames`.
        numbers: (T,) frame numbers, as in the file names.
        missing: "error" raises DataError for a frame that does not exist; "nearest" takes the nearest existing one.

    Returns:
        (T, C, H, W) uint8, in the order of `numbers`.

    Raises:
        DataError: an image is missing, cannot be read, or differs in size; names the file.
    """
    asked = np.asarray(numbers, np.int64)
    if not asked.size:
        raise DataError(f"{folder.path}: asked for no frames")
    chosen = folder.nearest(asked)
    absent = asked[chosen != asked]
    if missing == "error" and absent.size:
        raise DataError(
            f"{folder.path}: frame {int(absent[0])} ({folder.pattern.format(int(absent[0]))}) is missing "
            f"({len(absent)} of the {len(asked)} asked for); leave the row out, or take the nearest (missing='nearest')"
        )
    # A frame that several numbers ask for is read once.
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


def read_depth(
    path: str | Path,
    step: float = 0.001,
    near: float = NEAR,
    far: float = FAR,
    rotated: int = 0,
    no_value: Sequence[int] = (),
    coarse: bool = False,
) -> Tensor:
    """Read a 16-bit depth image.

    Args:
        path: the file.
        step: meters per unit of the stored values; 0.001 for the usual millimeters.
        near: smallest plausible median depth in meters.
        far: largest plausible median depth in meters.
        rotated: bits by which the 16 bits of a value are rotated to the left; 3 in SUN RGB-D.
        no_value: stored values, beside 0, that mean "not measured", such as 65535.
        coarse: whether a file without a value above 255 is depth all the same.

    Returns:
        (1, H, W) float32 meters; 0 where nothing was measured.

    Raises:
        DataError: the image is not 16-bit with one channel, has no measurement, was a picture of 8 bits, has pixels of
            65535 that `no_value` does not name, or its median is not between `near` and `far`, which shows another
            unit; names the file.
    """
    path = Path(path)
    raw = read_image(path)
    if raw.shape[0] != 1 or (raw.dtype == np.uint8):
        raise DataError(
            f"{path}: depth is {raw.dtype} with {raw.shape[0]} channels; expected one channel of 16 bits (uint16 "
            "millimetres). An 8-bit file is a picture of depth: read it as an image"
        )
    whole = raw.astype(np.uint32)
    if rotated:
        whole = np.asarray((whole >> rotated | whole << (16 - rotated)) & 0xFFFF, np.uint32)
    if len(no_value):
        whole[np.isin(raw, no_value)] = 0  # as they are stored, before the rotation
    _check_saturated(path, whole)
    depth = whole.astype(np.float32) * np.float32(step)
    measured = depth[depth > 0]
    if not measured.size:
        raise DataError(f"{path}: every depth is 0: nothing was measured, or it holds meters cut to whole numbers")
    middle = float(np.median(measured))
    largest = int(whole.max())
    if not near <= middle <= far:
        raise DataError(
            f"{path}: the median depth is {middle:.4g} m if 1 stands for {step:g} m; expected {near:g} to {far:g} m. "
            "Is the unit another one (step=…)? Millimetres: 0.001; TUM: 0.0002; SUN RGB-D: 0.001, rotated=3"
            + f". Or was it a picture of 8 bits? No value is above {largest}"
            * (largest <= EIGHT_BITS)
        )
    if largest <= EIGHT_BITS and not coarse:
        raise DataError(
            f"{path}: no value is above {largest}: was it a picture of 8 bits, whose values are no depths, before it "
            "was saved with 16? Take the files of the sensor, or read it as an image; if these are depths all the "
            "same, say so: coarse: true"
        )
    return torch.from_numpy(depth)


def _check_saturated(path: Path, whole: NDArray) -> None:
    """Raise DataError for stored values (1, H, W) that no sensor measures."""
    saturated = int((whole == SATURATED).sum())
    if saturated:
        raise DataError(
            f"{path}: {saturated} of {whole.size} pixels are {SATURATED}, the largest value of 16 bits, which usually "
            f"means that nothing was measured. Say so: no_value: [{SATURATED}]"
        )


def check_aligned(clips: dict[str, Tensor], name: str = "") -> None:
    """Raise DataError if two modalities of a row differ in height, width or number of frames.

    Args:
        clips: modality -> (T, C, H, W).
        name: of the row, for the error.
    """
    first, *rest = clips
    have = clips[first]
    for m in rest:
        x = clips[m]
        if (x.shape[0], *x.shape[-2:]) != (have.shape[0], *have.shape[-2:]):
            raise DataError(
                f"{name + ': ' if name else ''}{first!r} has {have.shape[0]} frames of {have.shape[-2]} x "
                f"{have.shape[-1]}, but {m!r} has {x.shape[0]} of {x.shape[-2]} x {x.shape[-1]}; they must show the "
                "same frames"
            )
