"""Chooses the frames of a clip, and decodes them from video files (extra `video`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import ConfigError, DataError
from sidelight.video.container import VideoFile, decode_packet, open_container
from sidelight.video.crop import pick_index

Size = tuple[int, int] | Callable[[int, int], tuple[int, int]]


def clip_frames(
    total: int,
    frames: int,
    stride: int = 1,
    start: int | None = None,
    generator: torch.Generator | None = None,
    at: float = 0.5,
) -> NDArray[np.int64]:
    """Choose the frames of a clip. A video shorter than the clip gives all its frames, and repeats the last.

    Args:
        total: number of frames in the video.
        frames: number of frames in the clip.
        stride: step from one frame of the clip to the next.
        start: first frame of the clip; None: random if there is a generator, else as `at` says.
        generator: the source of randomness (training).
        at: clip start as a share of the latest possible start; 0: the first frame, 0.5: the clip lies in the middle.

    Returns:
        (frames,) frame numbers.

    Raises:
        ConfigError: counts below 1, or `at` outside 0–1.
        DataError: a video without frames, or a start behind its end.
    """
    if not (isinstance(frames, Integral) and isinstance(stride, Integral)) or frames < 1 or stride < 1:
        raise ConfigError(f"a clip of {frames} frames, {stride} apart; expected whole numbers of at least 1")
    if not 0 <= at <= 1:
        raise ConfigError(f"a clip start of at={at}; expected a share of the latest start, 0 to 1")
    if total < 1:
        raise DataError("a video without frames has no clips")

    spare = max(0, total - (frames - 1) * stride - 1)
    if start is None:
        start = pick_index(at if generator is None else float(torch.rand((), generator=generator)), spare + 1)
    if not isinstance(start, Integral) or not 0 <= start < total:
        raise DataError(f"a clip that starts at frame {start} of {total}; frames are counted from 0")
    return np.minimum(start + stride * np.arange(frames), total - 1)


def read_frames(
    video: VideoFile, frames: Sequence[int] | NDArray, size: Size | None = None, threads: int = 1
) -> Tensor:
    """Decode frames of a video file, upright as a player shows them.

    Decoding starts at the key frame before the first frame and ends at the last.

    Args:
        video: the file, from `probe`.
        frames: (T,) frame numbers, in any order and with repetitions.
        size: (height, width) to which frames are scaled while they are decoded, or a function that returns it, given
            the height and width of a frame; None: not scaled.
        threads: decoder threads.

    Returns:
        (T, 3, H, W) uint8 RGB, in the order of `frames`.

    Raises:
        DataError: a frame does not exist, cannot be decoded, or has another size; names file and frame.
    """
    numbers = np.asarray(frames)
    if numbers.size and (numbers.dtype.kind not in "iu" or numbers.ndim != 1):
        raise DataError(f"{video.path}: frames {numbers.tolist()}; expected a flat list of whole numbers")
    numbers = numbers.astype(np.int64)
    wanted = np.unique(numbers)
    if not len(wanted) or wanted[0] < 0 or wanted[-1] >= len(video):
        raise DataError(f"{video.path} has frames 0–{len(video) - 1}; asked for {numbers.tolist() or 'none'}")

    for key in _find_start_points(video, int(wanted[0])):
        found = _decode(video, wanted, size, threads, key)
        if len(found) == len(wanted):
            break
    lost = [int(i) for i in wanted if int(i) not in found]
    if lost:
        raise DataError(f"{video.path}: frame {lost[0]} of {len(video)} cannot be decoded; the file is damaged there")

    shapes = {f.shape for f in found.values()}
    if len(shapes) > 1:
        raise DataError(f"{video.path}: frames differ in size: {sorted(shapes)}; give the size that they are scaled to")
    # Each frame is decoded once; `searchsorted` puts them into the order asked for, with repetitions.
    stack = np.stack([found[int(i)] for i in wanted])[np.searchsorted(wanted, numbers)]
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()


def _find_start_points(video: VideoFile, first: int) -> list[int | None]:
    """Timestamps from which to try decoding, in turn: the key frame before the first, then the beginning (None)."""
    if video.stamps is None:
        return [None]
    before = video.keys[video.keys <= video.stamps[first]]
    # In an open group of pictures the frames after a key frame refer to frames before it; then only decoding from the
    # beginning gives them.
    return [int(before[-1]), None] if len(before) else [None]


def _decode(video: VideoFile, wanted: NDArray, size: Size | None, threads: int, key: int | None) -> dict[int, NDArray]:
    """Frame number -> (H, W, 3), for the wanted frames that can be decoded from a key frame on."""
    found: dict[int, NDArray] = {}
    last = int(wanted[-1])
    with open_container(video.path) as container:
        stream = container.streams.video[0]
        # Threads by frame would return frames late, and keep decoding behind the last one that is wanted.
        stream.thread_type, stream.codec_context.thread_count = "SLICE", threads
        if key is not None:
            container.seek(key, stream=stream)
        for i, frame in enumerate(_decode_all(container, stream)):
            if frame is None:
                continue
            if video.stamps is not None:
                if frame.pts is None or frame.pts < video.stamps[0]:
                    continue
                i = int(np.searchsorted(video.stamps, frame.pts))
            if i > last:
                break
            # The frame is hidden by the edit list, or empty; `probe` did not count it.
            if video.stamps is not None and video.stamps[i] != frame.pts:
                continue
            if wanted[np.searchsorted(wanted, i)] == i and not frame.is_corrupt:
                found[i] = _to_pixels(frame, size)
            if i == last:
                break
    return found


def _decode_all(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; None for a packet that cannot be decoded, so that the frames after it keep their numbers."""
    for packet in container.demux(stream):
        frames = decode_packet(packet)
        yield from [None] if frames is None else frames


def _to_pixels(frame: Any, size: Size | None) -> NDArray:
    """(H, W, 3) RGB of a decoded frame, upright and scaled to `size`."""
    # Phones store upright video as a rotated stream; the rotation is metadata in degrees.
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    if callable(size):
        size = size(*((frame.width, frame.height) if turns % 2 else (frame.height, frame.width)))
    if size is None:
        pixels = frame.to_ndarray(format="rgb24")
    else:
        height, width = size if turns % 2 == 0 else size[::-1]
        pixels = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray()
    return np.rot90(pixels, turns)
