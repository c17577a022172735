"""Kinds of recordings over time, and arrays: sound, signals, arrays, token numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sidelight.errors import ConfigError, DataError
from sidelight.recordings.pictures import probe_video
from sidelight.recordings.recording_type import RecordingType, Segment, check_at_least
from sidelight.signals.audio import read_audio
from sidelight.signals.csv import read_csv
from sidelight.signals.recording import Recording
from sidelight.signals.resample import resample
from sidelight.signals.spectrogram import Spectrogram, preset
from sidelight.utils.array_files import load_array
from sidelight.utils.extras import optional
from sidelight.utils.files import read_text
from sidelight.video.crop import CENTRE, CropParams, between
from sidelight.video.sound import read_sound

VIDEOS = (".avi", ".mp4", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".wmv", ".m4v")
SLACK = 0.5
"""Samples by which a recording may miss its declared length."""


@dataclass(frozen=True, kw_only=True)
class Series(RecordingType):
    """What kinds sampled over time share: (T, C) float32, or spectrograms (C, F, T').

    Args:
        rate: declared samples a second, in Hz; a file of another is refused. 0: any, where resample_to says one.
        unit: physical unit of the values; "1" where there is none.
        seconds: how long a row is; 0: as long as its recording, rows then differ.
        resample_to: rate in Hz that rows have; 0: that of the file.
        spectrogram: name of a preset of `sidelight.signals.PRESETS`; "": none.
        pad: a recording shorter than `seconds` is continued with zeros; otherwise it is an error.
    """

    storage: ClassVar[frozenset[str]] = frozenset(
        ("rate", "resample_to", "pad", "time", "time_unit", "separator", "columns")
    )
    rate: float
    unit: str = "1"
    seconds: float = 0.0
    resample_to: float = 0.0
    spectrogram: str = ""
    pad: bool = False

    def __post_init__(self) -> None:
        check_at_least(f"kind {self.kind!r}", 0, rate=self.rate, seconds=self.seconds, resample_to=self.resample_to)
        if not self.final_rate:
            raise ConfigError(f"kind {self.kind!r} has neither a rate nor a rate to resample to (resample_to)")
        if not self.spectrogram:
            return
        made = preset(self.spectrogram)
        if made.rate != self.final_rate:
            raise ConfigError(
                f"kind {self.kind!r}: spectrogram {self.spectrogram!r} reads {made.rate:g} Hz, but rows have "
                f"{self.final_rate:g} Hz; say resample_to: {made.rate:g}"
            )
        made.shape(self.samples)

    @property
    def final_rate(self) -> float:
        """Samples a second of a row, in Hz."""
        return self.resample_to or self.rate

    def schema(self) -> dict[str, Any]:
        return {**super().schema(), "final_rate": self.final_rate}

    @property
    def samples(self) -> int:
        """In a row; 0 where rows differ."""
        made = self.spectrogram and preset(self.spectrogram).samples
        return round(self.seconds * self.final_rate) or made or 0

    @property
    def channels(self) -> int:
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...] | None:
        if self.spectrogram:
            return self.channels, *preset(self.spectrogram).shape(self.samples)
        return (self.samples, self.channels) if self.samples else None

    def load(self, segment: Segment) -> Recording:
        """The part's recording, at least what a row needs of it; its first sample is the part's first."""
        raise NotImplementedError

    def read(self, segment: Segment, crop: CropParams = CENTRE) -> Tensor:
        recording = self.load(segment)
        if self.rate and abs(recording.rate - self.rate) > 1e-9 * self.rate:
            raise DataError(
                f"{segment.path} is sampled at {recording.rate:g} Hz, but {self.rate:g} Hz is declared; mend the rate"
            )
        x = resample(recording.values, recording.rate, self.final_rate).astype(np.float32)
        if self.samples:
            x = self._cut(x, segment, crop)
        signal = torch.from_numpy(np.ascontiguousarray(x))
        if not self.spectrogram:
            return signal
        made: Spectrogram = preset(self.spectrogram)
        return made(signal.T[None])[0]

    def _cut(self, x: np.ndarray, segment: Segment, crop: CropParams) -> np.ndarray:
        """`samples` of it: the first where only a start is given, else from the place of the view in time."""
        fixed = segment.start is not None and segment.end is None
        first = 0 if fixed else between(crop.time, max(0, len(x) - self.samples) + 1)
        x = x[first : first + self.samples]
        lost = self.samples - len(x)
        if lost > max(SLACK, SLACK * self.final_rate / (self.rate or self.final_rate)) and not self.pad:
            raise DataError(
                f"{segment.path}: {len(x) / self.final_rate:g} s are there from {segment.start or 0:g} s on; expected "
                f"{self.samples / self.final_rate:g} s (pad: true continues it with zeros)"
            )
        return np.pad(x, ((0, lost), (0, 0))) if self.pad else np.pad(x, ((0, lost), (0, 0)), mode="edge")


@dataclass(frozen=True, kw_only=True)
class Audio(Series):
    """A sound file, or the sound of a video file, as the mean of its channels: (T, 1), or (1, F, T')."""

    kind: ClassVar[str] = "audio"
    pad: bool = True

    @property
    def channels(self) -> int:
        return 1

    def load(self, segment: Segment) -> Recording:
        start = segment.start or 0.0
        length = None if segment.end is None else segment.end - start
        if segment.path.suffix.lower() in VIDEOS:
            return read_sound(probe_video(segment.path), start, length)
        return read_audio(segment.path, start=start, seconds=length)


@dataclass(frozen=True, kw_only=True)
class Signal(Series):
    """Columns of a CSV file, (T, C), or (C, F, T').

    Args:
        columns: their names.
        time: the column of timestamps; "": none.
        time_unit: "s", "ms", "us" or "ns".
        separator: between cells; "\\t" is a tabulator.
    """

    kind: ClassVar[str] = "signal"
    columns: tuple[str, ...]
    time: str = ""
    time_unit: str = "s"
    separator: str = ","

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        if not self.columns:
            raise ConfigError("kind 'signal': name at least one column (columns)")
        super().__post_init__()

    @property
    def channels(self) -> int:
        return len(self.columns)

    def load(self, segment: Segment) -> Recording:
        whole = _table(str(segment.path), self)
        first = round((segment.start or 0.0) * whole.rate)
        end = len(whole.values) if segment.end is None else round(segment.end * whole.rate)
        if first >= len(whole.values) or end <= first:
            raise DataError(
                f"{segment.path} lasts {whole.seconds:g} s; it has nothing from {segment.start or 0:g} s on"
            )
        return Recording(whole.values[first:end], whole.rate, self.unit, source=str(segment.path))


@lru_cache(maxsize=4)
def _table(path: str, kind: Signal) -> Recording:
    """Rows that are parts of one long file follow one another; it is read once."""
    return read_csv(
        path,
        kind.columns,
        unit=kind.unit,
        rate=kind.rate or None,
        time=kind.time or None,
        time_unit=kind.time_unit,
        separator=kind.separator,
    )


@dataclass(frozen=True, kw_only=True)
class Array(RecordingType):
    """One array file per row, .npy, .npz or .safetensors: (D,) features, (T, C) signals, images, clips.

    Args:
        array_shape: of every row; left out: (T, C) rows may differ in T.
        unit: physical unit of the values; "1" where there is none.
    """

    kind: ClassVar[str] = "array"
    array_shape: tuple[int, ...] = ()
    unit: str = "1"

    @property
    def shape(self) -> tuple[int, ...] | None:
        return tuple(self.array_shape) or None

    def read(self, segment: Segment, crop: CropParams = CENTRE) -> Tensor:
        x = load_array(segment.path, "")
        if x.dtype.kind not in "fiub" or not x.size:
            raise DataError(f"{segment.path} holds {x.dtype} of shape {x.shape}; expected numbers")
        if self.shape and x.shape != self.shape:
            raise DataError(f"{segment.path} has shape {x.shape}; expected {self.shape}")
        return torch.from_numpy(np.asarray(x, np.float32))


@dataclass(frozen=True, kw_only=True)
class Text(RecordingType):
    """Token numbers, (T, 1) float32: an array of them per row (.npy), or a text file and a tokenizer.

    They reach the encoder as they are, not standardised.

    Args:
        tokenizer: local folder of a `transformers` tokenizer, which reads .txt files.
        longest: tokens that are read of a row.
    """

    kind: ClassVar[str] = "text"
    storage: ClassVar[frozenset[str]] = frozenset(("tokenizer",))
    tokenizer: str = ""
    longest: int = 512

    def __post_init__(self) -> None:
        check_at_least(f"kind {self.kind!r}", 1, longest=self.longest)

    @property
    def shape(self) -> tuple[int, ...] | None:
        return None

    @property
    def standard(self) -> str:
        return "none"

    def read(self, segment: Segment, crop: CropParams = CENTRE) -> Tensor:
        tokens = (
            self._tokens(segment.path) if segment.path.suffix == ".txt" else load_array(segment.path, "").reshape(-1)
        )
        if not tokens.size or (tokens < 0).any() or (tokens != np.round(tokens)).any():
            raise DataError(f"{segment.path} holds no token numbers; expected whole numbers from 0 on, at least one")
        return torch.from_numpy(tokens[: self.longest].astype(np.float32)[:, None])

    def _tokens(self, path: Path) -> np.ndarray:
        if not self.tokenizer:
            raise ConfigError(f"{path} is text: name its tokenizer's local folder (tokenizer), or store .npy files")
        return np.array(_tokenizer(self.tokenizer)(read_text(path))["input_ids"])


@lru_cache(maxsize=4)
def _tokenizer(folder: str) -> Any:
    return optional("transformers", "hf", "reading text").AutoTokenizer.from_pretrained(folder, local_files_only=True)
