"""Reads sound files as recordings (extra `audio`)."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError
from sidelight.signals.recording import Recording, check_part
from sidelight.utils.extras import optional
from sidelight.utils.files import check_file, describe_content
from sidelight.utils.images import take_channels

STREAMED = (0, 0xFFFFFFFF)
"""Sizes in a header that was written before the length was known, as streaming programs do."""
DEPENDENT = ("MP3", "MPEG", "OGG")
"""Formats in which decoding a frame needs the frames before it."""
LEAD = 64 * 1152
"""Samples that are decoded before a part: an MP3 frame refers to at most 511 bytes before it, 40 small frames."""
PAGE, LARGEST_PAGE = b"OggS", 65307
"""First bytes of a page of an Ogg file, and the largest size of a page in bytes (RFC 3533)."""


def read_audio(
    path: str | Path,
    *,
    rate: float | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    modality: str = "audio",
    channels: Sequence[int] = (),
) -> Recording:
    """Read a wav, flac, ogg or mp3 file as one channel, the mean of its channels.

    Reading a part gives the same samples as reading the whole file.

    Args:
        path: the file.
        rate: declared sampling rate in Hz; a file of another rate is refused. None: any rate. `Recording.resample`
            changes the rate afterwards.
        start: where the part begins, in seconds.
        seconds: length of the part; None: all that is left.
        modality: name for errors.
        channels: numbers of the channels to read, from 0; (): their mean.

    Returns:
        The recording, (T, 1), or (T, C) for C `channels`, in unit "1" with full scale ±1; its `start` is the position
        of the part in the file.

    Raises:
        DataError: the file is missing, truncated, empty, of another rate, shorter than asked for or not finite.
        ConfigError: a rate or length that is not a finite number above 0, or a start below 0.
        RunError: soundfile is not installed.
    """
    path = Path(path)
    soundfile = optional("soundfile", "audio", "reading sound files")
    check_file(path)
    check_part(str(path), start, seconds)
    if rate is not None and not 0 < rate < math.inf:
        raise ConfigError(f"{path}: a declared sampling rate of {rate} Hz; expected more than 0, or None for any")
    _check_whole(path)
    try:
        with soundfile.SoundFile(path) as file:
            total, found = file.frames, float(file.samplerate)
            first = round(start * found)
            count = total - first if seconds is None else round(seconds * found)
            if 0 < count <= total - first:
                samples = _read(file, path, first, count)
    except soundfile.LibsndfileError as error:
        reason = describe_content(path, path.suffix) or f"truncated or no sound file ({error.error_string})"
        raise DataError(f"cannot read {path}: {reason}") from None

    # What was read is judged after the file is closed: its own faults first, then the part asked for.
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
    values = take_channels(samples, 1, channels, str(path)) if len(channels) else np.mean(samples, 1)
    return Recording(values, found, "1", first / found, (), modality, str(path))


def _read(file: Any, path: Path, first: int, count: int) -> NDArray[np.float32]:
    """Read (count, C) samples from `first` on, as decoding the whole file gives them; fewer if the file ends earlier.

    The samples of a frame of MP3, Vorbis or Opus depend on the frames before it, so reading begins `LEAD` samples
    before the part; these are cut off.
    """
    begin = max(0, int(min(first, _last_page(path))) - LEAD) if file.format in DEPENDENT else first
    file.seek(begin)
    # In one call: libsndfile 1.2.2 gives wrong samples of Opus if a call begins inside the last frame.
    return np.asarray(file.read(first - begin + count, dtype="float32", always_2d=True)[first - begin :])


def _last_page(path: Path) -> float:
    """First sample of the last page of an Ogg file; infinity for other files.

    Seeking into that page, libsndfile 1.2.2 ends too late, by the number of samples that were trimmed from the page.
    """
    tail, last, before = _last_pages(path)
    if last < 0:
        return math.inf
    # The header of a page counts the samples up to its end; -1 means that no packet ends in the page.
    return float(max(0, struct.unpack_from("<q", tail, before + 6)[0])) if before >= 0 else 0.0


def _last_pages(path: Path) -> tuple[bytes, int, int]:
    """(end of an Ogg file, start of its last page in it, start of the page before); −1 if there is no such page."""
    with path.open("rb") as file:
        if file.read(4) != PAGE:
            return b"", -1, -1
        file.seek(max(0, path.stat().st_size - 2 * LARGEST_PAGE))
        tail = file.read()
    last = tail.rfind(PAGE)
    return tail, last, tail.rfind(PAGE, 0, max(0, last))


def _check_whole(path: Path) -> None:
    """Raise DataError for a wav or Ogg file that ends early; libsndfile would read the rest without an error."""
    there = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] == PAGE:
        tail, at, _ = _last_pages(path)
        segments = tail[at + 26] if at + 26 < len(tail) else 0
        sizes = tail[at + 27 : at + 27 + segments]
        if at < 0 or not segments or len(sizes) < segments or at + 27 + segments + sum(sizes) > len(tail):
            raise DataError(f"{path} is truncated: its last page is cut off")
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return
    # The RIFF header gives the size of what follows its first 8 bytes.
    size = struct.unpack("<I", head[4:8])[0]
    if size not in STREAMED and there < size + 8:
        raise DataError(f"{path} is truncated: {there} of {size + 8} bytes are there")
