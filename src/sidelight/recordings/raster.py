"""The recording type of images with any number of bands: multispectral, radar, elevation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sidelight.errors import DataError
from sidelight.recordings.base import RecordingType, Segment, Size, check_at_least
from sidelight.recordings.picks import check_pick, nested_pick
from sidelight.recordings.pictures import Picture
from sidelight.utils.rasters import open_raster, read_bands, read_resized
from sidelight.video.crop import CENTER_CROP, CropBox, CropParams, apply_flip


@dataclass(frozen=True, kw_only=True)
class Raster(Picture):
    """A GeoTIFF or other .tif file, (channels, H, W) float32 in the file's own unit, NaN where it says "no data".

    Args:
        channels: number of bands of a file.
        pick: numbers of the bands that a row has, from 0; (): all.
    """

    kind: ClassVar[str] = "raster"
    later: ClassVar[frozenset[str]] = RecordingType.later | {"pick"}
    channels: int
    pick: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(f"kind {self.kind!r}", 1, channels=self.channels)
        object.__setattr__(self, "pick", check_pick(self.pick, f"kind {self.kind!r}: pick"))
        nested_pick(tuple(range(self.channels)), self.pick)  # raises for a band that no file has

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.pick) or self.channels, *self.size

    def probe(self, segment: Segment) -> Size | None:
        """Read the file block by block: its header does not say whether all of it is there."""
        path, found = segment.path, False
        with open_raster(path) as source:
            self._check_bands(path, source)
            for _, window in source.block_windows(1):
                box = (window.col_off, window.row_off, window.col_off + window.width, window.row_off + window.height)
                x = read_bands(source, self.pick, box)
                if np.isinf(x).any():
                    raise DataError(f'{path} holds infinite values; expected numbers, or the file\'s "no data" value')
                found = found or not np.isnan(x).all()
            if not found:
                raise DataError(
                    f'{path}: no pixel has a value ("no data" is {source.nodata}); leave the cell of such a row empty'
                )
            return source.height, source.width

    def read(self, segment: Segment, crop: CropParams = CENTER_CROP) -> Tensor:
        with open_raster(segment.path) as source:
            self._check_bands(segment.path, source)
            place = CropBox.from_params(crop, source.height, source.width, self.size)
            box = place.source_box(source.height, source.width, self.size)
            return apply_flip(torch.from_numpy(read_resized(source, self.pick, box, self.size)), crop)

    def _check_bands(self, path: Path, source: Any) -> None:
        if source.count != self.channels:
            raise DataError(f"{path} has {source.count} bands; expected {self.channels} (channels)")

    def pick_channels(self, channels: tuple[int, ...]) -> RecordingType:
        return replace(self, pick=nested_pick(self.pick, channels))


def describe_raster(path: Path) -> dict[str, Any]:
    """The settings of a `Raster` that a file shows: number of bands and size."""
    with open_raster(path) as source:
        return {"channels": source.count, "size": [source.height, source.width]}
