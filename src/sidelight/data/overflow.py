"""Finite values that overflow float32 on their way to an answer."""

from __future__ import annotations

import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.rows import iterate_slices, name_row
from sidelight.data.stored_rows import StoredRows
from sidelight.errors import DataError

AT_ONCE = 2**18
"""Values that are preprocessed at a time to be checked."""


def describe_overflow(what: str, raw: Tensor, where: str, rows: int = 1) -> str:
    """The sentence of an error about values that overflow: their size, and what helps.

    Args:
        what: name of the modality.
        raw: the raw values, of any shape.
        where: name of the row or rows.
        rows: number of such rows.
    """
    largest = float(raw.float().abs().nan_to_num(0, 0, 0).max()) if raw.numel() else 0.0
    count = f" ({rows} such rows)" if rows > 1 else ""
    return (
        f"{what}, {where}: values up to {largest:.3g} overflow float32 where they are squared or summed{count}. Look "
        "at the recording and its unit, give the values in a larger unit, or leave the row out"
    )


def check_preprocessed(what: str, read: Tensor, raw: Tensor, ids: NDArray, start: int = 0) -> None:
    """Raise DataError for the first row that is NaN or infinite after preprocessing.

    Args:
        what: name of the modality in errors.
        read: (B, …) preprocessed rows.
        raw: (N, …) raw rows; `read` begins at row `start` of them.
        ids: (N,) ids.
        start: see `raw`.
    """
    _check_rows(what, ~read.isfinite().flatten(1).all(1), raw, ids, start)


def check_stored(
    what: str, rows: StoredRows, length: Tensor | None, present: Tensor, raw: Tensor, ids: NDArray
) -> None:
    """As `check_preprocessed`, for rows that are preprocessed here a few at a time.

    Args:
        what: name of the modality in errors.
        rows: all rows of the data set.
        length: (N,) valid time steps of signals; None: all.
        present: (N,) bool.
        raw: (N, …) raw rows.
        ids: (N,) ids.
    """
    bad = []
    for some in iterate_slices(rows, AT_ONCE):
        read = rows[some].read(None if length is None else length[some], present[some])
        bad.append(~read.isfinite().flatten(1).all(1))
    _check_rows(what, torch.cat(bad), raw, ids, 0)


def _check_rows(what: str, bad: Tensor, raw: Tensor, ids: NDArray, start: int) -> None:
    if bad.any():
        i = start + int(bad.nonzero()[0, 0])
        raise DataError(describe_overflow(what, raw[i], name_row(i, ids), int(bad.sum())))


def check_output(answer: Tensor, ids: NDArray, modalities: str, start: int = 0) -> None:
    """Raise DataError for the first row whose output is NaN or infinite although its inputs are finite.

    Args:
        answer: (B, …) outputs of the rows from number `start` on.
        ids: (N,) ids of all rows.
        modalities: names of the modalities that were read.
        start: see `answer`.
    """
    bad = ~answer.isfinite().flatten(1).all(1)
    if bad.any():
        i = start + int(bad.nonzero()[0, 0])
        raise DataError(
            f"{name_row(i, ids)}: the answer is not finite, although every value that was read from {modalities} is "
            f"({int(bad.sum())} such rows): the network overflows. If its file is not damaged, train it again with a "
            "lower training.learning_rate"
        )
