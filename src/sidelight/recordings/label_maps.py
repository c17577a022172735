"""Label maps: a class per pixel, in files that are looked at once and decoded when a batch or a score needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import DataError
from sidelight.recordings.image_files import check_single_channel, read_image_size
from sidelight.recordings.lazy import LazyRows
from sidelight.recordings.pictures import Picture
from sidelight.recordings.recording_type import Segment, Size
from sidelight.utils.images import LARGEST, read_labels
from sidelight.video.crop import CENTRE, CropParams, nearest

NOT_SEEN = -2


@dataclass(frozen=True, kw_only=True)
class Labels(Picture):
    """A class per pixel, (H, W) int32 values as the file has them: the target of a segmentation.

    Args:
        classes: names of the values 0, 1, …
        ignore: the value of pixels without a class.
    """

    kind: ClassVar[str] = "labels"
    dtype: ClassVar[torch.dtype] = torch.int32
    classes: tuple[str, ...] = ()
    ignore: int = 255

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.size)

    def probe(self, segment: Segment) -> Size | None:
        return read_image_size(segment.path, check_single_channel)

    def read(self, segment: Segment, crop: CropParams = CENTRE) -> Tensor:
        return nearest(torch.from_numpy(read_labels(segment.path).astype(np.int32)), crop, self.size)

    def scan(self, segment: Segment) -> LabelScan:
        """What a file holds; raises DataError naming file and pixel for a value that is no class."""
        values = read_labels(segment.path).astype(np.int32)
        last = len(self.classes) - 1 if self.classes else LARGEST
        bad = np.argwhere(((values < 0) | (values > last)) & (values != self.ignore))
        if len(bad):
            y, x = bad[0].tolist()
            raise DataError(
                f"{segment.path}: pixel ({y}, {x}) is {values[y, x]}; expected class values from 0 to {last}, or "
                f"{self.ignore} (ignore) for no class. Mend the file, or the classes in modalities.json"
            )
        seen = nearest(torch.from_numpy(values), CENTRE, self.size).numpy()
        return LabelScan((values.shape[0], values.shape[1]), np.unique(values), *np.unique(seen, return_counts=True))


class LabelScan(NamedTuple):
    """Of a label map: its size, the values in all of it, and those in the centre view with how many pixels have them.

    Views of training show what the centre does not, so all of it is checked; what is scored is the centre.
    """

    size: Size
    values: NDArray
    seen: NDArray
    pixels: NDArray


@dataclass(frozen=True, kw_only=True)
class ClassCodes(Labels):
    """A label map as (H, W) int16 class codes, −1 where a pixel has none.

    Args:
        codes: the code of value 0, 1, …; `NOT_SEEN` of a value that no file had when they were looked at.
    """

    dtype: ClassVar[torch.dtype] = torch.int16
    absent: ClassVar[int] = -1
    codes: tuple[int, ...] = ()

    def read(self, segment: Segment, crop: CropParams = CENTRE) -> Tensor:
        values = super().read(segment, crop).numpy()
        table = np.array((*self.codes, NOT_SEEN), np.int16)
        codes = table[np.clip(values, -1, len(self.codes))]
        if (codes == NOT_SEEN).any():
            raise DataError(
                f"{segment.path} has a pixel of value {values[codes == NOT_SEEN][0]}, which no label map had when the "
                "data were loaded; it has been changed since: load them again"
            )
        return torch.from_numpy(codes)


@dataclass(frozen=True, eq=False)
class LabelMaps(LazyRows):
    """(N, H, W) class codes of pixels that stay files, −1 where a pixel has none; `read` decodes them.

    counts: (N, C) pixels of every class in the centre view, 0 of a row without a label. labels: (C,) their names.
    """

    counts: NDArray
    class_names: tuple[str, ...]

    def __getitem__(self, rows: Any) -> LabelMaps:
        at = np.asarray(rows) if not isinstance(rows, slice) else rows
        return replace(self.index_select(at), counts=self.counts[at])

    def keep_labels(self, keep: NDArray) -> LabelMaps:
        """The same rows, the others' (N,) labels unknown: their files are forgotten, so that nothing can read them."""
        return replace(self, files=np.where(keep, self.files, ""), counts=np.where(keep[:, None], self.counts, 0))

    def fingerprint(self, times: bool = False) -> bytes:
        """As of any rows, and of how many pixels each class has: class values may change and their file's size not."""
        return super().fingerprint(times) + self.counts.tobytes()


def build_label_maps(x: LazyRows, scans: Sequence[LabelScan | None]) -> LabelMaps:
    """Rows of kind `Labels` as class codes: of `classes`, or of the values that occur, `ignore` left out of both.

    scans: what each row's file holds, None of a row without one. A row without a class in the centre view has
    no label.
    """
    kind = x.kind
    assert isinstance(kind, Labels)
    found = [scan for scan in scans if scan is not None]
    values = {int(v) for scan in found for v in scan.values}
    known = [v for v in (range(len(kind.classes)) if kind.classes else sorted(values)) if v != kind.ignore]
    codes = np.full(max((*known, kind.ignore, 0)) + 1, NOT_SEEN)
    codes[known] = range(len(known))
    if kind.ignore >= 0:
        codes[kind.ignore] = -1
    counts = np.zeros((len(x), len(known)), np.int32)
    for i, scan in enumerate(scans):
        if scan is not None:
            here = codes[scan.seen]
            counts[i, here[here >= 0]] = scan.pixels[here >= 0]
    names = tuple(kind.classes[v] if kind.classes else str(v) for v in known)
    coded = ClassCodes(size=kind.size, classes=kind.classes, ignore=kind.ignore, codes=tuple(codes.tolist()))
    maps = LabelMaps(x.modality, coded, x.folder, x.files, x.starts, x.ends, x.names, counts, names)
    return maps.keep_labels(counts.sum(1) > 0)
