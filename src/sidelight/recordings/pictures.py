"""Kinds of recordings with pixels: videos, folders of frames, images, depth images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import ConfigError, DataError, unknown
from sidelight.recordings.image_files import check_eight_bits, read_image_size, read_view
from sidelight.recordings.recording_type import RecordingType, Segment, Size, check_at_least
from sidelight.video.augment import STATISTICS
from sidelight.video.container import VideoFile, probe
from sidelight.video.crop import CENTRE, CropParams, Place, mirrored, nearest
from sidelight.video.decode import clip_frames, read_frames
from sidelight.video.frames import FrameFolder, frame_folder, read_depth

RATE_TOLERANCE = 0.02
"""The share by which a declared frame rate and a file's own may differ."""
LATE = 1.0
"""Seconds by which a part may end behind its video, as rounding and other encodings make it."""


@dataclass(frozen=True, kw_only=True)
class Picture(RecordingType):
    """What kinds with pixels share.

    Args:
        size: (height, width) of a row; the frame is scaled and cut to it, never squeezed.
        view: a name for what it shows, where that is not the scene: "face" of a cut face beside a depth of all the
            room. Images, depth and labels of a row that have one view are of one size, pixel for pixel.
    """

    lazy: ClassVar[bool] = True
    storage: ClassVar[frozenset[str]] = frozenset(("view",))
    size: Size
    view: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        check_at_least(f"kind {self.kind!r}", 1, height=self.size[0], width=self.size[1])


@dataclass(frozen=True, kw_only=True)
class Colour(Picture):
    """What kinds with colours or grey values share.

    Args:
        statistics: what pixels are standardised by: "kinetics", "imagenet", "half" (public checkpoints expect one of
            them), or "train": the mean and deviation of train rows.
    """

    dtype: ClassVar[torch.dtype] = torch.uint8
    statistics: str = "imagenet"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.statistics not in (names := (*STATISTICS, "train")):
            raise ConfigError(f"kind {self.kind!r}: {unknown('statistics', self.statistics, names)}")

    @property
    def standard(self) -> str:
        return self.statistics


@dataclass(frozen=True, kw_only=True)
class ColourClip(Colour):
    """What clips share. A part with a start and no end begins there; one with both, or with neither, has its clip in

    the middle, in training anywhere.

    Args:
        frames: how many a row has; the last frame of a shorter recording is repeated.
        stride: frames from one of them to the next.
        rate: declared frames a second, 0: any.
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
        """(frames,) the numbers of a clip among first … end − 1; fixed: it begins with the first."""
        return first + clip_frames(end - first, self.frames, self.stride, at=0 if fixed else crop.time)


@dataclass(frozen=True, kw_only=True)
class Video(ColourClip):
    """A clip of a video file, (3, frames, H, W) uint8 RGB."""

    kind: ClassVar[str] = "video"

    def probe(self, segment: Segment) -> Size | None:
        video = probe_video(segment.path)
        if self.rate and abs(video.rate / self.rate - 1) > RATE_TOLERANCE:
            uneven = abs(video.step * video.rate - 1) > RATE_TOLERANCE
            raise DataError(
                f"{segment.path} has {video.rate:g} frames a second, but {self.rate:g} are declared (rate)"
                + f"; frames were dropped or the recording paused: most are {video.step:g} s apart" * uneven
            )
        self._range(segment, video)
        return video.height, video.width

    def read(self, segment: Segment, crop: CropParams = CENTRE) -> Tensor:
        video = probe_video(segment.path)
        numbers = self.frame_numbers(
            *self._range(segment, video), segment.start is not None and segment.end is None, crop
        )
        places: list[Place] = []

        def scaled(height: int, width: int) -> Size:
            places.append(Place.of(crop, height, width, self.size))
            return places[0].height, places[0].width

        frames = read_frames(video, numbers, scaled)
        return mirrored(places[0].cut(frames.transpose(0, 1), self.size), crop).contiguous()

    def _range(self, segment: Segment, video: VideoFile) -> tuple[int, int]:
        half = 0.5 * video.step
        first = 0 if segment.start is None else int(np.searchsorted(video.times, segment.start - half))
        end = len(video) if segment.end is None else int(np.searchsorted(video.times, segment.end - half))
        if first < end and segment.end is not None and segment.end > video.seconds + LATE:
            raise DataError(
                f"{segment.path} lasts {video.seconds:g} s, but a part of it is to end at {segment.end:g} s"
            )
        return _checked(segment, first, end, f"it lasts {video.seconds:g} s")


@dataclass(frozen=True, kw_only=True)
class Frames(ColourClip):
    """A clip of a folder of numbered images, (3, frames, H, W) uint8 RGB.

    Args:
        pattern: their names, `img_{:05d}.jpg`.
        first: the number of the frame at 0 seconds; starts and ends need `rate`.
        missing: what becomes of a frame without a file: "nearest" (another takes its place) or "error".
    """

    kind: ClassVar[str] = "frames"
    pattern: str = "img_{:05d}.jpg"
    first: int = 1
    missing: Literal["nearest", "error"] = "nearest"

    def probe(self, segment: Segment) -> Size | None:
        folder = _folder(segment.path, self.pattern)
        self._range(segment, folder)
        return read_image_size(folder.file(int(folder.numbers[0])), check_eight_bits)

    def read(self, segment: Segment, crop: CropParams = CENTRE) -> Tensor:
        folder = _folder(segment.path, self.pattern)
        wanted = self.frame_numbers(
            *self._range(segment, folder), segment.start is not None and segment.end is None, crop
        )
        numbers = folder.nearest(wanted)
        if self.missing == "error" and (lost := wanted[numbers != wanted]).size:
            raise DataError(f"{segment.path}: {self.pattern.format(int(lost[0]))} is missing (missing: error)")
        pictures = {n: read_view(folder.file(n), crop, self.size, 3) for n in np.unique(numbers).tolist()}
        return mirrored(torch.stack([pictures[n] for n in numbers.tolist()], 1), crop)

    def _range(self, segment: Segment, folder: FrameFolder) -> tuple[int, int]:
        first, end = int(folder.numbers[0]), int(folder.numbers[-1]) + 1
        if (segment.start is not None or segment.end is not None) and not self.rate:
            raise ConfigError(f"{segment.path}: a part of a folder of frames needs its frames a second (rate)")
        last = f"its last frame is number {end - 1}"
        if segment.end is not None:
            end = min(end, self.first + round(segment.end * self.rate))
        if segment.start is not None:
            first = max(self.first + round(segment.start * self.rate), first if segment.end is not None else 0)
        return _checked(segment, first, end, last)


@dataclass(frozen=True, kw_only=True)
class Image(Colour):
    """An image file, (channels, H, W) uint8.

    Args:
        channels: 3: RGB (grey values are repeated), 1: grey.
    """

    kind: ClassVar[str] = "image"
    storage: ClassVar[frozenset[str]] = frozenset(("view", "statistics"))
    channels: Literal[1, 3] = 3

    @property
    def shape(self) -> tuple[int, ...]:
        return self.channels, *self.size

    def probe(self, segment: Segment) -> Size | None:
        return read_image_size(segment.path, check_eight_bits)

    def read(self, segment: Segment, crop: CropParams = CENTRE) -> Tensor:
        return mirrored(read_view(segment.path, crop, self.size, self.channels), crop)


@dataclass(frozen=True, kw_only=True)
class Depth(Picture):
    """A 16-bit depth image, (1, H, W) float32 metres, 0 where nothing was measured; values are not mixed.

    Args:
        step: metres that 1 stands for.
        rotated: bits by which values are rotated to the left; 3 in SUN RGB-D.
    """

    kind: ClassVar[str] = "depth"
    storage: ClassVar[frozenset[str]] = frozenset(("view", "step"))
    step: float = 0.001
    rotated: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rotated < 16:
            raise ConfigError(f"kind 'depth': rotated is {self.rotated}; expected 0 to 15 bits")

    @property
    def shape(self) -> tuple[int, ...]:
        return 1, *self.size

    def probe(self, segment: Segment) -> Size | None:  # its unit shows in its values alone, so they are read
        return tuple(read_depth(segment.path, self.step, rotated=self.rotated).shape[-2:])  # type: ignore[return-value]

    def read(self, segment: Segment, crop: CropParams = CENTRE) -> Tensor:
        return nearest(read_depth(segment.path, self.step, rotated=self.rotated), crop, self.size)


def _checked(segment: Segment, first: int, end: int, what: str) -> tuple[int, int]:
    if first >= end:
        asked = f"from {segment.start or 0:g} s on" + ("" if segment.end is None else f" to {segment.end:g} s")
        raise DataError(f"{segment.path} has no frames {asked}; {what}")
    return first, end


def probe_video(path: Path) -> VideoFile:
    """The frames of a video file, counted once."""
    return _probed(str(path), _stamp(path))


def _folder(path: Path, pattern: str) -> FrameFolder:
    return _listed(str(path), pattern, _stamp(path))


def _stamp(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        raise DataError(f"{path} does not exist") from None


@lru_cache(maxsize=16384)
def _probed(path: str, stamp: int) -> VideoFile:
    """Counting a video's frames reads all of it; once is enough, unless it changes."""
    return probe(path)


@lru_cache(maxsize=16384)
def _listed(path: str, pattern: str, stamp: int) -> FrameFolder:
    return frame_folder(path, pattern)
