"""`RecordingType`: settings, the shape of a row, and how a file is checked and read."""

from __future__ import annotations

import math
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from sidelight.errors import ConfigError, DataError
from sidelight.video.crop import CENTER_CROP, CropParams

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class Segment:
    """The piece of a recording that a row holds.

    Args:
        path: a file, or a folder of frames.
        start: its first second; None: the start of the recording.
        end: its last second; None: the end of the recording, or as long as a row is.

    Raises:
        DataError: times are not finite, or not 0 <= start < end.
    """

    path: Path
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        start = self.start or 0.0
        if not 0 <= start < math.inf or (self.end is not None and not start < self.end < math.inf):
            until = "" if self.end is None else f" to {self.end} s"
            raise DataError(f"{self.path}: a segment from {start} s{until}; expected 0 <= start < end, in seconds")


@dataclass(frozen=True, kw_only=True)
class RecordingType:
    """Base class of the recording types. The fields of a subclass are its settings.

    Class attributes:
        kind: its name in `modalities.json`.
        dtype: dtype of a row.
        lazy: whether rows stay files until they are read.
        absent: the value in rows that lack the modality.
        storage: settings of how files are stored, which do not change the meaning of a row.
        later: settings that the first format did not have. They are stored only where they are given, so that the
            digests of older data stay.

    Args:
        of: the modality whose files it is read from, where several share one, as the sound of a video; "": its own.
    """

    kind: ClassVar[str]
    dtype: ClassVar[torch.dtype] = torch.float32
    lazy: ClassVar[bool] = False
    absent: ClassVar[int] = 0
    storage: ClassVar[frozenset[str]] = frozenset()
    later: ClassVar[frozenset[str]] = frozenset(("of",))
    of: str = ""

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of a row; None where rows differ or the shape is not declared."""
        raise NotImplementedError

    @property
    def standard(self) -> str:
        """The standardization: "train" (fitted to train rows), "none", or a name in `video.STATISTICS`."""
        return "train"

    def probe(self, segment: Segment) -> Size | None:
        """Check a file, if possible without decoding it.

        Returns:
            (height, width) in pixels; None for a recording without pixels.

        Raises:
            DataError: the file is missing, damaged, empty, or not as the settings declare.
        """
        # Reading is the most thorough check; subclasses with large files replace it by a cheaper one.
        self.read(segment)
        return None

    def read(self, segment: Segment, crop: CropParams = CENTER_CROP) -> Tensor:
        """Decode a row of `shape` and `dtype`; raises DataError naming the file."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """The JSON-able settings that new rows must share with the rows that a student was trained on."""
        unset, schema = self._find_unset(), {}
        for name, value in asdict(self).items():
            if name not in self.storage and name != "of" and name not in unset:
                schema[name] = list(value) if isinstance(value, tuple) else value
        return schema

    def to_config(self) -> dict[str, Any]:
        """The kind and all settings, JSON-able; `recordings.recording_type` reads them."""
        unset = self._find_unset()
        return {"kind": self.kind, **{name: value for name, value in asdict(self).items() if name not in unset}}

    def _find_unset(self) -> set[str]:
        """The settings in `later` that have their default."""
        unset = set()
        for f in fields(self):
            default = f.default if f.default_factory is MISSING else f.default_factory()
            if f.name in self.later and getattr(self, f.name) == default:
                unset.add(f.name)
        return unset

    def pick_channels(self, channels: tuple[int, ...]) -> RecordingType:
        """The same type with these channels of each file only; raises ConfigError where a file's channels are fixed."""
        raise ConfigError(f"a modality of kind {self.kind!r} has no channels to choose from; image, array and audio do")


def check_at_least(what: str, least: float, **values: float) -> None:
    """Raise ConfigError naming the first value that is below `least` or not finite; `what` names their owner."""
    for name, value in values.items():
        if not isinstance(value, int | float) or not least <= value < math.inf:
            raise ConfigError(f"{what}: {name} is {value!r}; expected at least {least:g}")
