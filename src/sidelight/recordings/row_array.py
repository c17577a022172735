"""`Rows`: a modality whose rows are one array, in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import ConfigError, DataError
from sidelight.recordings.base import RecordingType, Segment, check_at_least
from sidelight.utils.array_files import load_array
from sidelight.utils.units import parse_unit
from sidelight.video.crop import CENTER_CROP, CropParams


@dataclass(frozen=True, kw_only=True)
class Rows(RecordingType):
    """An array file with a row for each line of the table, (N, D) or (N, T, C); a row of NaN lacks the modality.

    Args:
        file: its path, relative to the prepared folder.
        rate: sampling rate of (N, T, C) rows in Hz; 0: none.
        unit: physical unit of the values; "1": no unit.
        channels: names of the last axis; may be left empty.
    """

    kind: ClassVar[str] = "rows"
    storage: ClassVar[frozenset[str]] = frozenset(("file", "rate"))
    file: str
    rate: float = 0.0
    unit: str = "1"
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))  # the dataclass is frozen
        check_at_least("kind 'rows'", 0, rate=self.rate)
        parse_unit(self.unit)
        if self.of:
            raise ConfigError("kind 'rows' has a file of its own; leave 'of' out")
        if not self.file or Path(self.file).is_absolute() or ".." in Path(self.file).parts:
            raise ConfigError(f"kind 'rows': file is {self.file!r}; expected a path inside the prepared folder")

    @property
    def shape(self) -> tuple[int, ...] | None:
        return None

    def schema(self) -> dict[str, Any]:
        return {**super().schema(), "final_rate": self.rate}

    def read(self, segment: Segment, crop: CropParams = CENTER_CROP) -> Tensor:
        raise NotImplementedError("the rows of this kind are read together")

    def read_all(self, folder: Path, count: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read all rows.

        Args:
            folder: the prepared folder.
            count: number of lines of its table.

        Returns:
            (N, D) or (N, T, C) float32, zeros in rows that lack the modality, and (N,) bool, which rows have it.

        Raises:
            DataError: a missing or damaged file, or one that does not have a row for each line.
        """
        path = folder / self.file
        x = load_array(path, "")
        if x.dtype.kind not in "fiub" or x.ndim not in (2, 3) or len(x) != count or not x.size:
            raise DataError(
                f"{path} holds {x.dtype} of shape {x.shape}; expected numbers, (N, D) or (N, T, C) with N = {count}, "
                "the lines of the table"
            )
        if self.channels and len(self.channels) != x.shape[-1]:
            raise DataError(f"{path} has {x.shape[-1]} channels, but {len(self.channels)} names: {self.channels}")
        x = np.ascontiguousarray(x, np.float32)
        # A row that lacks the modality is NaN throughout, so that its first value tells most rows.
        present = np.ones(len(x), bool)
        for i in np.flatnonzero(np.isnan(x.reshape(len(x), -1)[:, 0])):
            present[i] = not np.isnan(x[i]).all()
        x[~present] = 0
        return x, present
