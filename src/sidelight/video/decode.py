"""Video files: which frames there are, clips of them, and the sound track (extra `video`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import ConfigError, DataError
from sidelight.extras import optional
from sidelight.signals.recording import Recording
from sidelight.video.look import between

Size = tuple[int, int] | Callable[[int, int], tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Video:
    """What is in a video file, read from its packets without decoding any; made by `probe`, small and picklable.

    rate: frames a second, on average. height, width: as stored, before any rotation. times: (N,) seconds of each frame
    after the first. stamps: (N,) the file's own timestamps, rising; None where it has none to be trusted. keys: (K,)
    stamps of the frames that decoding can start from. audio_rate: in Hz; None without a sound track. origin: seconds
    of the first frame on the file's own clock.
    """

    path: Path
    rate: float
    height: int
    width: int
    times: NDArray
    audio_rate: float | None
    origin: float = 0.0
    stamps: NDArray | None = field(default=None, repr=False)
    keys: NDArray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        """From the first frame to the end of the last."""
        return float(self.times[-1]) + 1 / self.rate


def probe(path: str | Path) -> Video:
    """The frames and sound track of a video file, counted, not taken from its header.

    Raises DataError, naming the file, for one that is missing, damaged, truncated, without video or without frames;
    RunError without PyAV.
    """
    path = Path(path)
    with _opened(path) as container:
        if not container.streams.video:
            raise DataError(f"{path} has no video stream")
        stream = container.streams.video[0]
        sound = container.streams.audio[0] if container.streams.audio else None
        stamps: list[int | None] = []
        keys, end = [], 0.0
        for packet in container.demux():
            if not packet.size or (packet.dts is None and packet.pts is None):
                continue
            at = packet.dts if packet.pts is None else packet.pts
            end = max(end, float((at + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index == stream.index:
                stamps.append(packet.pts)
                if packet.is_keyframe and packet.pts is not None:
                    keys.append(packet.pts)
        _check_whole(path, len(stamps), stream.frames, end, (container.duration or 0) / 1e6)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        if rate <= 0:
            raise DataError(f"{path} does not say how many frames a second it has")
        known = np.unique(np.array([s for s in stamps if s is not None], np.int64))
        base, audio_rate = float(stream.time_base), float(sound.rate) if sound else None
        avi = "avi" in container.format.name
        height, width = stream.codec_context.height, stream.codec_context.width
    if avi or len(known) < len(stamps):  # an AVI's frames have an order; their times are guesses, wrong for B-frames
        return Video(path, rate, height, width, np.arange(len(stamps)) / rate, audio_rate)
    times = (known - known[0]) * base
    return Video(
        path,
        rate,
        height,
        width,
        times,
        audio_rate,
        known[0] * base,
        known,
        np.array(sorted(keys), np.int64),
    )


def _check_whole(path: Path, found: int, declared: int, end: float, seconds: float) -> None:
    if not found:
        raise DataError(f"{path} holds no frames")
    if found < declared - max(2, declared // 50):
        raise DataError(f"{path} is truncated: {found} of {declared} frames are there")
    if end < seconds - max(0.5, 0.02 * seconds):
        raise DataError(f"{path} is truncated: {end:.2f} s of {seconds:.2f} s are there")


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
    if frames < 1 or stride < 1:
        raise ConfigError(f"a clip of {frames} frames, {stride} apart; expected at least 1 of both")
    if total < 1:
        raise DataError("a video without frames has no clips")
    spare = max(0, total - (frames - 1) * stride - 1)
    if start is None:
        start = between(at if generator is None else float(torch.rand((), generator=generator)), spare + 1)
    if not 0 <= start < total:
        raise DataError(f"a clip that starts at frame {start} of {total}; frames are counted from 0")
    return np.minimum(start + stride * np.arange(frames), total - 1)


def read_frames(video: Video, frames: Sequence[int] | NDArray, size: Size | None = None, threads: int = 1) -> Tensor:
    """(T, 3, H, W) uint8 RGB of the frames of these numbers, in their order; upright as a player would show them.

    Decoding starts at the key frame before the first and ends at the last. size: (height, width) to which each is
    scaled while it is decoded, or a function that returns it for a frame's own. Raises DataError, naming file and
    frame, for one that does not exist or cannot be decoded.
    """
    numbers = np.asarray(frames, np.int64)
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


def _starts(video: Video, first: int) -> list[int | None]:
    """Where to start decoding, to be tried in turn: the key frame before the first, and the beginning (None)."""
    if video.stamps is None or not len(before := video.keys[video.keys <= video.stamps[first]]):
        return [None]
    return [int(before[-1]), None]


def _decode(video: Video, wanted: NDArray, size: Size | None, threads: int, key: int | None) -> dict[int, NDArray]:
    """The wanted frames that can be decoded from a key frame on, (H, W, 3) by number."""
    found: dict[int, NDArray] = {}
    last = int(wanted[-1])
    with _opened(video.path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "SLICE", threads
        if key is not None:
            container.seek(key, stream=stream)
        for i, frame in enumerate(_decoded(container, stream)):
            if frame is None:
                continue
            if video.stamps is not None:
                i = int(np.searchsorted(video.stamps, frame.pts or 0))
            if i > last:
                break
            if wanted[np.searchsorted(wanted, i)] == i and not frame.is_corrupt:
                found[i] = _pixels(frame, size)
            if i == last:
                break
    return found


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; None for a packet that cannot be decoded, so that frames which are counted keep their numbers."""
    errors = optional("av", "video", "reading video").error
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except errors.InvalidDataError:
            yield None
        except errors.EOFError:  # some sound decoders end so
            return


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


def read_sound(video: Video, start: float = 0.0, seconds: float | None = None, modality: str = "audio") -> Recording:
    """The sound track from `start` (seconds after the first frame) on, as the mean of its channels.

    Its unit is "1", full scale ±1. The recording's `start` is on the clock of `Video.times`, so `signals.cut` aligns it
    with what else was filmed; a track that begins after the first frame starts there. Raises DataError without a sound
    track, or where it cannot be decoded.
    """
    if video.audio_rate is None:
        raise DataError(f"{video.path} has no sound track")
    av = optional("av", "video", "reading video")
    parts: list[NDArray] = []
    first: float | None = None
    until = np.inf if seconds is None else start + seconds
    with _opened(video.path) as container:
        stream = container.streams.audio[0]
        if start > 1:
            container.seek(int((start - 0.5 + video.origin) / stream.time_base), stream=stream)
        same = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
        for frame in _decoded(container, stream):
            if frame is None:
                continue
            if frame.time is not None and frame.time - video.origin >= until:
                break
            if first is None:
                first = (frame.time or 0.0) - video.origin
            frame.pts = None
            parts += [part.to_ndarray().mean(0) for part in same.resample(frame)]
    rate, first = video.audio_rate, first or 0.0
    samples = np.concatenate([np.zeros(0), *parts]).astype(np.float32)
    skip = max(0, round((start - first) * rate))
    samples = samples[skip : None if seconds is None else max(0, round((until - first) * rate))]
    if not len(samples):
        raise DataError(f"{video.path}: no sound from {start:g} s on; its video lasts {video.seconds:g} s")
    return Recording(samples, rate, "1", first + skip / rate, (), modality, str(video.path))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, opened; every error of the decoder becomes a DataError that names it."""
    av = optional("av", "video", "reading video")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        with av.open(str(path)) as container:
            yield container
    except av.error.FFmpegError as error:
        why = error.strerror or type(error).__name__
        raise DataError(f"cannot read {path}: truncated, damaged or no video ({why})") from error
