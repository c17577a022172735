"""Recording types over time, and arrays: sound, signals, arrays, token numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sidelight.errors import ConfigError, DataError
from sidelight.recordings.base import RecordingType, Segment, check_at_least
from sidelight.recordings.by_id import VIDEOS
from sidelight.recordings.picks import check_pick, nested_pick
from sidelight.recordings.pictures import modified_at, probe_video
from sidelight.signals.audio import read_audio
from sidelight.signals.csv import read_csv
from sidelight.signals.recording import Recording
from sidelight.signals.resample import resample
from sidelight.signals.spectrogram import SEQUENCES, Spectrogram, get_preset
from sidelight.utils.array_files import load_array
from sidelight.utils.extras import optional
from sidelight.utils.files import read_text
from sidelight.utils.images import channel_axis, take_channels
from sidelight.video.crop import CENTER_CROP, CropParams, pick_index
from sidelight.video.sound import read_sound

SLACK = 0.5
"""Samples by which a recording may be shorter than declared."""


@dataclass(frozen=True, kw_only=True)
class Series(RecordingType):
    """Base class of the types sampled over time: (T, C) float32, or spectrograms (C, F, T').

    Args:
        rate: declared sampling rate in Hz; a file with another rate is refused. 0: any, if `resample_to` is given.
        unit: physical unit of the values; "1": no unit.
        seconds: length of a row; 0: that of the preset, or of its recording, so that rows differ.
        resample_to: sampling rate of rows in Hz; 0: that of the file.
        spectrogram: name of a preset in `sidelight.signals.PRESETS`; "": none. With one of `SEQUENCES`, rows stay
            (T, C), and the preprocessor computes the spectrogram.
        pad: whether a recording shorter than `seconds` is padded with zeros; otherwise it is an error.
    """

    storage: ClassVar[frozenset[str]] = frozenset(
        (
            *("rate", "resample_to", "pad", "time", "time_unit", "columns"),
            *("separator", "decimal", "encoding", "header"),
        )
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
        spectrogram = get_preset(self.spectrogram)
        if spectrogram.rate != self.final_rate:
            raise ConfigError(
                f"kind {self.kind!r}: spectrogram {self.spectrogram!r} reads {spectrogram.rate:g} Hz, but rows have "
                f"{self.final_rate:g} Hz; set resample_to: {spectrogram.rate:g}"
            )
        # Refuses a row that is too short for the spectrogram.
        spectrogram = self._image or spectrogram
        spectrogram.shape(self.samples or spectrogram.window)

    @property
    def final_rate(self) -> float:
        """Sampling rate of a row in Hz."""
        return self.resample_to or self.rate

    def schema(self) -> dict[str, Any]:
        return {**super().schema(), "final_rate": self.final_rate}

    @property
    def samples(self) -> int:
        """Number of samples in a row; 0 where rows differ."""
        return round(self.seconds * self.final_rate) or self._preset_samples

    @property
    def _preset_samples(self) -> int:
        return (get_preset(self.spectrogram).samples or 0) if self.spectrogram else 0

    @property
    def _image(self) -> Spectrogram | None:
        """The spectrogram that a row is, of the length that is asked for; None where rows are (T, C)."""
        if not self.spectrogram or self.spectrogram in SEQUENCES:
            return None
        return replace(get_preset(self.spectrogram), samples=self.samples)

    @property
    def channels(self) -> int:
        """Number of channels in a row."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...] | None:
        if image := self._image:
            return self.channels, *image.shape(self.samples)
        return (self.samples, self.channels) if self.samples else None

    def load(self, segment: Segment) -> Recording:
        """Read the segment, or as much of it as a row needs, from its first sample on."""
        raise NotImplementedError

    def read(self, segment: Segment, crop: CropParams = CENTER_CROP) -> Tensor:
        recording = self.load(segment)
        if self.rate and abs(recording.rate - self.rate) > 1e-9 * self.rate:
            raise DataError(
                f"{segment.path} is sampled at {recording.rate:g} Hz, but {self.rate:g} Hz is declared; correct the "
                "declared rate"
            )
        # Resampled before it is cut, so that edges come from real samples.
        x = resample(recording.values, recording.rate, self.final_rate).astype(np.float32)
        if self.samples:
            x = self._cut(x, segment, crop)
        signal = torch.from_numpy(np.ascontiguousarray(x))
        image = self._image
        return signal if image is None else image(signal.T[None])[0]

    def _cut(self, x: np.ndarray, segment: Segment, crop: CropParams) -> np.ndarray:
        """Cut `samples` out of (T, C) values: the first ones if only a start is given, else at the place in `crop`."""
        # With a start alone the row begins there; otherwise training may move it.
        fixed = segment.start is not None and segment.end is None
        if not self.seconds and not fixed and len(x) > self.samples + self._tolerance:
            reads = self.samples / self.final_rate
            raise DataError(
                f"{segment.path} lasts {len(x) / self.final_rate:.4g} s, and spectrogram {self.spectrogram!r} reads "
                f"{reads:.4g} s: the rest would be lost. Choose the length of a row (seconds: {reads:.4g} cuts this "
                "recording), or for rows as long as their recordings spectrogram: speech"
            )
        first = 0 if fixed else pick_index(crop.time, max(0, len(x) - self.samples) + 1)
        x = x[first : first + self.samples]
        lost = self.samples - len(x)
        if lost > self._tolerance and not self.pad:
            raise DataError(
                f"{segment.path}: only {len(x) / self.final_rate:g} s remain from {segment.start or 0:g} s on; "
                f"expected {self.samples / self.final_rate:g} s (pad: true pads it with zeros)"
            )
        return np.pad(x, ((0, lost), (0, 0))) if self.pad else np.pad(x, ((0, lost), (0, 0)), mode="edge")

    @property
    def _tolerance(self) -> float:
        """Samples that a recording may lack, or have too many; resampling multiplies them."""
        return max(SLACK, SLACK * self.final_rate / (self.rate or self.final_rate))


@dataclass(frozen=True, kw_only=True)
class Audio(Series):
    """A sound file, or the sound of a video file, as the mean of its channels: (T, 1), or (1, F, T').

    Args:
        pick: numbers of the channels of a sound file that a row has instead of their mean, from 0; (): none.
    """

    kind: ClassVar[str] = "audio"
    later: ClassVar[frozenset[str]] = RecordingType.later | {"pick"}
    pad: bool = True
    pick: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "pick", check_pick(self.pick, f"kind {self.kind!r}: pick"))

    @property
    def channels(self) -> int:
        return len(self.pick) or 1

    def pick_channels(self, channels: tuple[int, ...]) -> RecordingType:
        return replace(self, pick=nested_pick(self.pick, channels))

    def load(self, segment: Segment) -> Recording:
        start = segment.start or 0.0
        length = None if segment.end is None else segment.end - start
        if segment.path.suffix.lower() in VIDEOS:
            if self.pick:
                raise ConfigError(f"{segment.path}: of the sound of a video, the mean of its channels is read (pick)")
            return read_sound(probe_video(segment.path), start, length)
        return read_audio(segment.path, start=start, seconds=length, channels=self.pick)


@dataclass(frozen=True, kw_only=True)
class Signal(Series):
    """Columns of a CSV file, (T, C), or (C, F, T').

    Args:
        columns: names of the columns to read.
        time: the column of timestamps; "": none.
        time_unit: unit of the timestamps, "s", "ms", "us" or "ns".
        separator: separator of the cells; "\\t" is a tab; "": found in the file.
        decimal: decimal sign of the cells, "." or ","; "": found.
        encoding: encoding of the text, such as "latin-1"; "": found.
        header: number of the line that names the columns, counted from 1; 0: none does, and they are called "1", "2",
            …; null: found.
    """

    kind: ClassVar[str] = "signal"
    later: ClassVar[frozenset[str]] = Series.later | {"decimal", "encoding", "header"}
    columns: tuple[str, ...]
    time: str = ""
    time_unit: str = "s"
    separator: str = ""
    decimal: str = ""
    encoding: str = ""
    header: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        if not self.columns:
            raise ConfigError("kind 'signal': name at least one column (columns)")
        for name in self.columns:
            if (n := self.columns.count(name)) > 1:
                raise ConfigError(f"kind 'signal': column {name!r} is named {n} times (columns)")
        super().__post_init__()

    @property
    def channels(self) -> int:
        return len(self.columns)

    def clock(self, path: Path) -> tuple[float, float] | None:
        """First and last second of a file on the clock of its time column; None without one."""
        return _read_clock(str(path), self, modified_at(path)) if self.time else None

    def pick_channels(self, channels: tuple[int, ...]) -> RecordingType:
        for number in channels:
            if number >= len(self.columns):
                raise ConfigError(
                    f"channel {number} is asked for, and {len(self.columns)} columns are read, from 0 "
                    f"({', '.join(self.columns)})"
                )
        return replace(self, columns=tuple(self.columns[number] for number in channels))

    def load(self, segment: Segment) -> Recording:
        # The whole table is cached, and each row is a slice of it.
        recording = _read_table_cached(str(segment.path), self, modified_at(segment.path))
        self.clock(segment.path)  # kept, so that comparing the clocks of a row reads nothing again
        first = round((segment.start or 0.0) * recording.rate)
        end = len(recording.values) if segment.end is None else round(segment.end * recording.rate)
        if first >= len(recording.values) or end <= first:
            raise DataError(
                f"{segment.path} lasts {recording.seconds:g} s; it has no samples from {segment.start or 0:g} s on"
            )
        return Recording(recording.values[first:end], recording.rate, self.unit, source=str(segment.path))


@lru_cache(maxsize=4)
def _read_table_cached(path: str, kind: Signal, stamp: int) -> Recording:
    """Rows that are segments of one long file follow one another, so it is read once until it changes (`stamp`)."""
    recording = read_csv(
        path,
        kind.columns,
        unit=kind.unit,
        rate=kind.rate or None,
        time=kind.time or None,
        time_unit=kind.time_unit,
        separator=kind.separator,
        decimal=kind.decimal,
        encoding=kind.encoding,
        header=kind.header,
    )
    if not kind.rate or recording.rate == kind.rate:
        return recording
    # The rate that the time stamps show is another: rows are cut at the declared one, where events stay at their times.
    ratio = Fraction(kind.rate / recording.rate).limit_denominator(10_000)
    values = resample(recording.values, ratio.denominator, ratio.numerator)
    return replace(recording, values=values, rate=kind.rate)


@lru_cache(maxsize=2**16)
def _read_clock(path: str, kind: Signal, stamp: int) -> tuple[float, float]:
    recording = _read_table_cached(path, kind, stamp)
    return recording.start, recording.end


@dataclass(frozen=True, kw_only=True)
class Array(RecordingType):
    """One array file per row, .npy, .npz or .safetensors: (D,) features, (T, C) signals, images, clips.

    Args:
        array_shape: shape of every row; (): (T, C) rows may differ in T.
        unit: physical unit of the values; "1": no unit.
        pick: numbers of the file's channels that a row has, from 0; (): all. `array_shape` is that of the file.
    """

    kind: ClassVar[str] = "array"
    later: ClassVar[frozenset[str]] = RecordingType.later | {"pick"}
    array_shape: tuple[int, ...] = ()
    unit: str = "1"
    pick: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "array_shape", tuple(self.array_shape))
        object.__setattr__(self, "pick", check_pick(self.pick, f"kind {self.kind!r}: pick"))

    @property
    def shape(self) -> tuple[int, ...] | None:
        if not self.pick or not self.array_shape:
            return tuple(self.array_shape) or None
        shape = list(self.array_shape)
        shape[channel_axis(self.array_shape)] = len(self.pick)
        return tuple(shape)

    def pick_channels(self, channels: tuple[int, ...]) -> RecordingType:
        return replace(self, pick=nested_pick(self.pick, channels))

    def read(self, segment: Segment, crop: CropParams = CENTER_CROP) -> Tensor:
        x = load_array(segment.path, "")
        if x.dtype.kind not in "fiub" or not x.size:
            raise DataError(f"{segment.path} holds {x.dtype} of shape {x.shape}; expected numbers")
        if self.array_shape and x.shape != self.array_shape:
            raise DataError(f"{segment.path} has shape {x.shape}; expected {self.array_shape}")
        if self.pick:
            x = take_channels(x, channel_axis(x.shape), self.pick, str(segment.path))
        return torch.from_numpy(np.ascontiguousarray(x, np.float32))


@dataclass(frozen=True, kw_only=True)
class Text(RecordingType):
    """Token numbers, (T, 1) float32: an array of them per row (.npy), or a text file and a tokenizer.

    They reach the encoder unchanged, without standardization.

    Args:
        tokenizer: local folder of a `transformers` tokenizer, for .txt files.
        longest: most tokens in a row; later ones are dropped.
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

    def read(self, segment: Segment, crop: CropParams = CENTER_CROP) -> Tensor:
        tokens = (
            self._tokens(segment.path) if segment.path.suffix == ".txt" else load_array(segment.path, "").reshape(-1)
        )
        if not tokens.size or (tokens < 0).any() or (tokens != np.round(tokens)).any():
            raise DataError(
                f"{segment.path} does not hold token numbers; expected whole numbers from 0 on, at least one"
            )
        return torch.from_numpy(tokens[: self.longest].astype(np.float32)[:, None])

    def _tokens(self, path: Path) -> np.ndarray:
        if not self.tokenizer:
            raise ConfigError(
                f"{path} is text: name the local folder of its tokenizer (tokenizer), or store .npy files"
            )
        return np.array(_tokenizer(self.tokenizer)(read_text(path))["input_ids"])


@lru_cache(maxsize=4)
def _tokenizer(folder: str) -> Any:
    return optional("transformers", "hf", "reading text").AutoTokenizer.from_pretrained(folder, local_files_only=True)
