"""What every kind of recording has: settings, a row's shape, a look at a file, and reading it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from sidelight.errors import ConfigError, DataError
from sidelight.video.crop import CENTRE, CropParams

Size = tuple[int, int]


@dataclass(frozen=True)
class Segment:
    """What a row is of: a file or folder, and from which second to which, where it is a part of it (None: its end).

    Raises DataError for times that are not 0 <= start < end, or no finite numbers.
    """

    path: Path
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        start = self.start or 0.0
        if not 0 <= start < math.inf or (self.end is not None and not start < self.end < math.inf):
            until = "" if self.end is None else f" to {self.end} s"
            raise DataError(f"{self.path}: a part from {start} s{until}; expected 0 <= start < end, in seconds")


@dataclass(frozen=True, kw_only=True)
class RecordingType:
    """One kind of recording; its settings are the fields.

    Class attributes: kind: its name in `modalities.json`. dtype: of a row. lazy: rows stay files until they are read.
    absent: what stands in a row that lacks the modality. storage: settings that say how files are laid out, not what a
    row is.
    """

    kind: ClassVar[str]
    dtype: ClassVar[torch.dtype] = torch.float32
    lazy: ClassVar[bool] = False
    absent: ClassVar[int] = 0
    storage: ClassVar[frozenset[str]] = frozenset()

    @property
    def shape(self) -> tuple[int, ...] | None:
        """A row's shape; None where rows differ or it is not declared."""
        raise NotImplementedError

    @property
    def standard(self) -> str:
        """What values are standardised by: "train" (the train rows), "none", or a name of `video.STATISTICS`."""
        return "train"

    def probe(self, segment: Segment) -> Size | None:
        """A look at the file, without decoding it where that can be: (height, width) in pixels, None of what has none.

        Raises DataError, naming the file, for one that is missing, damaged, empty, or not as the settings declare.
        """
        self.read(segment)
        return None

    def read(self, segment: Segment, crop: CropParams = CENTRE) -> Tensor:
        """The row, of `shape` and `dtype`; raises DataError naming the file."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """What new rows must have in common with those that a student was trained on, JSON-able."""
        told = {name: value for name, value in asdict(self).items() if name not in self.storage}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}

    def to_config(self) -> dict[str, Any]:
        """The settings with their kind, JSON-able; `recordings.recording_type` reads them."""
        return {"kind": self.kind, **asdict(self)}


def check_at_least(what: str, least: float, **values: float) -> None:
    """Raises ConfigError naming the first value that is smaller, or no finite number."""
    for name, value in values.items():
        if not isinstance(value, int | float) or not least <= value < math.inf:
            raise ConfigError(f"{what}: {name} is {value!r}; expected at least {least:g}")
