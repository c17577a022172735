"""Features in arrays, a part of the split at a time, as a prepared folder: an .npy per row and modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.readers.base import Faults, Row
from sidelight.recordings.registry import Array, RecordingType


@dataclass(frozen=True, eq=False)
class Part:
    """One part of the split.

    inputs: modality -> (N, …) numbers, or N arrays (T_i, C). target: (N,) or (N, K). ids: N names.
    lengths: modality -> (N,) valid time steps, where rows are padded.
    """

    name: str
    inputs: Mapping[str, NDArray | list[NDArray]]
    target: NDArray
    ids: list[str]
    lengths: Mapping[str, NDArray]

    def check(self, source: str) -> None:
        """Raises DataError naming the array whose number of rows is another one."""
        n = len(self.target)
        named = {"ids": self.ids, **self.inputs, **{f"{m} lengths": x for m, x in self.lengths.items()}}
        for what, x in named.items():
            if len(x) != n:
                raise DataError(f"{source}: {self.name}: {what} has {len(x)} rows, but the target has {n}")


def sequence_rows(
    parts: list[Part], source: str, split: Mapping[str, str], targets: tuple[str, ...], faults: Faults
) -> tuple[list[Row], dict[str, RecordingType], Callable[[Path], None]]:
    """Rows, kinds, and what writes the rows' files into the prepared folder; a row's faults go to `faults`."""
    rows, arrays = list[Row](), dict[str, NDArray]()
    for part in parts:
        part.check(source)
        values = np.asarray(part.target).reshape(len(part.target), -1)
        for i, name in enumerate(part.ids):
            where = f"{source}: {part.name}, row {i} ({name})"
            with faults.of(name):
                if values.dtype.kind == "f" and not np.isfinite(values[i]).all():
                    raise DataError(f"{where}: the target is {values[i].tolist()}; expected finite numbers")
                row: Row = {"id": name, "split": split[part.name], **dict(zip(targets, values[i].tolist()))}
                for m, x in part.inputs.items():
                    file = f"{m}/{part.name}-{i:06d}.npy"
                    arrays[file] = _row(np.asarray(x[i]), part.lengths.get(m), i, f"{where}: {m}")
                    row[f"{m}_file_name"] = file
                rows.append(row)
    kept = {row[f"{m}_file_name"] for row in rows for m in parts[0].inputs}

    def write(out: Path) -> None:
        for file in sorted(kept):
            (out / file).parent.mkdir(exist_ok=True)
            np.save(out / file, arrays[file], allow_pickle=False)

    return rows, {m: Array() for m in parts[0].inputs}, write


def _row(x: NDArray, lengths: NDArray | None, i: int, where: str) -> NDArray:
    if x.dtype.kind not in "fiub" or not x.size:
        raise DataError(f"{where} holds {x.dtype} of shape {x.shape}; expected numbers")
    if lengths is not None:
        if not 1 <= lengths[i] <= len(x):
            raise DataError(f"{where}: its length is {lengths[i]}; expected 1 to {len(x)} time steps")
        x = x[: int(lengths[i])]
    if not np.isfinite(x).all():
        at = tuple(np.argwhere(~np.isfinite(x))[0].tolist())
        raise DataError(f"{where}: value {at} is {x[at]}; expected finite numbers")
    return np.ascontiguousarray(x, np.float32)
