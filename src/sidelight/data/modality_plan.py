"""What a preprocessor does to one modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidelight.data.training_ranges import TrainingRanges
from sidelight.data.statistics import statistics_width


@dataclass(frozen=True)
class ModalityPlan:
    """One modality: its raw row shape, (D,), (T, C), (C, H, W) or (C, T, H, W).

    Whether the T of signals varies; which window statistics are taken of them, if any; the names of a vector's columns,
    where it had them; what it is standardised by, as `Dataset.standard` ("": as the experiment says); the unit of the
    values ("": not given); samples a second (Hz; 0: not given); how many steps of longer rows are read (0: all); the
    ranges of the training rows (None: not known).
    """

    shape: tuple[int, ...]
    variable: bool = False
    statistics: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    standard: str = ""
    unit: str = ""
    rate: float = 0.0
    longest: int = 0
    seen: TrainingRanges | None = None

    @property
    def image(self) -> bool:
        """Whether a row is an image or a clip, which stays as it is stored until it is read."""
        return len(self.shape) >= 3

    @property
    def channels(self) -> int:
        """Columns, or channels, of a raw row."""
        return self.shape[0 if self.image else -1]

    @property
    def output(self) -> tuple[int, ...]:
        """A row's shape afterwards."""
        if not self.statistics:
            return self.shape
        return (statistics_width(self.channels, self.statistics),)

    def to_config(self) -> dict[str, Any]:
        """As JSON can hold it; `from_config` makes the same plan again."""
        return {
            "shape": list(self.shape),
            "variable": self.variable,
            "statistics": list(self.statistics),
            "columns": list(self.columns),
            "standard": self.standard,
            "unit": self.unit,
            "rate": self.rate,
            "longest": self.longest,
            "seen": None if self.seen is None else self.seen.to_config(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModalityPlan:
        """What `to_config` wrote; files of earlier versions lack some of it."""
        return cls(
            tuple(config["shape"]),
            bool(config["variable"]),
            tuple(config["statistics"]),
            tuple(config.get("columns", ())),
            str(config.get("standard", "")),
            str(config.get("unit", "")),
            float(config.get("rate", 0)),
            int(config.get("longest", 0)),
            TrainingRanges.from_config(config.get("seen")),
        )
