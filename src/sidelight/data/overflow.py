"""Finite values that do not stay finite in float32 on their way to an answer."""

from __future__ import annotations

from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.rows import name_row
from sidelight.errors import DataError


def describe_overflow(what: str, raw: Tensor, where: str, rows: int = 1) -> str:
    """The sentence for values, `raw`, that overflow: how large they are, and what to do."""
    most = float(raw.float().abs().nan_to_num(0, 0, 0).max()) if raw.numel() else 0.0
    return (
        f"{what}, {where}: values up to {most:.3g} overflow float32 where they are squared or summed"
        f"{f' ({rows} such rows)' if rows > 1 else ''}. Look at the recording and its unit, give the values in a "
        "larger unit, or leave the row out"
    )


def check_preprocessed(what: str, read: Tensor, raw: Tensor, ids: NDArray, start: int = 0) -> None:
    """Raises DataError for the first row that is NaN or infinite as a network reads it.

    what: how the error calls the modality. read: (B, …) as it leaves the preprocessor. raw: (N, …) as it was given,
    from which `read` begins at row `start`. ids: (N,) how errors call the rows.
    """
    bad = ~read.isfinite().flatten(1).all(1)
    if bad.any():
        i = start + int(bad.nonzero()[0, 0])
        raise DataError(describe_overflow(what, raw[i], name_row(i, ids), int(bad.sum())))


def check_output(answer: Tensor, ids: NDArray, modalities: str, start: int = 0) -> None:
    """Raises DataError for the first row whose answer is NaN or infinite although what was read is finite.

    answer: (B, …) of the rows from number `start` on. ids: (N,) how errors call all rows. modalities: what was read.
    """
    bad = ~answer.isfinite().flatten(1).all(1)
    if bad.any():
        i = start + int(bad.nonzero()[0, 0])
        raise DataError(
            f"{name_row(i, ids)}: the answer is not finite, although all that was read of {modalities} is "
            f"({int(bad.sum())} such rows): the network overflows. If its file is not damaged, train it again with a "
            "lower training.learning_rate"
        )
