"""Rows that stay files until they are read."""

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
from sidelight.recordings.recording_type import RecordingType, Segment
from sidelight.utils.machine import usable_cores
from sidelight.video.crop import CENTRE, CropParams, CropSampler

NUMPY = {torch.uint8: np.uint8, torch.float32: np.float32, torch.int16: np.int16, torch.int32: np.int32}


@dataclass(frozen=True, eq=False)
class LazyRows:
    """(N, …) rows of one modality, each a file or a part of one; indexed like an array, decoded by `read` alone.

    files: (N,) str as the table names them, relative to `folder`, "" where the row lacks the modality. starts, ends:
    (N,) seconds, NaN where the file's own. names: (N,) how errors call the rows.
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
        return len(self), *shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        """Refused: numpy would take the rows for an object without values, or a caller decode them all unawares."""
        raise TypeError(f"the rows of {self.modality!r} are files; read those that are needed: x[rows].read().numpy()")

    def dim(self) -> int:
        """As `ndim`, as tensors call it."""
        return self.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(NUMPY[self.kind.dtype])

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N,) which rows have a file."""
        return np.asarray(self.files != "")

    def __getitem__(self, rows: Any) -> LazyRows:
        """The given rows, in their order; nothing is decoded."""
        return self.index_select(np.asarray(rows) if not isinstance(rows, slice) else rows)

    def index_select(self, at: NDArray | slice) -> Self:
        """The rows of these numbers."""
        return replace(self, files=self.files[at], starts=self.starts[at], ends=self.ends[at], names=self.names[at])

    def segment(self, i: int) -> Segment:
        """What row i is of."""
        start, end = (None if np.isnan(at[i]) else float(at[i]) for at in (self.starts, self.ends))
        return Segment(self.folder / str(self.files[i]), start, end)

    def row(self, i: int, crop: CropParams = CENTRE) -> Tensor | None:
        """One row decoded, None where it is absent; raises DataError naming modality, row and file."""
        if not self.files[i]:
            return None
        try:
            return self.kind.read(self.segment(i), crop)
        except SidelightError as error:
            raise DataError(f"{self.modality!r}, {self.names[i]}: {error}") from error

    def read(self, crops: Sequence[CropParams] | None = None, threads: int | None = 1) -> Tensor:
        """(N, …) decoded, `RecordingType.absent` (zeros) where a row is absent.

        looks: the view of each row; the centre by default. threads: None: as many as there are cores.
        """
        if threads == 1:
            return self.stack([self.row(i, crops[i] if crops else CENTRE) for i in range(len(self))])
        with ThreadPoolExecutor(threads or usable_cores(), "decode") as pool:
            begun = self.submit(pool, crops)
            try:
                return self.stack([row.result() for row in begun])
            finally:
                for row in begun:
                    row.cancel()

    def submit(self, pool: Executor, crops: Sequence[CropParams] | None = None) -> list[Future[Tensor | None]]:
        """Every row's decoding handed to a pool; `joined` takes their results."""
        return [pool.submit(self.row, i, crops[i] if crops else CENTRE) for i in range(len(self))]

    def stack(self, rows: Sequence[Tensor | None]) -> Tensor:
        """Decoded rows as one tensor."""
        # numpy copies on one thread; torch would occupy the cores that decode
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
        """Of what the rows are: settings, names, places in time, sizes of files; with `times` their times of change."""
        told = self.kind.to_config()
        told.pop("view", None)  # says what is compared with what; a row is the same
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for i, name in enumerate(self.files.tolist()):
            path = self.folder / name
            size = path.stat().st_size if name and path.is_file() else 0
            changed = path.stat().st_mtime_ns if times and name and path.exists() else 0
            digest.update(f"{name}\0{self.starts[i]}\0{self.ends[i]}\0{size}\0{changed}\n".encode())
        return digest.digest()


def draw_crops(crops: CropSampler | None, step: int, index: Tensor) -> list[CropParams] | None:
    """The views of the rows with these numbers in a training step; None: all from the centre."""
    return None if crops is None else [crops.draw(step, row) for row in index.tolist()]
