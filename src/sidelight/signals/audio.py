"""Sound files as recordings (extra `audio`)."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError
from sidelight.signals.recording import Recording, check_part
from sidelight.utils.extras import optional
from sidelight.utils.files import check_file, told_by_content

STREAMED = (0, 0xFFFFFFFF)
"""Sizes in a header that was written before the length was known."""
DEPENDENT = ("MP3", "MPEG", "OGG")
"""Formats whose frames need those before them."""
LEAD = 64 * 1152
"""Samples decoded before a part: an MP3 frame refers to at most 511 bytes before it, which are 40 small frames."""
PAGE, LARGEST_PAGE = b"OggS", 65307
"""What a page of an Ogg file begins with, and its bytes at most."""


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
    start, seconds: the part to read, None: all that is left; its samples are those that reading the whole file gives,
    and the recording's `start` says where they lay. Raises DataError, naming the file, for one that is missing,
    truncated, empty, of another rate, shorter than asked or not finite; ConfigError for a rate or times that are no
    numbers above 0; RunError without soundfile.
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
        told = told_by_content(path, path.suffix) or f"truncated or no sound file ({error.error_string})"
        raise DataError(f"cannot read {path}: {told}") from None
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


def _read(file: Any, path: Path, first: int, count: int) -> NDArray[np.float32]:
    """(count, C) samples from the first on, as decoding the whole file gives them; fewer where it ends before.

    What a frame of MP3, Vorbis or Opus decodes to depends on those before it: such files are read from `LEAD` samples
    before the part, which are then cut off.
    """
    begin = max(0, int(min(first, _last_page(path))) - LEAD) if file.format in DEPENDENT else first
    file.seek(begin)
    # in one call: of Opus, libsndfile (1.2.2) gives wrong samples where a call begins inside the last frame
    return np.asarray(file.read(first - begin + count, dtype="float32", always_2d=True)[first - begin :])


def _last_page(path: Path) -> float:
    """The first sample of the last page of an Ogg file, infinite in other files.

    libsndfile (1.2.2) lands late when it seeks into that page, by as many samples as the page's count was cut.
    """
    tail, last, before = _last_pages(path)
    if last < 0:
        return math.inf
    # a page's header counts the samples up to its end; -1: none of its packets ends there
    return float(max(0, struct.unpack_from("<q", tail, before + 6)[0])) if before >= 0 else 0.0


def _last_pages(path: Path) -> tuple[bytes, int, int]:
    """The end of an Ogg file, and where in it the last page and the one before begin; −1 where there is none."""
    with path.open("rb") as file:
        if file.read(4) != PAGE:
            return b"", -1, -1
        file.seek(max(0, path.stat().st_size - 2 * LARGEST_PAGE))
        tail = file.read()
    last = tail.rfind(PAGE)
    return tail, last, tail.rfind(PAGE, 0, max(0, last))


def _check_whole(path: Path) -> None:
    """Raises DataError for a wav or Ogg file that ends early; libsndfile would read what is there."""
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
    size = struct.unpack("<I", head[4:8])[0]
    if size not in STREAMED and there < size + 8:
        raise DataError(f"{path} is truncated: {there} of {size + 8} bytes are there")
