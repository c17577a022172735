"""Small helpers for dictionaries that hold one value per modality."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
U = TypeVar("U")


def select_keys(values: Mapping[str, T], modalities: Collection[str]) -> dict[str, T]:
    """The entries of these modalities, in the order of `values`."""
    return {m: value for m, value in values.items() if m in modalities}


def map_values(function: Callable[[T], U], values: Mapping[str, T]) -> dict[str, U]:
    """The same keys with `function` applied to every value."""
    return {m: function(value) for m, value in values.items()}


def index_rows(arrays: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    """Modality -> the chosen rows of an array, a tensor or `LazyRows`."""
    return {m: take_rows(x, rows) if hasattr(x, "requires_grad") else x[rows] for m, x in arrays.items()}


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """`x[rows]` of row numbers (B,); on a CPU torch's `index_select` takes less than half the time."""
    import torch  # loaded already: reading a data set needs no torch

    return x.index_select(0, rows) if rows.dtype == torch.int64 else x[rows]
