"""Sound files as recordings (extra `audio`)."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from sidelight.errors import ConfigError, DataError
from sidelight.extras import optional
from sidelight.signals.recording import Recording

STREAMED = (0, 0xFFFFFFFF)
"""Sizes in a header that was written before the length was known."""


def read_audio(
    path: str | Path,
    *,
    rate: float | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    modality: str = "audio",
) -> Recording:
    """A wav, flac, ogg or mp3 file as one channel, the mean of its channels; unit "1", full scale at ±1.

    rate: the declared sampling rate in Hz; a file of another is refused (resample it with `Recording.resampled`).
    start, seconds: the part to read; the recording's `start` says where it lay. Raises DataError, naming the file, for
    one that is missing, truncated, empty, of another rate, shorter than asked or not finite; RunError without
    soundfile.
    """
    path = Path(path)
    soundfile = optional("soundfile", "audio", "reading sound files")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    if start < 0 or (seconds is not None and seconds <= 0):
        raise ConfigError(f"{path}: start {start} s, {seconds} seconds; expected start >= 0 and seconds > 0")
    _check_whole(path)
    try:
        with soundfile.SoundFile(path) as file:
            total, found = file.frames, float(file.samplerate)
            first = round(start * found)
            count = total - first if seconds is None else round(seconds * found)
            if 0 < count <= total - first:
                file.seek(first)
                samples = file.read(count, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise DataError(f"cannot read {path}: truncated or no sound file ({error.error_string})") from None
    if not total:
        raise DataError(f"{path} holds no samples")
    if rate is not None and found != rate:
        raise DataError(
            f"{path}: modality {modality!r} is sampled at {found:g} Hz, but {rate:g} Hz is declared; declare its own "
            "rate and resample it"
        )
    if count <= 0 or first + count > total:
        raise DataError(
            f"{path} lasts {total / found:g} s; asked for {'the rest' if seconds is None else f'{seconds:g} s'} from "
            f"{start:g} s on"
        )
    if len(samples) < count:
        raise DataError(f"{path} is truncated: {first + len(samples)} of {total} samples can be read")
    return Recording(np.mean(samples, 1), found, "1", first / found, (), modality, str(path))


def _check_whole(path: Path) -> None:
    """Raises DataError for a wav file that is shorter than its header says; libsndfile would read what is there."""
    with path.open("rb") as file:
        head = file.read(12)
        if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        size, there = struct.unpack("<I", head[4:8])[0], path.stat().st_size
    if size not in STREAMED and there < size + 8:
        raise DataError(f"{path} is truncated: {there} of {size + 8} bytes are there")
