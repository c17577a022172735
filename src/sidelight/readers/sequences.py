"""Writes arrays of features as a prepared folder: one .npy per row and modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.readers.base import Row, RowErrors
from sidelight.recordings.registry import Array, RecordingType


@dataclass(frozen=True, eq=False)
class SplitArrays:
    """The arrays of one part of the official split.

    Args:
        name: of the part, such as "train".
        inputs: modality -> (N, …) numbers, or N arrays (T_i, C).
        target: (N,) or (N, K).
        ids: N row ids.
        lengths: modality -> (N,) valid time steps, for padded modalities.
    """

    name: str
    inputs: Mapping[str, NDArray | list[NDArray]]
    target: NDArray
    ids: list[str]
    lengths: Mapping[str, NDArray]

    def check(self, source: str) -> None:
        """Raise DataError, naming the array, if the numbers of rows differ."""
        n = len(self.target)
        named = {"ids": self.ids, **self.inputs, **{f"{m} lengths": x for m, x in self.lengths.items()}}
        for what, x in named.items():
            if len(x) != n:
                raise DataError(f"{source}: {self.name}: {what} has {len(x)} rows, but the target has {n}")


def build_sequence_rows(
    parts: list[SplitArrays], source: str, split: Mapping[str, str], targets: tuple[str, ...], errors: RowErrors
) -> tuple[list[Row], dict[str, RecordingType], Callable[[Path], None]]:
    """Build the rows of a data set that consists of arrays.

    Args:
        parts: the arrays of each part of the split; all have the same modalities.
        source: begins every error message.
        split: name of a part -> "train", "select" or "test".
        targets: column of each of the K target values.
        errors: collects the errors of single rows.

    Returns:
        rows: one per sample.
        modalities: modality -> recording type.
        write: writes the .npy files of the rows into the prepared folder.

    Raises:
        DataError: arrays of one part with different numbers of rows.
    """
    rows: list[Row] = []
    arrays: dict[str, NDArray] = {}
    modalities = list(parts[0].inputs)
    for part in parts:
        part.check(source)
        values = np.asarray(part.target).reshape(len(part.target), -1)
        for i, row_id in enumerate(part.ids):
            where = f"{source}: {part.name}, row {i} ({row_id})"
            with errors.catch(row_id):
                if values.dtype.kind == "f" and not np.isfinite(values[i]).all():
                    raise DataError(f"{where}: the target is {values[i].tolist()}; expected finite numbers")
                row: Row = {"id": row_id, "split": split[part.name]}
                row |= dict(zip(targets, values[i].tolist()))
                for m, x in part.inputs.items():
                    file = f"{m}/{part.name}-{i:06d}.npy"
                    arrays[file] = _trim(np.asarray(x[i]), part.lengths.get(m), i, f"{where}: {m}")
                    row[f"{m}_file_name"] = file
                rows.append(row)

    # A row that failed at its second modality has left its first array behind; only the files of rows are written.
    kept = {row[f"{m}_file_name"] for row in rows for m in modalities}

    def write(out: Path) -> None:
        for file in sorted(kept):
            (out / file).parent.mkdir(exist_ok=True)
            np.save(out / file, arrays[file], allow_pickle=False)

    return rows, {m: Array() for m in modalities}, write


def _trim(x: NDArray, lengths: NDArray | None, i: int, where: str) -> NDArray:
    """Cut row i to its valid time steps, as contiguous float32."""
    if x.dtype.kind not in "fiub" or not x.size:
        raise DataError(f"{where} holds {x.dtype} of shape {x.shape}; expected numbers")
    if lengths is not None:
        if not 1 <= lengths[i] <= len(x):
            raise DataError(f"{where}: its length is {lengths[i]}; expected 1 to {len(x)} time steps")
        x = x[: int(lengths[i])]
    # Padding may hold anything, so values are checked after it is cut off.
    if not np.isfinite(x).all():
        at = tuple(np.argwhere(~np.isfinite(x))[0].tolist())
        raise DataError(f"{where}: value {at} is {x[at]}; expected finite numbers")
    return np.ascontiguousarray(x, np.float32)
