"""Rows of different lengths: the usual length, and rows that are far longer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sidelight.data.rows import name_row
from sidelight.errors import SidelightWarning

LONG = 10
"""A row is far longer than the others from this many times the median length on."""


def compute_median_length(lengths: NDArray) -> int:
    """The median of (N,) lengths, without the absent rows of length 0."""
    return int(np.median(lengths[lengths > 0])) if (lengths > 0).any() else 0


def has_long_rows(lengths: NDArray) -> bool:
    """Whether the longest row has more than `LONG` times the median's time steps."""
    return bool(lengths.max(initial=0) > LONG * compute_median_length(lengths))


def warn_long_rows(name: str, lengths_of: Mapping[str, NDArray], ids: NDArray) -> None:
    """Warn of rows so much longer than the others that padding all rows to their length wastes memory.

    Args:
        name: name of the data set.
        lengths_of: modality -> (N,) valid time steps.
        ids: (N,) ids.
    """
    for m, lengths in lengths_of.items():
        if not has_long_rows(lengths):
            continue
        median = compute_median_length(lengths)
        n_long = int((lengths > LONG * median).sum())
        longest = int(lengths.argmax())
        more = f" ({n_long} rows are longer than {LONG} times that)" if n_long > 1 else ""
        # This cut shortens the long rows only.
        keep = int(lengths[lengths <= LONG * median].max())
        warnings.warn(
            f"{name}: modality {m!r}: {name_row(longest, ids)} has {lengths[longest]} time steps, but the median is "
            f"{median}{more}. All rows are padded to the longest in memory. Cut it with longest.{m}={keep} "
            f"(in Python longest={{{m!r}: {keep}}}), which keeps all of the other rows, or leave it out",
            SidelightWarning,
            stacklevel=3,
        )
