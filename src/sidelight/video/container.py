"""Counts and times the frames of a video file by its packets (extra `video`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.utils.extras import optional
from sidelight.utils.files import check_file, describe_content
from sidelight.video.mpeg4 import EmptyFrames

TICKS = 2
"""Ticks of a file's clock by which rounding may move a time."""


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoFile:
    """The frames and the sound track of a video file; built by `probe`, small and picklable.

    Count, times and numbers leave out the frames that no player shows: those outside the marks of a trimmed video (its
    edit list), those before the first that can be decoded, and MPEG-4's empty ones.

    Args:
        path: the file.
        rate: average frames per second, pauses and dropped frames included.
        step: usual time from one frame to the next in seconds.
        height: in pixels as stored, before any rotation.
        width: in pixels as stored, before any rotation.
        times: (N,) time of each frame in seconds after the first.
        audio_rate: in Hz; None without a sound track.
        origin: time of the first frame in seconds on the file's own clock.
        stamps: (N,) the file's own timestamps, ascending; None if they cannot be trusted.
        keys: (K,) timestamps of the frames from which decoding can start, shown or not.
    """

    path: Path
    rate: float
    step: float
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
        """Time from the first frame to the end of the last."""
        return float(self.times[-1]) + self.step


@dataclass
class _Packets:
    """The video packets of a file in decoding order.

    Args:
        pts: presentation timestamps of the shown packets.
        dts: decoding timestamps of the shown packets.
        keys: pts of the key frames, shown or not.
        found: number of packets, shown or not.
        first: pts of the first packet, and whether it is a key frame.
        end: time in seconds at which the last shown packet of any stream ends.
    """

    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    found: int = 0
    first: tuple[int | None, bool] = (None, True)
    end: float = 0.0

    def add(self, packet: Any, holds_frame: bool) -> None:
        if not self.found:
            self.first = packet.pts, packet.is_keyframe
        self.found += 1
        if packet.is_keyframe and packet.pts is not None:
            self.keys.append(packet.pts)
        if holds_frame and not packet.is_discard:
            self.pts.append(packet.pts)
            self.dts.append(packet.dts)


def probe(path: str | Path) -> VideoFile:
    """Count and time the frames of a video file by its packets, since headers are often wrong.

    Raises:
        DataError: the file is missing, damaged, truncated, or has no video or no frames; names the file.
        RunError: PyAV is not installed.
    """
    path = Path(path)
    with open_container(path) as container:
        if not container.streams.video:
            raise DataError(f"{path} has no video stream")
        stream = container.streams.video[0]
        sound = container.streams.audio[0] if container.streams.audio else None
        packets = _Packets()
        header = stream.codec_context.extradata
        empty = EmptyFrames(header or b"") if stream.codec_context.name == "mpeg4" else None
        for packet in container.demux():
            at = packet.dts if packet.pts is None else packet.pts
            if not packet.size:  # PyAV ends each stream with an empty packet
                continue
            if packet.stream.index == stream.index:
                packets.add(packet, empty is None or not empty(memoryview(packet)))
            if not packet.is_discard and at is not None:
                packets.end = max(packets.end, float((at + (packet.duration or 0)) * packet.time_base))
        nominal = float(stream.average_rate or stream.guessed_rate or 0)
        tick, avi = float(stream.time_base), "avi" in container.format.name
        # The header counts dropped and hidden frames too, so the file is whole if its last packet ends in time.
        whole = packets.end >= (container.duration or 0) / 1e6 - 1.5 * tick - 1e-3
        if avi:  # an AVI's decoding timestamps number its frames, dropped ones included
            whole = max((d for d in packets.dts if d is not None), default=-1) + 1 >= stream.frames
        _check_whole(path, packets, 0 if whole else stream.frames, (container.duration or 0) / 1e6)
        codec = stream.codec_context
        height, width, audio_rate = codec.height, codec.width, float(sound.rate) if sound else None

    known = np.unique(np.array([p for p in packets.pts if p is not None], np.int64))
    stamps: NDArray | None = None
    keys = np.zeros(0, np.int64)
    if avi or len(known) < len(packets.pts):
        # An AVI stores decoding timestamps only, which are not those at which frames are shown.
        begin = [d for d in packets.dts if d is not None] if avi or not len(known) else known.tolist()
        origin, times = float(begin[0]) * tick if begin else 0.0, _decoding_times(path, packets.dts, nominal, tick)
    else:
        first, is_key = packets.first
        # A file cut from a longer one may begin between key frames: the frames before its first one cannot be decoded.
        if not is_key or first is None or known[0] < first:
            known = known[known >= min(_first_decodable(path), known[-1])]
        stamps, keys = known, np.array(sorted(packets.keys), np.int64)
        origin, times = float(known[0]) * tick, (known - known[0]) * tick
    rate, step = _estimate_rates(times, nominal, tick)
    return VideoFile(
        path=path,
        rate=rate,
        step=step,
        height=height,
        width=width,
        times=times,
        audio_rate=audio_rate,
        origin=origin,
        stamps=stamps,
        keys=keys,
    )


def _check_whole(path: Path, packets: _Packets, declared: int, seconds: float) -> None:
    """Raise DataError for a file without frames, or one that ends before its header says."""
    if not packets.pts:
        hidden = f": its edit list hides all {packets.found}" if packets.found else ""
        raise DataError(f"{path} holds no frames{hidden}")
    if all(at is None for at in (*packets.pts, *packets.dts)):
        raise DataError(
            f"{path}: its {len(packets.pts)} frames have no times; it is a bare stream. Put it into a file with times, "
            "at its true rate: ffmpeg -r RATE -i FILE -c copy OUT.mp4"
        )
    # Headers of intact files are a little off too: 2 % of the frames, or half a second, may be missing.
    if packets.found < declared - max(2, declared // 50):
        raise DataError(f"{path} is truncated: {packets.found} of {declared} frames are there")
    if packets.end < seconds - max(0.5, 0.02 * seconds):
        raise DataError(f"{path} is truncated: {packets.end:.2f} s of {seconds:.2f} s are there")


def _estimate_rates(times: NDArray, nominal: float, tick: float) -> tuple[float, float]:
    """(average rate, usual step); the header's exact rate if the times agree with it up to rounding."""
    if len(times) == 1:
        rate = nominal or 1.0
        return rate, 1 / rate
    step = float(np.median(np.diff(times)))
    if nominal and abs(step - 1 / nominal) <= TICKS * tick:
        step = 1 / nominal
    seconds = float(times[-1] - times[0]) + step
    if nominal and abs(len(times) / nominal - seconds) <= TICKS * tick:
        return nominal, step
    return len(times) / seconds, step


def _decoding_times(path: Path, dts: list[int | None], nominal: float, tick: float) -> NDArray[np.float64]:
    """(N,) times of the frames in seconds after the first, from the times at which packets are decoded.

    Frame i comes out of the decoder with packet i + delay. If the decoding times do not rise, or are not all known,
    frames are spaced evenly at the nominal rate.
    """
    stamps = np.array([d for d in dts if d is not None], np.int64)
    steps = np.diff(stamps)
    if len(stamps) < len(dts) or not (steps > 0).all():
        if not nominal:
            raise DataError(f"{path} has neither times of its frames nor a frame rate")
        return np.arange(len(dts)) / nominal
    if nominal and (steps == 1 / (nominal * tick)).all():
        return np.arange(len(dts)) / nominal
    # The last `delay` frames come out after the last packet; they go on at the usual step.
    step = int(np.median(steps))
    delay = _decoder_delay(path)
    shown = np.concatenate([stamps[delay:], stamps[-1] + step * np.arange(1, delay + 1)])
    return np.asarray((shown - shown[0]) * tick, np.float64)


def _decoder_delay(path: Path) -> int:
    """Number of packets that the decoder takes in before the packet with which the first frame comes out."""
    with open_container(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
        taken = 0
        for packet in container.demux(stream):
            if decode_packet(packet):
                return taken
            taken += bool(packet.size)
    return 0


def _first_decodable(path: Path) -> int:
    """Timestamp of the first frame that can be decoded, for a file that does not begin with a key frame."""
    with open_container(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
        for packet in container.demux(stream):
            for frame in decode_packet(packet) or ():
                if frame.pts is not None and not frame.is_corrupt:
                    return int(frame.pts)
    raise DataError(f"{path}: no frame can be decoded; it has no key frame, or is damaged")


def decode_packet(packet: Any) -> list[Any] | None:
    """Decode the frames that a packet completes; None if it cannot be decoded."""
    errors = optional("av", "video", "reading video").error
    try:
        return list(packet.decode())
    except errors.InvalidDataError:
        return None
    except errors.EOFError:  # how some sound decoders end
        return []


@contextmanager
def open_container(path: Path) -> Iterator[Any]:
    """Open a media file; every error of the decoder becomes a DataError that names the file."""
    av = optional("av", "video", "reading video")
    check_file(path)
    try:
        with av.open(str(path)) as container:
            yield container
    except av.error.FFmpegError as error:
        reason = describe_content(path, path.suffix)
        why = reason or f"truncated, damaged or no video ({error.strerror or type(error).__name__})"
        raise DataError(f"cannot read {path}: {why}") from error
