"""Label maps: a class per pixel, in files that are scanned once and decoded when a batch or a metric needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import ConfigError, DataError
from sidelight.recordings.base import Segment, Size
from sidelight.recordings.colours import parse_colours, read_coloured_labels
from sidelight.recordings.image_files import check_eight_bits, check_single_channel, read_image_size
from sidelight.recordings.lazy import LazyRows
from sidelight.recordings.pictures import Picture
from sidelight.utils.images import LARGEST, read_labels
from sidelight.utils.rasters import RASTER_FILES
from sidelight.video.crop import CENTER_CROP, CropParams, crop_nearest

NOT_SEEN = -2
"""The code of values that occurred in no file."""


@dataclass(frozen=True, kw_only=True)
class Labels(Picture):
    """A class per pixel, (H, W) int32 values of the file: the target of a segmentation.

    Args:
        classes: names of the values 0, 1, …
        ignore: the value of pixels without a class; those that a .tif marks as "no data" get it too.
        colours: of files with a colour per class: class -> colour, [r, g, b], or a list of colours; the class "" is
            that of pixels without a class. In YAML and JSON also the path of a table with the columns
            class, r, g, b.
    """

    kind: ClassVar[str] = "labels"
    dtype: ClassVar[torch.dtype] = torch.int32
    later: ClassVar[frozenset[str]] = Picture.later | {"colours"}
    classes: tuple[str, ...] = ()
    ignore: int = 255
    colours: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "classes", tuple(self.classes))
        if not self.colours:
            return
        named = tuple(name for name in dict.fromkeys(parse_colours(self.colours, "colours").values()) if name)
        object.__setattr__(self, "classes", self.classes or named)
        if missing := [name for name in named if name not in self.classes]:
            raise ConfigError(f"kind 'labels': the colour of {missing[0]!r} is of no class: {', '.join(self.classes)}")
        if 0 <= self.ignore < len(self.classes):
            raise ConfigError(
                f"kind 'labels': ignore is {self.ignore}, the value of class {self.classes[self.ignore]!r}; with "
                "colours, name the colours of pixels without a class by an empty class, and leave ignore out"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.size)

    def probe(self, segment: Segment) -> Size | None:
        if segment.path.suffix.lower() in RASTER_FILES:
            height, width = self._read_values(segment).shape
            return height, width
        return read_image_size(segment.path, check_eight_bits if self.colours else check_single_channel)

    def read(self, segment: Segment, crop: CropParams = CENTER_CROP) -> Tensor:
        return crop_nearest(torch.from_numpy(self._read_values(segment)), crop, self.size)

    def _read_values(self, segment: Segment) -> NDArray[np.int32]:
        """(H, W) class values of the whole file."""
        if not self.colours:
            return read_labels(segment.path, self.ignore).astype(np.int32)
        if segment.path.suffix.lower() in RASTER_FILES:
            raise ConfigError(f"{segment.path}: colours are read from .png files; a .tif has a class value per pixel")
        numbers = parse_colours(self.colours, "colours")
        return read_coloured_labels(segment.path, numbers, self.classes, self.ignore)

    def scan(self, segment: Segment) -> LabelScan:
        """Read a whole file once; raises DataError naming file and pixel for a value that is not a class."""
        values = self._read_values(segment)
        last = len(self.classes) - 1 if self.classes else LARGEST
        bad = np.argwhere(((values < 0) | (values > last)) & (values != self.ignore))
        if len(bad):
            y, x = bad[0].tolist()
            raise DataError(
                f"{segment.path}: pixel ({y}, {x}) is {values[y, x]}; expected class values from 0 to {last}, or "
                f"{self.ignore} (ignore) for no class. Correct the file, or the classes in modalities.json"
            )
        centre = crop_nearest(torch.from_numpy(values), CENTER_CROP, self.size).numpy()
        centre_values, pixels = np.unique(centre, return_counts=True)
        return LabelScan((values.shape[0], values.shape[1]), np.unique(values), centre_values, pixels)


class LabelScan(NamedTuple):
    """The content of a label map.

    Random crops in training show more than the centre crop, so all values are checked; metrics read the centre crop.

    Args:
        size: (height, width) of the file.
        values: the different values in the file.
        centre_values: the different values in the centre crop.
        pixels: number of pixels of each of `centre_values`.
    """

    size: Size
    values: NDArray
    centre_values: NDArray
    pixels: NDArray


@dataclass(frozen=True, kw_only=True)
class ClassCodes(Labels):
    """A label map as (H, W) int16 class codes, −1 where a pixel has none.

    Args:
        codes: the code of value 0, 1, …; `NOT_SEEN` for values that no file had when the files were scanned.
    """

    dtype: ClassVar[torch.dtype] = torch.int16
    absent: ClassVar[int] = -1
    codes: tuple[int, ...] = ()

    def read(self, segment: Segment, crop: CropParams = CENTER_CROP) -> Tensor:
        values = super().read(segment, crop).numpy()
        # −1 and values beyond the table take its last entry.
        table = np.array((*self.codes, NOT_SEEN), np.int16)
        codes = table[np.clip(values, -1, len(self.codes))]
        if (codes == NOT_SEEN).any():
            raise DataError(
                f"{segment.path} has a pixel of value {values[codes == NOT_SEEN][0]}, which no label map had when the "
                "data were loaded: the file has changed; load the data again"
            )
        return torch.from_numpy(codes)


@dataclass(frozen=True, eq=False)
class LabelMaps(LazyRows):
    """(N, H, W) class codes of pixels that stay files, −1 for pixels without a class; `read` decodes them.

    Args:
        counts: (N, C) pixels of every class in the centre crop; 0 in rows without a label.
        class_names: (C,) names of the classes.
    """

    counts: NDArray
    class_names: tuple[str, ...]

    def __getitem__(self, rows: Any) -> LabelMaps:
        at = np.asarray(rows) if not isinstance(rows, slice) else rows
        return replace(self.index_select(at), counts=self.counts[at])

    def keep_labels(self, keep: NDArray) -> LabelMaps:
        """Keep the labels of these (N,) rows; the other rows lose their file names, so that nothing can read them."""
        return replace(self, files=np.where(keep, self.files, ""), counts=np.where(keep[:, None], self.counts, 0))

    def fingerprint(self, times: bool = False) -> bytes:
        """The digest of the rows plus the pixel counts: class values may change while the file size stays the same."""
        return super().fingerprint(times) + self.counts.tobytes()


def build_label_maps(x: LazyRows, scans: Sequence[LabelScan | None]) -> LabelMaps:
    """Turn rows of type `Labels` into class codes.

    The classes are those in `Labels.classes`, or else the values that occur, in both cases without `ignore`. A row
    without any class in the centre crop is unlabelled.

    Args:
        x: (N,) label files.
        scans: (N,) content of each file; None for a row without one.
    """
    kind = x.kind
    assert isinstance(kind, Labels)
    values: set[int] = set()
    for scan in scans:
        if scan is not None:
            values.update(scan.values.tolist())
    candidates = range(len(kind.classes)) if kind.classes else sorted(values)
    known = [v for v in candidates if v != kind.ignore]
    # Value -> code; a value that occurs in no file has none, and an error later on shows that a file changed.
    codes = np.full(max((*known, kind.ignore, 0)) + 1, NOT_SEEN)
    codes[known] = range(len(known))
    if kind.ignore >= 0:
        codes[kind.ignore] = -1
    counts = np.zeros((len(x), len(known)), np.int32)
    for i, scan in enumerate(scans):
        if scan is not None:
            classes = codes[scan.centre_values]
            counts[i, classes[classes >= 0]] = scan.pixels[classes >= 0]
    names = tuple(kind.classes[v] if kind.classes else str(v) for v in known)
    settings = {f.name: getattr(kind, f.name) for f in fields(kind)}
    coded = ClassCodes(**settings, codes=tuple(codes.tolist()))
    maps = LabelMaps(x.modality, coded, x.folder, x.files, x.starts, x.ends, x.names, counts, names)
    return maps.keep_labels(counts.sum(1) > 0)
