"""Feature rows without a target, and the checks that name the faulty value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.by_modality import index_rows
from sidelight.errors import DataError
from sidelight.utils.names import check_modality

VALUES_AT_ONCE = 2**20
"""Values whose masks and copies are in memory at a time."""


def iterate_slices(x: Any, most: int = VALUES_AT_ONCE) -> Iterator[slice]:
    """Slices of the rows of (N, …) values: as many rows at a time as have `most` values, at least one."""
    size = max(1, most // max(math.prod(x.shape[1:]), 1))
    for start in range(0, len(x), size):
        yield slice(start, start + size)


def number_rows(n: int) -> NDArray:
    """(N,) str, the row numbers, in arrays no wider than the last of them."""
    return np.arange(n).astype(f"<U{len(str(max(n - 1, 0)))}")


def to_text_array(values: Any) -> NDArray:
    """Values as an array of str; one that is an array of str already is not copied."""
    return np.asarray(values).astype(str, copy=False)


def name_row(i: int, ids: NDArray) -> str:
    """The name of a row in errors: its number, and its id if that differs."""
    return f"row {i}" if str(ids[i]) == str(i) else f"row {i} (id {str(ids[i])!r})"


def to_float32(x: NDArray, what: str, rows: Sequence[str] | None = None) -> NDArray[np.float32]:
    """Convert numbers to float32.

    Args:
        x: (N, …) real numbers; a single row may have any shape.
        what: name of the array in errors.
        rows: (N,) names of the rows in errors. None: row numbers. (): `x` is a single row.

    Returns:
        The same shape in float32; an array in float32 itself, not a copy.

    Raises:
        DataError: a finite number exceeds the range of float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        y = np.asarray(x).astype(np.float32, copy=False)
    # Only wider floats can overflow here; the largest 64-bit integer fits into float32.
    if x.dtype.kind != "f" or x.dtype.itemsize <= 4:
        return y

    for rows_of in iterate_slices(x) if x.ndim else ():
        overflowed = np.argwhere(np.isinf(y[rows_of]) & np.isfinite(x[rows_of]))
        if not len(overflowed):
            continue
        where = [rows_of.start + int(overflowed[0, 0]), *overflowed[0, 1:].tolist()]
        single = rows is not None and not rows
        row = "" if single else f", row {where[0]}" if rows is None else f", {rows[where[0]]}"
        inside = where if single else where[1:]
        place = f", place {inside[0] if len(inside) == 1 else inside}" if inside else ""
        raise DataError(
            f"{what}{row}{place}: {x[tuple(where)]:g} is too large for float32, which ends at "
            f"{np.finfo(np.float32).max:.3g}; give the column in another unit, or its logarithm"
        )
    return y


def check_finite(
    what: str,
    x: NDArray,
    ids: NDArray,
    impute: bool,
    instead: str,
    lengths: NDArray | None = None,
    columns: Sequence[str] = (),
) -> None:
    """Raise DataError for the first infinite value or, unless NaN will be imputed, the first NaN.

    Args:
        what: name of the array in errors.
        x: (N, …) values; arrays of integers always pass.
        ids: (N,) ids of the rows.
        impute: whether NaN is allowed.
        instead: the advice for a NaN beside correcting the value.
        lengths: (N,) valid time steps of signals (N, T, C); later steps are not checked.
        columns: names of the columns of vectors (N, D), where they are known.

    Raises:
        DataError: names row, place and value.
    """
    if x.dtype.kind != "f":
        return

    def find_bad(rows: slice) -> NDArray:
        bad = np.isinf(x[rows]) if impute else ~np.isfinite(x[rows])
        if lengths is not None:
            bad &= (np.arange(x.shape[1])[None] < lengths[rows, None])[:, :, None]
        return np.asarray(bad)

    # A mask of all values is made for the error alone.
    if not any(find_bad(rows).any() for rows in iterate_slices(x)):
        return
    bad = find_bad(slice(None))
    where = tuple(int(v) for v in np.argwhere(bad)[0])
    if x.ndim == 2:
        place = f"column {columns[where[1]]!r}" if len(columns) == x.shape[1] else f"column {where[1]}"
    elif x.ndim == 3:
        place = f"time step {where[1]}, channel {where[2]}"
    else:
        place = f"channel {where[1]}, pixel {where[2:]}"
    n_rows = int(bad.reshape(len(x), -1).any(1).sum())
    raise DataError(
        f"{what} is {x[where]} in {name_row(where[0], ids)}, {place} ({int(bad.sum())} such values in "
        f"{n_rows} rows); correct the value or leave the row out{'' if np.isinf(x[where]) else instead}"
    )


def is_lazy(x: Any) -> bool:
    """Whether rows are `LazyRows`, that is, still files. Asks without importing the decoders."""
    return hasattr(x, "files") and hasattr(x, "read")


def read_into_memory(x: Any) -> NDArray:
    """Rows as an array; files are decoded."""
    return np.asarray(x.read(threads=None).numpy() if is_lazy(x) else x)


@dataclass
class Rows:
    """The features of N rows: the input of a deployed student.

    Args:
        name: name of the data in errors.
        inputs: modality -> (N, D) or (N, T, C) float32, (N, C, H, W) images in uint8, float16 or float32, or
            `LazyRows`.
        present: modality -> (N,) bool.
        lengths: modality -> (N,) int64 valid time steps, for variable-length signals only.
        group: (N,) str, or None.
        ids: (N,) str; None: the row numbers.
        schema: modality -> `RecordingType.schema` of its recordings.
        skipped: `id`, `modality` and `reason` of rows that were dropped because a recording is unreadable.
        columns: modality -> names of a vector's columns, where known.
    """

    name: str
    inputs: dict[str, Any]
    present: dict[str, NDArray] = field(default_factory=dict)
    lengths: dict[str, NDArray] = field(default_factory=dict)
    group: NDArray | None = None
    ids: NDArray | None = None
    schema: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: tuple[dict[str, str], ...] = ()
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def index_select(self, rows: slice) -> Rows:
        """A slice of the rows."""
        return Rows(
            name=self.name,
            inputs=index_rows(self.inputs, rows),
            present=index_rows(self.present, rows),
            lengths=index_rows(self.lengths, rows),
            group=None if self.group is None else self.group[rows],
            ids=None if self.ids is None else self.ids[rows],
            schema=self.schema,
            columns=self.columns,
        )

    def check(self, impute: str = "no") -> None:
        """Check shapes, lengths and values, and write zeros into padding and absent rows.

        Raises:
            DataError: names modality, row and value.
        """
        if self.ids is None:
            self.ids = number_rows(len(self))
        advice = ", or ask for impute='mean' (--impute mean)"
        for m in self.inputs:
            self._check_shape(m)
            # Files are checked when they are opened; reading them all here would take hours.
            if is_lazy(self.inputs[m]):
                continue
            if m in self.lengths:
                self._check_lengths(m)
            self._blank_absent(m)
            what, names = f"{self.name}: modality {m!r}", self.columns.get(m, ())
            check_finite(what, self.inputs[m], self.ids, impute == "mean", advice, columns=names)

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
        # Padding is zero whatever the source put there, so that nothing can leak through it.
        padding = np.arange(x.shape[1])[None] >= lengths[:, None]
        if x[padding].any():
            self.inputs[m] = np.where(padding[:, :, None], np.float32(0), x)

    def _blank_absent(self, m: str) -> None:
        absent = ~self.present[m]
        if self.inputs[m][absent].any():
            # The array may belong to the caller, so a copy is changed.
            self.inputs[m] = self.inputs[m].copy()
            self.inputs[m][absent] = 0
