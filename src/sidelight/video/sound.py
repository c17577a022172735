"""Reads the sound tracks of video files, on the clock of their frames (extra `video`)."""

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
from sidelight.video.container import TICKS, VideoFile, decode_packet, open_container

LEAD = 2.5
"""Seconds that are decoded before a part, since the samples of a frame of sound depend on the frames before it."""
NOISY = ("aac", "ac3", "eac3")
"""Codecs whose decoder adds random noise, which depends on where decoding began."""
BLOCK = 60.0
"""Seconds after which decoding of such a track restarts, so that a part has the same noise as the whole track."""
GAP = 0.05
"""Seconds by which a timestamp may differ from the number of samples before it; more is a gap."""
LONGEST_GAP = 3600.0
"""Seconds; a longer gap is an error of the file's clock."""
FARTHEST = 1e7
"""Seconds; no seek goes beyond it, whatever the caller asked for."""
MARK = 1e-3
"""Seconds of precision with which a file marks the end of a track."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """A decoded frame of sound.

    Args:
        time: in seconds on the file's clock.
        samples: mean of the channels.
        resumed: whether packets that cannot be decoded came before it.
    """

    time: float
    samples: NDArray[np.float32]
    resumed: bool = False


@dataclass(eq=False)
class _Track:
    """The decoded part of a sound track.

    Args:
        head: first piece of the track.
        pieces: the decoded pieces, in order.
        tick: unit of the track's clock in seconds.
        codec: name of the codec.
        end: time in seconds at which the last packet ends, if decoding reached it; what the decoder returns behind it
            is padding.
    """

    head: _Piece
    pieces: list[_Piece]
    tick: float
    codec: str
    end: float | None = None


def read_sound(
    video: VideoFile, start: float = 0.0, seconds: float | None = None, modality: str = "audio"
) -> Recording:
    """Read a part of the sound track, as the mean of its channels.

    Reading a part gives the same samples as reading the whole track. A gap in the track becomes silence, with a
    warning.

    Args:
        video: the file, from `probe`.
        start: in seconds after the first frame.
        seconds: length of the part; None, or a length beyond the end of the track: all that is left.
        modality: name for errors.

    Returns:
        The recording, in unit "1" with full scale ±1. Its `start` is on the clock of `Video.times`, so `signals.cut`
        aligns it with other recordings; a track that begins after the first frame starts later than asked for.

    Raises:
        DataError: no sound track, no sound from `start` on, or a track that cannot be decoded.
        ConfigError: a start below 0, or a length that is not a finite number above 0.
    """
    check_part(str(video.path), start, seconds)
    if video.audio_rate is None:
        raise DataError(f"{video.path} has no sound track")
    rate = video.audio_rate
    # Sound and picture may begin apart; `zero` is the start of the sound on the clock of the frames.
    head = _decode_track(video, -np.inf, -np.inf)
    zero = head.head.time - video.origin
    first = max(0, round((start - zero) * rate))
    last = None if seconds is None else max(first, round((start + seconds - zero) * rate))
    block = round(BLOCK * rate) if head.codec in NOISY else None
    part, gaps = _read_samples(video, first, last, block)
    if not len(part):
        raise DataError(f"{video.path}: no sound from {start:g} s on; its video lasts {video.seconds:g} s")
    if gaps:
        lost = sum(n for _, n in gaps) / rate
        warnings.warn(
            f"{video.path}: its sound track has {len(gaps)} gap{'s' * (len(gaps) > 1)}, {lost:.2f} s in all, the first "
            f"at {zero + gaps[0][0] / rate:.2f} s; silence fills them",
            SidelightWarning,
            stacklevel=2,
        )
    return Recording(part, rate, "1", zero + first / rate, (), modality, str(video.path))


Gaps = list[tuple[int, int]]
"""(first sample, number of samples) of each gap."""


def _read_samples(
    video: VideoFile, first: int, last: int | None, block: int | None
) -> tuple[NDArray[np.float32], Gaps]:
    """Samples first … last − 1 of the track (fewer if it ends earlier), and the gaps among them."""
    if block is None:
        return _decode_samples(video, first, last, first)
    parts, gaps = [np.zeros(0, np.float32)], Gaps()
    while last is None or first < last:
        end = (first // block + 1) * block
        to = end if last is None else min(end, last)
        part, more = _decode_samples(video, first, to, first // block * block)
        parts.append(part)
        gaps += more
        if len(part) < to - first:
            break
        first = to
    return np.concatenate(parts), gaps


def _decode_samples(video: VideoFile, first: int, last: int | None, begin: int) -> tuple[NDArray[np.float32], Gaps]:
    """Samples first … last − 1, decoded in one run that starts `LEAD` seconds before sample `begin`."""
    rate = video.audio_rate
    assert rate is not None
    until = np.inf if last is None else last / rate + 2 * GAP
    track = _decode_track(video, begin / rate - LEAD, until)
    first_sample = _find_first_sample(track, rate)
    # If the seek ended at an unknown sample, or too late, count the samples from the beginning of the track.
    if first_sample is None or first_sample > max(0, begin - rate * LEAD / 2):
        track, first_sample = _decode_track(video, 0.0, until), 0
    samples, gaps = _join_pieces(video.path, track, first_sample, rate)
    if track.end is not None:
        samples = samples[: max(0, round((track.end - track.head.time) * rate) - first_sample)]
    part = samples[first - first_sample : None if last is None else last - first_sample]
    return part, [(at, n) for at, n in gaps if at + n > first and at < first + len(part)]


def _decode_track(video: VideoFile, begin: float, until: float) -> _Track:
    """Decode the track from before `begin` to after `until`, both in seconds after its first sample."""
    with open_container(video.path) as container:
        stream = container.streams.audio[0]
        tick = float(stream.time_base)
        ends = list[float]()
        pieces = _iter_pieces(container, stream, ends)
        head = next(pieces, None)
        if head is None:
            raise DataError(f"{video.path}: its sound track cannot be decoded")
        track = _Track(head, [], tick, stream.codec_context.name)
        if 0 < begin < FARTHEST:
            container.seek(int((head.time + begin) / tick), stream=stream)
            pieces = _iter_pieces(container, stream, ends)
        else:
            pieces = chain([head], pieces)
        for piece in pieces:
            if piece.time - head.time >= until:
                return track
            track.pieces.append(piece)
        # Only a clock that is finer than a sample gives the end to the sample.
        if ends and tick * stream.rate <= 1:
            track.end = max(ends)
            marked = ((stream.start_time or 0) + (stream.duration or 0)) * tick
            if stream.duration and marked < track.end - MARK:
                track.end = marked
    return track


def _iter_pieces(container: Any, stream: Any, ends: list[float]) -> Iterator[_Piece]:
    """Decode the frames of a sound track; appends the end of each packet to `ends`. Damaged packets leave a gap."""
    av = optional("av", "video", "reading video")
    made: dict[tuple[str, str, int], Any] = {}
    time, resumed = 0.0, False
    for packet in container.demux(stream):
        if packet.pts is not None and packet.duration and not packet.is_discard:
            ends.append(float((packet.pts + packet.duration) * packet.time_base))
        frames = decode_packet(packet)
        resumed = resumed or frames is None
        for frame in frames or ():
            time = time if frame.time is None else frame.time
            like = frame.format.name, frame.layout.name, frame.sample_rate
            if like not in made:
                made[like] = av.AudioResampler(format="fltp", layout=frame.layout, rate=stream.rate)
            # The resampler would take gaps between timestamps for an error; gaps are filled later.
            frame.pts = None
            parts = [part.to_ndarray().mean(0) for part in made[like].resample(frame)]
            if parts:
                yield _Piece(time, np.concatenate(parts).astype(np.float32), resumed)
                resumed = False
                time += sum(map(len, parts)) / stream.rate


def _find_first_sample(track: _Track, rate: float) -> int | None:
    """Number of the first decoded sample in the track; None if it cannot be determined."""
    if not track.pieces:
        return None
    first, head = track.pieces[0], track.head
    about = (first.time - head.time) * rate
    if first is head or track.tick * rate <= 1:
        return round(about)
    sizes = {len(piece.samples) for piece in track.pieces[:-1]}
    if len(sizes) != 1:
        return None
    # A clock in milliseconds is too coarse for samples; frames of one size give the number by division.
    size = sizes.pop()
    exact = len(head.samples) + size * round((about - len(head.samples)) / size)
    return exact if abs(exact - about) <= 1.5 * track.tick * rate else round(about)


def _join_pieces(path: Path, track: _Track, first_sample: int, rate: float) -> tuple[NDArray[np.float32], Gaps]:
    """Join the pieces, each at its own time, and fill the gaps with silence; returns the samples and the gaps."""
    parts, gaps, position = [np.zeros(0, np.float32)], Gaps(), first_sample
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
