"""What each modality of a data set holds: shape, unit, rate, missing rows and values, lengths, range."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.rows import iterate_slices

OUTLYING = 3
"""A row is of unusual length if it is longer than this many times the median, or shorter than the median over it."""
NAMED = 5
"""Rows of unusual length that are named."""
KINDS = {1: "vector", 2: "signal", 3: "image", 4: "clip"}
"""Dimensions of a row -> what it is, where the recordings do not say more."""


@dataclass(frozen=True)
class ModalityInfo:
    """One modality: a row's shape, missing rows, NaN values, (shortest, median, longest) length, range of values.

    `kind` is one of `KINDS`, "spectrogram" or "tokens"; `rate` is in Hz, 0 where it is unknown. `odd_lengths` counts
    the rows of unusual length, of which `odd_rows` names the most extreme ones: id -> time steps.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    missing: int
    nan: int
    lengths: tuple[int, int, int] | None
    minimum: float
    maximum: float
    constant: int
    kind: str = ""
    unit: str = ""
    rate: float = 0.0
    odd_lengths: int = 0
    odd_rows: dict[str, int] | None = None


def describe_modality(dataset: Dataset, m: str, whole: Dataset) -> ModalityInfo:
    """Describe one modality.

    Args:
        dataset: all rows, or some of them, decoded.
        m: its name.
        whole: all rows.
    """
    from sidelight.data.scaling import find_varying_columns

    x, present = dataset.inputs[m], dataset.present[m]
    low, high, nan = _find_range(x, present)
    length = dataset.lengths.get(m)
    role = next((k for k in ("available", "privileged") if m in dataset.default_modalities.get(k, [])), "")
    of_all, odd, odd_rows = _describe_lengths(whole, m)
    return ModalityInfo(
        name=m,
        role=role,
        shape=dataset.shape(m),
        missing=int((~whole.present[m]).sum()),
        nan=nan,
        lengths=of_all,
        minimum=low,
        maximum=high,
        constant=int((~find_varying_columns(x, length, present)).sum()),
        kind=find_kind(dataset, m),
        unit=dataset.units.get(m, ""),
        rate=dataset.rates.get(m, 0.0),
        odd_lengths=odd,
        odd_rows=odd_rows,
    )


def find_kind(dataset: Dataset, m: str) -> str:
    """What a row of a modality is: "vector", "signal", "spectrogram", "tokens", "image" or "clip"."""
    schema = dataset.schema.get(m, {})
    if schema.get("spectrogram"):
        return "spectrogram"
    if "tokenizer" in schema or set(schema) == {"longest"}:
        return "tokens"
    return KINDS[len(dataset.shape(m))]


def _find_range(x: NDArray, present: NDArray) -> tuple[float, float, int]:
    """Lowest and highest value of the rows that are there, and the number of NaN values."""
    low, high, nan = np.nan, np.nan, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing but NaN
        # Some rows at a time: a copy of all present rows may not fit into memory.
        for some in iterate_slices(x):
            rows = x[some][present[some]]
            if len(rows):
                low, high = float(np.fmin(low, np.nanmin(rows))), float(np.fmax(high, np.nanmax(rows)))
                nan += int(np.isnan(rows).sum()) if rows.dtype.kind == "f" else 0
    return low, high, nan


def _describe_lengths(dataset: Dataset, m: str) -> tuple[tuple[int, int, int] | None, int, dict[str, int] | None]:
    """(shortest, median, longest) length, how many rows are of unusual length, and the most extreme of these."""
    if m not in dataset.lengths:
        return None, 0, None
    rows = np.flatnonzero(dataset.present[m])
    known = dataset.lengths[m][rows]
    median = int(np.median(known))
    off = np.abs(np.log(known / max(median, 1)))
    odd = np.flatnonzero(off > np.log(OUTLYING))
    named = odd[np.argsort(-off[odd], kind="stable")][:NAMED]
    found = {str(dataset.ids[rows[i]]): int(known[i]) for i in named}
    return (int(known.min()), median, int(known.max())), len(odd), found or None
