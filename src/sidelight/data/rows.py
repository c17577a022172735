"""The features of rows without a target, and the checks that name what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.utils.names import check_modality


def name_row(i: int, ids: NDArray) -> str:
    """How errors name a row: its number, and its id if it has another one."""
    return f"row {i}" if str(ids[i]) == str(i) else f"row {i} (id {str(ids[i])!r})"


def to_float32(x: NDArray, what: str, rows: Sequence[str] | None = None) -> NDArray[np.float32]:
    """The same numbers in float32.

    Args:
        x: (N, …) real numbers; of one row alone, of any shape.
        what: how errors call the array.
        rows: (N,) how they call each row; left out: by its number; (): x is one row.

    Raises:
        DataError: a finite number is larger than any of float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        y = np.asarray(x).astype(np.float32)
    if x.dtype.kind == "f" and x.dtype.itemsize > 4:
        for where in np.argwhere(np.isinf(y) & np.isfinite(x))[:1].tolist():
            row = f", row {where[0]}" if rows is None else f", {rows[where[0]]}" if rows else ""
            inside = where if rows is not None and not rows else where[1:]
            place = f", place {inside[0] if len(inside) == 1 else inside}" if inside else ""
            raise DataError(
                f"{what}{row}{place}: {x[tuple(where)]:g} is too large for float32, which ends at "
                f"{np.finfo(np.float32).max:.3g}; give the column in another unit, or its logarithm"
            )
    return y


def check_finite(
    what: str, x: NDArray, ids: NDArray, impute: bool, instead: str, lengths: NDArray | None = None
) -> None:
    """Raises DataError naming the first value that is infinite or, unless it will be imputed, NaN.

    what: how the error calls the array. instead: what else than mending helps against a NaN. lengths: (N,) time steps
    that are read.
    """
    if x.dtype.kind != "f":
        return
    bad = np.isinf(x) if impute else ~np.isfinite(x)
    if lengths is not None:
        bad &= (np.arange(x.shape[1])[None] < lengths[:, None])[:, :, None]
    if not bad.any():
        return
    where = tuple(int(v) for v in np.argwhere(bad)[0])
    place = f"column {where[1]}" if x.ndim == 2 else f"time step {where[1]}, channel {where[2]}" if x.ndim == 3 else ""
    place = place or f"channel {where[1]}, pixel {where[2:]}"
    raise DataError(
        f"{what} is {x[where]} in {name_row(where[0], ids)}, {place} ({int(bad.sum())} such values in "
        f"{int(bad.reshape(len(x), -1).any(1).sum())} rows); mend the value or leave the row out"
        f"{'' if np.isinf(x[where]) else instead}"
    )


def is_lazy(x: Any) -> bool:
    """Whether rows are `LazyRows`, still files; asked without importing what decodes them."""
    return hasattr(x, "files") and hasattr(x, "read")


def read_into_memory(x: Any) -> NDArray:
    """Rows as an array; decoded where they are files."""
    return np.asarray(x.read(threads=None).numpy() if is_lazy(x) else x)


@dataclass
class Rows:
    """What a deployed student is given.

    inputs:  modality -> (N, D) or (N, T, C) float32, or (N, C, H, W) images, also uint8 or float16, or `LazyRows`.
    present: modality -> (N,) bool. lengths: modality -> (N,) int64.
    group: (N,) str or None. ids: (N,) str. meaning: modality -> `RecordingType.schema` of recordings. skipped: `id`, `modality`
    and `reason` of rows that were left out since a recording cannot be read.
    """

    name: str
    inputs: dict[str, Any]
    present: dict[str, NDArray] = field(default_factory=dict)
    lengths: dict[str, NDArray] = field(default_factory=dict)
    group: NDArray | None = None
    ids: NDArray | None = None
    schema: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: tuple[dict[str, str], ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def index_select(self, rows: slice) -> Rows:
        """Some of the rows."""
        arrays = (self.inputs, self.present, self.lengths)
        inputs, present, lengths = ({m: x[rows] for m, x in of.items()} for of in arrays)
        group, ids = (None if x is None else x[rows] for x in (self.group, self.ids))
        return Rows(self.name, inputs, present, lengths, group, ids, self.schema)

    def check(self, impute: str = "no") -> None:
        """Finite values where present, lengths that fit, zeros where absent; raises DataError naming the culprit."""
        if self.ids is None:
            self.ids = np.arange(len(self)).astype(str)
        for m in self.inputs:
            self._check_shape(m)
            if is_lazy(self.inputs[m]):
                continue
            if m in self.lengths:
                self._check_lengths(m)
            self._blank_absent(m)
            check_finite(
                f"{self.name}: modality {m!r}", self.inputs[m], self.ids, impute == "mean", ", or ask for impute='mean'"
            )

    def _row(self, i: int | np.integer) -> str:
        assert self.ids is not None
        return name_row(int(i), self.ids)

    def _check_shape(self, m: str) -> None:
        x = self.inputs[m]
        check_modality(m, self.name)
        if x.ndim not in (2, 3, 4, 5):
            raise DataError(
                f"{self.name}: modality {m!r} has shape {x.shape}; expected (N, D) vectors, (N, T, C) signals, "
                "(N, C, H, W) images or (N, C, T, H, W) clips"
            )
        if 0 in x.shape[1:]:
            raise DataError(f"{self.name}: modality {m!r} has shape {x.shape}: its rows are empty")

    def _check_lengths(self, m: str) -> None:
        x, lengths, present = self.inputs[m], self.lengths[m], self.present[m]
        if x.ndim != 3:
            raise DataError(f"{self.name}: modality {m!r} has lengths, but its rows have shape {x.shape[1:]}")
        for i in np.flatnonzero(present & ((lengths < 1) | (lengths > x.shape[1]))):
            raise DataError(
                f"{self.name}: modality {m!r}, {self._row(i)}: length {lengths[i]} is not between 1 and "
                f"{x.shape[1]} time steps"
            )
        self.lengths[m] = lengths = np.where(present, lengths, 0)
        padding = np.arange(x.shape[1])[None] >= lengths[:, None]
        if x[padding].any():
            self.inputs[m] = np.where(padding[:, :, None], np.float32(0), x)

    def _blank_absent(self, m: str) -> None:
        absent = ~self.present[m]
        if self.inputs[m][absent].any():
            self.inputs[m] = self.inputs[m].copy()
            self.inputs[m][absent] = 0
