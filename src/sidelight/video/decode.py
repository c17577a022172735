"""Frames of video files: clips of them, and decoding (extra `video`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import ConfigError, DataError
from sidelight.video.container import VideoFile, decoded, opened
from sidelight.video.crop import between

Size = tuple[int, int] | Callable[[int, int], tuple[int, int]]


def clip_frames(
    total: int,
    frames: int,
    stride: int = 1,
    start: int | None = None,
    generator: torch.Generator | None = None,
    at: float = 0.5,
) -> NDArray[np.int64]:
    """(frames,) numbers of a clip's frames, `stride` apart, out of `total`.

    It begins at frame `start`; without one, anywhere by the generator (training), or at the share `at` of the room that
    there is: 0: with the first frame, 0.5: it lies in the middle. A video shorter than the clip gives all it has, its
    last frame repeated. Raises ConfigError for counts below 1, DataError for a video without frames or a start behind
    its end.
    """
    if not (isinstance(frames, Integral) and isinstance(stride, Integral)) or frames < 1 or stride < 1:
        raise ConfigError(f"a clip of {frames} frames, {stride} apart; expected whole numbers of at least 1")
    if not 0 <= at <= 1:
        raise ConfigError(f"a clip that lies at {at} of the room that there is; expected 0 to 1")
    if total < 1:
        raise DataError("a video without frames has no clips")
    spare = max(0, total - (frames - 1) * stride - 1)
    if start is None:
        start = between(at if generator is None else float(torch.rand((), generator=generator)), spare + 1)
    if not isinstance(start, Integral) or not 0 <= start < total:
        raise DataError(f"a clip that starts at frame {start} of {total}; frames are counted from 0")
    return np.minimum(start + stride * np.arange(frames), total - 1)


def read_frames(
    video: VideoFile, frames: Sequence[int] | NDArray, size: Size | None = None, threads: int = 1
) -> Tensor:
    """(T, 3, H, W) uint8 RGB of the frames of these numbers, in their order; upright as a player would show them.

    Decoding starts at the key frame before the first and ends at the last. size: (height, width) to which each is
    scaled while it is decoded, or a function that returns it for a frame's own. Raises DataError, naming file and
    frame, for one that does not exist or cannot be decoded.
    """
    numbers = np.asarray(frames)
    if numbers.size and (numbers.dtype.kind not in "iu" or numbers.ndim != 1):
        raise DataError(f"{video.path}: frames {numbers.tolist()}; expected their numbers, which are whole, in one row")
    numbers = numbers.astype(np.int64)
    wanted = np.unique(numbers)
    if not len(wanted) or wanted[0] < 0 or wanted[-1] >= len(video):
        raise DataError(f"{video.path} has frames 0–{len(video) - 1}; asked for {numbers.tolist() or 'none'}")
    for key in _starts(video, int(wanted[0])):
        if len(found := _decode(video, wanted, size, threads, key)) == len(wanted):
            break
    if lost := [int(i) for i in wanted if int(i) not in found]:
        raise DataError(f"{video.path}: frame {lost[0]} of {len(video)} cannot be decoded; the file is damaged there")
    shapes = {f.shape for f in found.values()}
    if len(shapes) > 1:
        raise DataError(f"{video.path}: frames differ in size: {sorted(shapes)}; give the size that they are scaled to")
    stack = np.stack([found[int(i)] for i in wanted])[np.searchsorted(wanted, numbers)]
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()


def _starts(video: VideoFile, first: int) -> list[int | None]:
    """Where to start decoding, to be tried in turn: the key frame before the first, and the beginning (None)."""
    if video.stamps is None or not len(before := video.keys[video.keys <= video.stamps[first]]):
        return [None]
    return [int(before[-1]), None]


def _decode(video: VideoFile, wanted: NDArray, size: Size | None, threads: int, key: int | None) -> dict[int, NDArray]:
    """The wanted frames that can be decoded from a key frame on, (H, W, 3) by number."""
    found: dict[int, NDArray] = {}
    last = int(wanted[-1])
    with opened(video.path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "SLICE", threads
        if key is not None:
            container.seek(key, stream=stream)
        for i, frame in enumerate(_decoded(container, stream)):
            if frame is None:
                continue
            if video.stamps is not None:
                if frame.pts is None or frame.pts < video.stamps[0]:
                    continue
                i = int(np.searchsorted(video.stamps, frame.pts))
            if i > last:
                break
            if video.stamps is not None and video.stamps[i] != frame.pts:  # no frame that is shown
                continue
            if wanted[np.searchsorted(wanted, i)] == i and not frame.is_corrupt:
                found[i] = _pixels(frame, size)
            if i == last:
                break
    return found


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; None for a packet that cannot be decoded, so that frames which are counted keep their numbers."""
    for packet in container.demux(stream):
        frames = decoded(packet)
        yield from [None] if frames is None else frames


def _pixels(frame: Any, size: Size | None) -> NDArray:
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    if callable(size):
        size = size(*((frame.width, frame.height) if turns % 2 else (frame.height, frame.width)))
    if size is None:
        pixels = frame.to_ndarray(format="rgb24")
    else:
        height, width = size if turns % 2 == 0 else size[::-1]
        pixels = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray()
    return np.rot90(pixels, turns)
