"""Rows of one modality that are gathered, and preprocessed, when they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sidelight.data.detrend import remove_drift
from sidelight.data.rows import VALUES_AT_ONCE, iterate_slices
from sidelight.data.standardize import fill_missing, standardize


@dataclass(frozen=True)
class StoredRows:
    """B of the N rows that a data set holds of a modality; batches share `values` and differ in `rows`.

    Args:
        values: (N, …) rows of the whole data set: vectors, signals or images as they are stored, or window statistics.
        rows: (B,) int64, which of them.
        fill: (C,) values that replace NaN; None: NaN stays.
        mean: (K, D) means that are subtracted; None: rows are read as they are.
        scale: (K, D) factors, 1 / standard deviation.
        which: (N,) int64, the mean and scale of each row of `values`; None: the first.
        clip: whether standardized values are clipped.
        steps: time steps to read of signals; None: all.
        detrend: drift that is removed from each signal (`detrend.KINDS`), whose NaN are then gaps; "": none.
        lengths: (N,) valid time steps of the rows of `values`, for `detrend`; None: all.
    """

    values: Tensor
    rows: Tensor
    fill: Tensor | None = None
    mean: Tensor | None = None
    scale: Tensor | None = None
    which: Tensor | None = None
    clip: bool = True
    steps: int | None = None
    detrend: str = ""
    lengths: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> StoredRows:
        """Some of the rows, by slice, numbers or mask; nothing is copied but their numbers."""
        return replace(self, rows=self.rows[rows])

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, …), the shape that `read` returns."""
        shape = tuple(self.values.shape[1:])
        return (len(self), *(shape if self.steps is None else (self.steps, *shape[1:])))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the values."""
        return self.values.dtype

    def dim(self) -> int:
        """The number of axes."""
        return self.values.dim()

    def cut(self, steps: int) -> StoredRows:
        """The same rows with the first time steps only."""
        return replace(self, steps=steps if self.steps is None else min(steps, self.steps))

    def read(self, length: Tensor | None = None, present: Tensor | None = None) -> Tensor:
        """Gather and preprocess the rows.

        Args:
            length: (B,) valid time steps of standardized signals; None: all.
            present: (B,) bool; None: all rows are present.

        Returns:
            (B, …) a copy, with the same bits whatever other rows are read along.
        """
        if self.detrend:  # of the whole row, so that the drift does not depend on how much of it is read
            valid = None if self.lengths is None else self.lengths[self.rows]
            x = remove_drift(self.values[self.rows], self.detrend, valid, self.fill is not None)[:, : self.steps]
        else:
            x = self.values[self.rows] if self.steps is None else self.values[self.rows, : self.steps]
            x = fill_missing(x, self.fill)
        if self.mean is None or self.scale is None:
            return x
        mean, scale = self.mean[0], self.scale[0]
        if self.which is not None:
            kind = self.which[self.rows]
            # (B, D), or (B, 1, C) to broadcast over time steps.
            shape = (len(self), *[1] * (x.dim() - 2), self.mean.shape[1])
            mean, scale = self.mean[kind].view(shape), self.scale[kind].view(shape)
        return standardize(x, mean, scale, self.clip, length, present)


Values = Tensor | StoredRows
"""Rows of a modality in a tensor, or still to be gathered."""


def gather(x: Values) -> Tensor:
    """The rows as a tensor; a tensor itself is not copied."""
    return x.read() if isinstance(x, StoredRows) else x


def iterate_parts(x: Values, most: int = VALUES_AT_ONCE) -> Iterator[tuple[slice, Tensor]]:
    """A few rows at a time, with their place: parts of at most `most` values."""
    for rows in iterate_slices(x, most):
        yield rows, gather(x[rows])
