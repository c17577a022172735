"""The sound tracks of video files, on the clock of their frames (extra `video`)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError, SidelightWarning
from sidelight.signals.recording import Recording, check_part
from sidelight.utils.extras import optional
from sidelight.video.container import TICKS, VideoFile, decoded, opened

LEAD = 2.5
"""Seconds that are decoded before a part: what a frame of sound decodes to depends on those before it."""
NOISY = ("aac", "ac3", "eac3")
"""Codecs that leave noise to the decoder, which draws it anew from wherever decoding began."""
BLOCK = 60.0
"""Seconds after which the decoder of such a track begins anew, so that a part has the noise of the whole."""
GAP = 0.05
"""Seconds by which timestamps may stray from the samples before them; more is a gap."""
LONGEST_GAP = 3600.0
"""Seconds; a longer one is a clock that jumps."""
FARTHEST = 1e7
"""Seconds; no file is sought beyond."""
MARK = 1e-3
"""Seconds to which the end of a track is marked in its file."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """A decoded frame of sound: its time in seconds on the file's clock, and the mean of its channels.

    resumed: it follows packets that cannot be decoded.
    """

    time: float
    samples: NDArray[np.float32]
    resumed: bool = False


@dataclass(eq=False)
class _Track:
    """What was decoded of a sound track.

    head: its first piece. pieces: those that were asked for, in order. tick: the unit of its clock in seconds. codec:
    its name. end: seconds at which its last packet ends by the file, if it was reached: what the decoder returns
    behind it is padding.
    """

    head: _Piece
    pieces: list[_Piece]
    tick: float
    codec: str
    end: float | None = None


def read_sound(
    video: VideoFile, start: float = 0.0, seconds: float | None = None, modality: str = "audio"
) -> Recording:
    """The sound track from `start` (seconds after the first frame) on, as the mean of its channels.

    Its unit is "1", full scale ±1. A part's samples are those that reading the whole track gives. The recording's
    `start` is on the clock of `Video.times`, so `signals.cut` aligns it with what else was filmed; a track that begins
    after the first frame starts there. Where the track has a gap there is silence, and a warning.

    Args:
        video: the file, from `probe`.
        start: seconds after the first frame.
        seconds: how long the part is; None, or behind the track's end: all that is left.
        modality: how errors call it.

    Raises:
        DataError: no sound track, none from `start` on, or one that cannot be decoded.
        ConfigError: a start below 0, a length that is not above 0, or one that is no finite number.
    """
    check_part(str(video.path), start, seconds)
    if video.audio_rate is None:
        raise DataError(f"{video.path} has no sound track")
    rate = video.audio_rate
    head = _decode(video, -np.inf, -np.inf)
    zero = head.head.time - video.origin
    first = max(0, round((start - zero) * rate))
    last = None if seconds is None else max(first, round((start + seconds - zero) * rate))
    block = round(BLOCK * rate) if head.codec in NOISY else None
    part, gaps = _samples(video, first, last, block)
    if not len(part):
        raise DataError(f"{video.path}: no sound from {start:g} s on; its video lasts {video.seconds:g} s")
    if gaps:
        lost = sum(n for _, n in gaps) / rate
        warnings.warn(
            f"{video.path}: its sound track has {len(gaps)} gap{'s' * (len(gaps) > 1)}, {lost:.2f} s in all, the first "
            f"at {zero + gaps[0][0] / rate:.2f} s; silence stands there",
            SidelightWarning,
            stacklevel=2,
        )
    return Recording(part, rate, "1", zero + first / rate, (), modality, str(video.path))


Gaps = list[tuple[int, int]]
"""The first sample of each, and how many."""


def _samples(video: VideoFile, first: int, last: int | None, block: int | None) -> tuple[NDArray[np.float32], Gaps]:
    """The samples first … last − 1 of the track, fewer where it ends before, and the gaps among them."""
    if block is None:
        return _run(video, first, last, first)
    parts, gaps = [np.zeros(0, np.float32)], Gaps()
    while last is None or first < last:
        end = (first // block + 1) * block
        to = end if last is None else min(end, last)
        part, more = _run(video, first, to, first // block * block)
        parts.append(part)
        gaps += more
        if len(part) < to - first:
            break
        first = to
    return np.concatenate(parts), gaps


def _run(video: VideoFile, first: int, last: int | None, begin: int) -> tuple[NDArray[np.float32], Gaps]:
    """The samples first … last − 1, decoded in one run from `LEAD` seconds before sample `begin` on."""
    rate = video.audio_rate
    assert rate is not None
    until = np.inf if last is None else last / rate + 2 * GAP
    track = _decode(video, begin / rate - LEAD, until)
    landed = _landed(track, rate)
    if landed is None or landed > max(0, begin - rate * LEAD / 2):  # cannot be counted from there on
        track, landed = _decode(video, 0.0, until), 0
    samples, gaps = _joined(video.path, track, landed, rate)
    if track.end is not None:
        samples = samples[: max(0, round((track.end - track.head.time) * rate) - landed)]
    part = samples[first - landed : None if last is None else last - landed]
    return part, [(at, n) for at, n in gaps if at + n > first and at < first + len(part)]


def _decode(video: VideoFile, begin: float, until: float) -> _Track:
    """The pieces of the track from before `begin` to behind `until`, both in seconds after its first sample."""
    with opened(video.path) as container:
        stream = container.streams.audio[0]
        tick = float(stream.time_base)
        ends = list[float]()
        pieces = _pieces(container, stream, ends)
        head = next(pieces, None)
        if head is None:
            raise DataError(f"{video.path}: its sound track cannot be decoded")
        track = _Track(head, [], tick, stream.codec_context.name)
        if 0 < begin < FARTHEST:
            container.seek(int((head.time + begin) / tick), stream=stream)
            pieces = _pieces(container, stream, ends)
        else:
            pieces = chain([head], pieces)
        for piece in pieces:
            if piece.time - head.time >= until:
                return track
            track.pieces.append(piece)
        if ends and tick * stream.rate <= 1:  # the file's clock is finer than a sample
            track.end = max(ends)
            marked = ((stream.start_time or 0) + (stream.duration or 0)) * tick
            if stream.duration and marked < track.end - MARK:
                track.end = marked
    return track


def _pieces(container: Any, stream: Any, ends: list[float]) -> Iterator[_Piece]:
    """The decoded frames of a sound track; the ends of its packets go to `ends`. Damaged packets leave a gap."""
    av = optional("av", "video", "reading video")
    made: dict[tuple[str, str, int], Any] = {}
    time, resumed = 0.0, False
    for packet in container.demux(stream):
        if packet.pts is not None and packet.duration and not packet.is_discard:
            ends.append(float((packet.pts + packet.duration) * packet.time_base))
        frames = decoded(packet)
        resumed = resumed or frames is None
        for frame in frames or ():
            time = time if frame.time is None else frame.time
            like = frame.format.name, frame.layout.name, frame.sample_rate
            if like not in made:
                made[like] = av.AudioResampler(format="fltp", layout=frame.layout, rate=stream.rate)
            frame.pts = None
            parts = [part.to_ndarray().mean(0) for part in made[like].resample(frame)]
            if parts:
                yield _Piece(time, np.concatenate(parts).astype(np.float32), resumed)
                resumed = False
                time += sum(map(len, parts)) / stream.rate


def _landed(track: _Track, rate: float) -> int | None:
    """Which sample of the track is the first that was decoded; None where that cannot be told."""
    if not track.pieces:
        return None
    first, head = track.pieces[0], track.head
    about = (first.time - head.time) * rate
    if first is head or track.tick * rate <= 1:
        return round(about)
    sizes = {len(piece.samples) for piece in track.pieces[:-1]}
    if len(sizes) != 1:
        return None
    # a clock in milliseconds does not tell the sample, but frames of one size do
    size = sizes.pop()
    exact = len(head.samples) + size * round((about - len(head.samples)) / size)
    return exact if abs(exact - about) <= 1.5 * track.tick * rate else round(about)


def _joined(path: Path, track: _Track, landed: int, rate: float) -> tuple[NDArray[np.float32], Gaps]:
    """The samples from the first piece on, each where its time says, and the gaps, which are silent."""
    parts, gaps, position = [np.zeros(0, np.float32)], Gaps(), landed
    for piece in track.pieces:
        most = rate * (TICKS * track.tick if piece.resumed else GAP)
        at, samples = round((piece.time - track.head.time) * rate), piece.samples
        if at - position > LONGEST_GAP * rate:
            raise DataError(
                f"{path}: its sound jumps from {position / rate:.2f} s to {at / rate:.2f} s; its clock is damaged"
            )
        if at - position > most:
            gaps.append((position, at - position))
            parts.append(np.zeros(at - position, np.float32))
            position = at
        elif position - at > most:
            samples = samples[position - at :]
        parts.append(samples)
        position += len(samples)
    return np.concatenate(parts), gaps
