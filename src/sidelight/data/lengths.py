"""Rows of different lengths: what is usual, and rows that are far longer than that."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sidelight.data.rows import name_row
from sidelight.errors import SidelightWarning

LONG = 10
"""A row is far longer than the rest from this many times the median length on."""


def compute_median_length(lengths: NDArray) -> int:
    """The median of (N,) lengths, of the rows that have one."""
    return int(np.median(lengths[lengths > 0])) if (lengths > 0).any() else 0


def has_long_rows(lengths: NDArray) -> bool:
    """Whether the longest row has more than `LONG` times the median's time steps."""
    return bool(lengths.max(initial=0) > LONG * compute_median_length(lengths))


def warn_long_rows(name: str, lengths_of: Mapping[str, NDArray], ids: NDArray) -> None:
    """Says which rows are so much longer than the rest that padding the rest to their length is a burden."""
    for m, lengths in lengths_of.items():
        middle = compute_median_length(lengths)
        if not has_long_rows(lengths):
            continue
        rows = np.flatnonzero(lengths > LONG * middle)
        i = int(lengths.argmax())
        more = f" ({len(rows)} rows are longer than {LONG} times that)" if len(rows) > 1 else ""
        rest = int(lengths[lengths <= LONG * middle].max())
        warnings.warn(
            f"{name}: modality {m!r}: {name_row(i, ids)} has {lengths[i]} time steps, but the median is {middle}"
            f"{more}. All rows are padded to the longest in memory. Cut it with longest.{m}={rest} "
            f"(in Python longest={{{m!r}: {rest}}}), which keeps all of the other rows, or leave it out",
            SidelightWarning,
            stacklevel=3,
        )
