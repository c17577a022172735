"""What a preprocessor does to one modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sidelight.data.statistics import statistics_width
from sidelight.data.training_ranges import TrainingRanges
from sidelight.signals.sequence import count_frames
from sidelight.signals.spectrogram import get_preset


@dataclass(frozen=True)
class ModalityPlan:
    """The preprocessing of one modality.

    Args:
        shape: shape of a raw row: (D,), (T, C), (C, H, W) or (C, T, H, W).
        variable: whether the T of a signal varies over rows.
        statistics: the window statistics that replace a signal; (): none.
        columns: names of a vector's columns, where known.
        standard: fixed standardization as in `Dataset.standard`; "": the experiment chooses.
        unit: unit of the values; "": unknown.
        rate: sampling rate in Hz; 0: unknown.
        longest: time steps that are read of longer rows; 0: all.
        ranges: ranges of the training rows; None: unknown.
        detrend: drift that is removed from each row of a signal, one of `detrend.KINDS`; "": none.
        spectrogram: preset whose frames replace sound (`signals.spectrogram.SEQUENCES`); "": none.
    """

    shape: tuple[int, ...]
    variable: bool = False
    statistics: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    standard: str = ""
    unit: str = ""
    rate: float = 0.0
    longest: int = 0
    ranges: TrainingRanges | None = None
    detrend: str = ""
    spectrogram: str = ""

    @property
    def image(self) -> bool:
        """Whether a row is an image or a clip, which keeps its stored dtype until a network reads it."""
        return len(self.shape) >= 3

    @property
    def channels(self) -> int:
        """Columns, or channels, of a raw row."""
        return self.shape[0 if self.image else -1]

    @property
    def output(self) -> tuple[int, ...]:
        """The shape of a preprocessed row."""
        shape = self.sequence
        return (statistics_width(shape[-1], self.statistics),) if self.statistics else shape

    @property
    def sequence(self) -> tuple[int, ...]:
        """The shape of a row before window statistics: that of the frames of sound, else of the raw row."""
        if not self.spectrogram:
            return self.shape
        bands, frames = get_preset(self.spectrogram).shape(self.shape[0])
        return frames, bands * self.channels

    def count_steps(self, length: Tensor) -> Tensor:
        """The valid time steps of the sequence of rows with so many valid time steps."""
        return count_frames(length, self.spectrogram) if self.spectrogram else length

    def to_config(self) -> dict[str, Any]:
        """The plan as JSON-able values; `from_config` reads them."""
        return {
            "shape": list(self.shape),
            "variable": self.variable,
            "statistics": list(self.statistics),
            "columns": list(self.columns),
            "standard": self.standard,
            "unit": self.unit,
            "rate": self.rate,
            "longest": self.longest,
            **({"detrend": self.detrend} if self.detrend else {}),
            **({"spectrogram": self.spectrogram} if self.spectrogram else {}),
            # The key keeps its first name, so that stored students can be read.
            "seen": None if self.ranges is None else self.ranges.to_config(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModalityPlan:
        """Read what `to_config` wrote; files of earlier versions lack the later entries."""
        return cls(
            shape=tuple(config["shape"]),
            variable=bool(config["variable"]),
            statistics=tuple(config["statistics"]),
            columns=tuple(config.get("columns", ())),
            standard=str(config.get("standard", "")),
            unit=str(config.get("unit", "")),
            rate=float(config.get("rate", 0)),
            longest=int(config.get("longest", 0)),
            ranges=TrainingRanges.from_config(config.get("seen")),
            detrend=str(config.get("detrend", "")),
            spectrogram=str(config.get("spectrogram", "")),
        )
