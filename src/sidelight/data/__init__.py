"""What rows are: data sets, their readers, preprocessing, and the tensors that networks are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidelight.data.builtin import DATASETS
from sidelight.data.dataset import Dataset
from sidelight.data.load import load, load_rows
from sidelight.data.rows import Rows

if TYPE_CHECKING:
    from sidelight.data.batch import Batch
    from sidelight.data.preprocess import Preprocessor

__all__ = ["DATASETS", "Batch", "Dataset", "Preprocessor", "Rows", "load", "load_rows"]


def __getattr__(name: str) -> Any:
    """Batch and Preprocessor need torch, so they are imported when they are asked for."""
    if name == "Batch":
        from sidelight.data.batch import Batch

        return Batch
    if name == "Preprocessor":
        from sidelight.data.preprocess import Preprocessor

        return Preprocessor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
