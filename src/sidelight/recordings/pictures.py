"""Recording types with pixels: videos, folders of frames, images, depth images."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import ConfigError, DataError, unknown
from sidelight.recordings.base import (
    RecordingType,
    Segment,
    Size,
    check_at_least,
)
from sidelight.recordings.image_files import check_bands, check_eight_bits, read_image_size, read_view
from sidelight.recordings.picks import check_pick, nested_pick
from sidelight.video.augment import STATISTICS
from sidelight.video.container import VideoFile, probe
from sidelight.video.crop import CENTER_CROP, CropBox, CropParams, apply_flip, crop_nearest
from sidelight.video.decode import clip_frames, read_frames
from sidelight.video.frames import FrameFolder, find_frames, read_depth

RATE_TOLERANCE = 0.02
"""The largest relative difference between the declared frame rate and that of the file."""
LATE = 1.0
"""Seconds by which a segment may end after its video, because of rounding and other encodings."""


@dataclass(frozen=True, kw_only=True)
class Picture(RecordingType):
    """Base class of the types with pixels.

    Args:
        size: (height, width) of a row. Frames are scaled and cropped to it, never squeezed.
        view: a name for what it shows, where that is not the whole scene, such as "face" for a cropped face beside a
            depth image of the room. Images, depth and label maps of one view have the same size, pixel for pixel.
    """

    lazy: ClassVar[bool] = True
    storage: ClassVar[frozenset[str]] = frozenset(("view",))
    size: Size
    view: str = ""

    def __post_init__(self) -> None:
        # JSON gives a list; the dataclass is frozen.
        object.__setattr__(self, "size", tuple(self.size))
        check_at_least(f"kind {self.kind!r}", 1, height=self.size[0], width=self.size[1])


@dataclass(frozen=True, kw_only=True)
class Colour(Picture):
    """Base class of the types with colours or grey values.

    Args:
        statistics: the standardization of pixels: "kinetics", "imagenet" or "half", as public checkpoints expect, or
            "train", the mean and deviation of train rows.
    """

    dtype: ClassVar[torch.dtype] = torch.uint8
    statistics: str = "imagenet"

    def __post_init__(self) -> None:
        super().__post_init__()
        names = (*STATISTICS, "train")
        if self.statistics not in names:
            raise ConfigError(f"kind {self.kind!r}: {unknown('statistics', self.statistics, names)}")

    @property
    def standard(self) -> str:
        return self.statistics


@dataclass(frozen=True, kw_only=True)
class ColourClip(Colour):
    """Base class of clips in colour.

    A segment with a start and no end begins at its start. A segment with both, or with neither, has its clip in the
    middle, and in training at a random place.

    Args:
        frames: number of frames in a row; a shorter recording repeats its last frame.
        stride: distance between neighbouring frames of a row.
        rate: declared frames per second; 0: any.
    """

    storage: ClassVar[frozenset[str]] = frozenset(("view", "statistics", "rate", "pattern", "first", "missing"))
    size: Size = (112, 112)
    statistics: str = "kinetics"
    frames: int = 16
    stride: int = 1
    rate: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(f"kind {self.kind!r}", 1, frames=self.frames, stride=self.stride)
        check_at_least(f"kind {self.kind!r}", 0, rate=self.rate)

    @property
    def shape(self) -> tuple[int, ...]:
        return 3, self.frames, *self.size

    def frame_numbers(self, first: int, end: int, fixed: bool, crop: CropParams) -> NDArray[np.int64]:
        """The frames of a clip.

        Args:
            first: number of the first frame of the segment.
            end: number after the last one.
            fixed: whether the clip begins with the first frame.
            crop: its place in time, where it is not fixed.

        Returns:
            (frames,) frame numbers.
        """
        return first + clip_frames(end - first, self.frames, self.stride, at=0 if fixed else crop.time)


@dataclass(frozen=True, kw_only=True)
class Video(ColourClip):
    """A clip of a video file, (3, frames, H, W) uint8 RGB."""

    kind: ClassVar[str] = "video"

    def probe(self, segment: Segment) -> Size | None:
        video = probe_video(segment.path)
        if self.rate and abs(video.rate / self.rate - 1) > RATE_TOLERANCE:
            # Dropped frames lower the average rate, but not the usual distance between frames.
            uneven = abs(video.step * video.rate - 1) > RATE_TOLERANCE
            raise DataError(
                f"{segment.path} has {video.rate:g} frames a second, but {self.rate:g} are declared (rate)"
                + f"; frames were dropped or the recording paused: most are {video.step:g} s apart" * uneven
            )
        self._range(segment, video)
        return video.height, video.width

    def read(self, segment: Segment, crop: CropParams = CENTER_CROP) -> Tensor:
        video = probe_video(segment.path)
        numbers = self.frame_numbers(
            *self._range(segment, video), segment.start is not None and segment.end is None, crop
        )
        places: list[CropBox] = []

        def scale(height: int, width: int) -> Size:
            # The decoder knows the size of the frames first, and scales them while it decodes.
            places.append(CropBox.from_params(crop, height, width, self.size))
            return places[0].height, places[0].width

        frames = read_frames(video, numbers, scale)
        return apply_flip(places[0].crop(frames.transpose(0, 1), self.size), crop).contiguous()

    def _range(self, segment: Segment, video: VideoFile) -> tuple[int, int]:
        # Times are rounded to the nearest frame.
        half = 0.5 * video.step
        first = 0 if segment.start is None else int(np.searchsorted(video.times, segment.start - half))
        end = len(video) if segment.end is None else int(np.searchsorted(video.times, segment.end - half))
        # Ends a little after the last frame are rounding; later ones name another video.
        if first < end and segment.end is not None and segment.end > video.seconds + LATE:
            raise DataError(f"{segment.path} lasts {video.seconds:g} s, but a segment of it ends at {segment.end:g} s")
        return _check_range(segment, first, end, f"it lasts {video.seconds:g} s")


@dataclass(frozen=True, kw_only=True)
class Frames(ColourClip):
    """A clip of a folder of numbered images, (3, frames, H, W) uint8 RGB.

    Args:
        pattern: file names, such as `img_{:05d}.jpg`.
        first: number of the frame at 0 seconds; starts and ends need `rate`.
        missing: for a frame without a file, "nearest" takes the nearest frame that exists, "error" raises an error.
    """

    kind: ClassVar[str] = "frames"
    pattern: str = "img_{:05d}.jpg"
    first: int = 1
    missing: Literal["nearest", "error"] = "nearest"

    def probe(self, segment: Segment) -> Size | None:
        folder = _open_folder(segment.path, self.pattern)
        self._range(segment, folder)
        return read_image_size(folder.file(int(folder.numbers[0])), check_eight_bits)

    def read(self, segment: Segment, crop: CropParams = CENTER_CROP) -> Tensor:
        folder = _open_folder(segment.path, self.pattern)
        wanted = self.frame_numbers(
            *self._range(segment, folder), segment.start is not None and segment.end is None, crop
        )
        numbers = folder.nearest(wanted)
        if self.missing == "error" and (lost := wanted[numbers != wanted]).size:
            raise DataError(f"{segment.path}: {self.pattern.format(int(lost[0]))} is missing (missing: error)")
        # A frame that occurs several times is decoded once.
        pictures = {n: read_view(folder.file(n), crop, self.size, 3) for n in np.unique(numbers).tolist()}
        return apply_flip(torch.stack([pictures[n] for n in numbers.tolist()], 1), crop)

    def _range(self, segment: Segment, folder: FrameFolder) -> tuple[int, int]:
        # Without times the segment is the whole folder.
        first, end = int(folder.numbers[0]), int(folder.numbers[-1]) + 1
        if (segment.start is not None or segment.end is not None) and not self.rate:
            raise ConfigError(f"{segment.path}: a segment of a folder of frames needs the frames per second (rate)")
        last = f"its last frame is number {end - 1}"
        if segment.end is not None:
            end = min(end, self.first + round(segment.end * self.rate))
        if segment.start is not None:
            first = max(self.first + round(segment.start * self.rate), first if segment.end is not None else 0)
        return _check_range(segment, first, end, last)


@dataclass(frozen=True, kw_only=True)
class Image(Colour):
    """An image file, (channels, H, W) uint8.

    Args:
        channels: 3: RGB (grey values are repeated). 1: grey.
        pick: numbers of the file's own channels that a row has instead, from 0; (): none.
    """

    kind: ClassVar[str] = "image"
    storage: ClassVar[frozenset[str]] = frozenset(("view", "statistics"))
    later: ClassVar[frozenset[str]] = RecordingType.later | {"pick"}
    channels: Literal[1, 3] = 3
    pick: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "pick", check_pick(self.pick, f"kind {self.kind!r}: pick"))

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.pick) or self.channels, *self.size

    def probe(self, segment: Segment) -> Size | None:
        return read_image_size(segment.path, lambda path, mode: check_bands(path, mode, self.pick))

    def read(self, segment: Segment, crop: CropParams = CENTER_CROP) -> Tensor:
        return apply_flip(read_view(segment.path, crop, self.size, self.channels, self.pick), crop)

    def pick_channels(self, channels: tuple[int, ...]) -> RecordingType:
        return replace(self, pick=nested_pick(self.pick, channels))


@dataclass(frozen=True, kw_only=True)
class Depth(Picture):
    """A 16-bit depth image, (1, H, W) float32 metres, 0 for unmeasured pixels; resizing takes the nearest pixel.

    Args:
        step: metres per unit of the stored values.
        rotated: bits by which the stored values are rotated to the left; 3 in SUN RGB-D.
        no_value: stored values, beside 0, that mean "not measured", such as 65535.
        coarse: whether files without a value above 255 are depth all the same, not pictures of 8 bits.
    """

    kind: ClassVar[str] = "depth"
    storage: ClassVar[frozenset[str]] = frozenset(("view", "step", "no_value", "coarse"))
    later: ClassVar[frozenset[str]] = RecordingType.later | {"no_value", "coarse"}
    step: float = 0.001
    rotated: int = 0
    no_value: tuple[int, ...] = ()
    coarse: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "no_value", tuple(self.no_value))
        if not all(0 <= v < 2**16 for v in self.no_value):
            raise ConfigError(f"kind 'depth': no_value is {list(self.no_value)}; expected stored values, 0 to 65535")
        if not 0 < self.step < math.inf:
            raise ConfigError(f"kind 'depth': step is {self.step!r}; expected metres that 1 stands for, above 0")
        if not 0 <= self.rotated < 16:
            raise ConfigError(f"kind 'depth': rotated is {self.rotated}; expected 0 to 15 bits")

    @property
    def shape(self) -> tuple[int, ...]:
        return 1, *self.size

    def probe(self, segment: Segment) -> Size | None:
        # Only the values show whether the unit is right, so they are read.
        return tuple(self._read_whole(segment).shape[-2:])  # type: ignore[return-value]

    def read(self, segment: Segment, crop: CropParams = CENTER_CROP) -> Tensor:
        return crop_nearest(self._read_whole(segment), crop, self.size)

    def _read_whole(self, segment: Segment) -> Tensor:
        settings = {"rotated": self.rotated, "no_value": self.no_value, "coarse": self.coarse}
        return read_depth(segment.path, self.step, **settings)  # type: ignore[arg-type]


def _check_range(segment: Segment, first: int, end: int, what: str) -> tuple[int, int]:
    """(first, end) unless there is no frame between them; `what` ends the error."""
    if first >= end:
        asked = f"from {segment.start or 0:g} s on" + ("" if segment.end is None else f" to {segment.end:g} s")
        raise DataError(f"{segment.path} has no frames {asked}; {what}")
    return first, end


def probe_video(path: Path) -> VideoFile:
    """The frame times and sizes of a video file, read once."""
    return _probe_cached(str(path), modified_at(path))


def _open_folder(path: Path, pattern: str) -> FrameFolder:
    return _frame_folder_cached(str(path), pattern, modified_at(path))


def modified_at(path: Path) -> int:
    """The time of the last change, in ns; raises DataError for a missing file."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        raise DataError(f"{path} does not exist") from None


@lru_cache(maxsize=16384)
def _probe_cached(path: str, stamp: int) -> VideoFile:
    """Counting a video's frames reads all of it, so the result is kept until the file changes (`stamp`)."""
    return probe(path)


@lru_cache(maxsize=16384)
def _frame_folder_cached(path: str, pattern: str, stamp: int) -> FrameFolder:
    """Listing a folder is slow on network drives, so the result is kept until the folder changes (`stamp`)."""
    return find_frames(path, pattern)
