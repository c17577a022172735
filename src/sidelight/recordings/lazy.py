"""`LazyRows`: rows that stay files until they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import DataError, SidelightError
from sidelight.recordings.base import RecordingType, Segment
from sidelight.utils.machine import usable_cores
from sidelight.video.crop import CENTER_CROP, CropParams, CropSampler

NUMPY = {torch.uint8: np.uint8, torch.float32: np.float32, torch.int16: np.int16, torch.int32: np.int32}


@dataclass(frozen=True, eq=False)
class LazyRows:
    """(N, …) rows of one modality, each a file or a segment of one: indexed like an array, decoded only by `read`.

    Args:
        modality: its name.
        kind: the recording type of its files.
        folder: the folder that file names are relative to.
        files: (N,) file names; "" where the row lacks the modality.
        starts: (N,) first second of each segment; NaN: the start of the file.
        ends: (N,) last second of each segment; NaN: see `Segment`.
        names: (N,) names of the rows in errors.
    """

    modality: str
    kind: RecordingType
    folder: Path
    files: NDArray
    starts: NDArray
    ends: NDArray
    names: NDArray

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, ...]:
        shape = self.kind.shape
        assert shape is not None
        # Types without a fixed shape are never lazy.
        return len(self), *shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        """Always raises: numpy would wrap the rows in an object, or a caller would decode all of them by accident."""
        raise TypeError(f"the rows of {self.modality!r} are files; read those that are needed: x[rows].read().numpy()")

    def dim(self) -> int:
        """The same as `ndim`, for code that expects a tensor."""
        return self.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(NUMPY[self.kind.dtype])

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N,) bool: rows with a file."""
        return np.asarray(self.files != "")

    def __getitem__(self, rows: Any) -> LazyRows:
        """The given rows, in the given order; nothing is decoded."""
        return self.index_select(np.asarray(rows) if not isinstance(rows, slice) else rows)

    def index_select(self, at: NDArray | slice) -> Self:
        """The rows with these numbers, with the same class."""
        return replace(self, files=self.files[at], starts=self.starts[at], ends=self.ends[at], names=self.names[at])

    def segment(self, i: int) -> Segment:
        """The file of row i, and the seconds that the row covers."""
        start = None if np.isnan(self.starts[i]) else float(self.starts[i])
        end = None if np.isnan(self.ends[i]) else float(self.ends[i])
        return Segment(self.folder / str(self.files[i]), start, end)

    def row(self, i: int, crop: CropParams = CENTER_CROP) -> Tensor | None:
        """Decode one row; None where it is absent. Raises DataError naming modality, row and file."""
        if not self.files[i]:
            return None
        try:
            return self.kind.read(self.segment(i), crop)
        except SidelightError as error:
            raise DataError(f"{self.modality!r}, {self.names[i]}: {error}") from error

    def read(self, crops: Sequence[CropParams] | None = None, threads: int | None = 1) -> Tensor:
        """Decode all rows.

        Args:
            crops: (N,) the crop of each row; None: the centre.
            threads: number of threads; None: one per core.

        Returns:
            (N, …) tensor; absent rows hold `RecordingType.absent` (zero).

        Raises:
            DataError: a file cannot be decoded; names modality, row and file.
        """
        if threads == 1:
            return self.stack([self.row(i, crops[i] if crops else CENTER_CROP) for i in range(len(self))])
        with ThreadPoolExecutor(threads or usable_cores(), "decode") as pool:
            futures = self.submit(pool, crops)
            try:
                return self.stack([row.result() for row in futures])
            finally:
                # After an error the remaining files need not be decoded.
                for row in futures:
                    row.cancel()

    def submit(self, pool: Executor, crops: Sequence[CropParams] | None = None) -> list[Future[Tensor | None]]:
        """Start to decode every row in a pool; `stack` takes the results."""
        return [pool.submit(self.row, i, crops[i] if crops else CENTER_CROP) for i in range(len(self))]

    def stack(self, rows: Sequence[Tensor | None]) -> Tensor:
        """Copy decoded rows into one tensor; raises DataError for a row of another shape."""
        # numpy copies on one thread; torch would take the cores that decode.
        out = np.full(self.shape, self.kind.absent, self.dtype)
        for i, x in enumerate(rows):
            if x is not None:
                if tuple(x.shape) != self.shape[1:]:
                    raise DataError(
                        f"{self.modality!r}, {self.names[i]}: {self.segment(i).path} gives {tuple(x.shape)}; expected "
                        f"{self.shape[1:]}"
                    )
                out[i] = x.numpy()
        return torch.from_numpy(out)

    def fingerprint(self, times: bool = False) -> bytes:
        """A digest of settings, file names, segments and file sizes; with `times` also of modification times."""
        settings = self.kind.to_config()
        for name in ("view", "of"):  # which sizes are compared, and which column named the files; the rows are the same
            settings.pop(name, None)
        # File contents are not read: that would take as long as training on them.
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for i, name in enumerate(self.files.tolist()):
            path = self.folder / name
            size = path.stat().st_size if name and path.is_file() else 0
            changed = path.stat().st_mtime_ns if times and name and path.exists() else 0
            digest.update(f"{name}\0{self.starts[i]}\0{self.ends[i]}\0{size}\0{changed}\n".encode())
        return digest.digest()


def draw_crops(crops: CropSampler | None, step: int, index: Tensor) -> list[CropParams] | None:
    """Draw the crop of every row of a batch.

    Args:
        crops: the sampler; None: all rows are cropped at the centre.
        step: number of the training step.
        index: (B,) row numbers. A crop depends on seed, step and row alone, so it is the same in any thread.

    Returns:
        (B,) crops, or None.
    """
    return None if crops is None else [crops.draw(step, row) for row in index.tolist()]
