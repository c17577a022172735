"""A data set in a folder of the run, which workers on other machines map: its arrays as .npy, the rest as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sidelight.data.dataset import Dataset
from sidelight.data.mapped import MappedArray, write_array
from sidelight.utils.atomic import write_folder_atomic

REST = "dataset.json"
"""What is no array; arrays stand in it as {".npy": file}."""
ARRAY = ".npy"


def store_rows(dataset: Dataset, place: Path) -> None:
    """Store a data set, unless the folder is there.

    Args:
        dataset: all rows, in memory or mapped; rows that are still files cannot be stored.
        place: the folder.

    Raises:
        DiskError: the disk is full or cannot be written.
    """
    if (place / REST).exists():
        return
    with write_folder_atomic(place, keep=True) as folder:
        rest = {}
        for name, value in vars(dataset).items():
            if isinstance(value, Mapping):
                rest[name] = {key: _store(x, folder, f"{name}-{i}") for i, (key, x) in enumerate(value.items())}
            else:
                rest[name] = _store(value, folder, name)
        (folder / REST).write_text(json.dumps(rest), encoding="utf-8")


def open_rows(place: Path) -> Dataset:
    """Open a data set that `store_rows` has stored. It was checked before, and is not checked again."""
    rest = json.loads((place / REST).read_text(encoding="utf-8"))
    dataset = object.__new__(Dataset)
    for name, value in rest.items():
        whole = _open(value, place)
        if isinstance(whole, Mapping):
            whole = {key: _open(x, place) for key, x in whole.items()}
        setattr(dataset, name, whole)
    dataset.class_names, dataset.skipped = tuple(dataset.class_names), tuple(dataset.skipped)
    dataset.columns = {m: tuple(names) for m, names in dataset.columns.items()}
    return dataset


def _store(x: Any, folder: Path, name: str) -> Any:
    if not isinstance(x, np.ndarray):
        return x
    write_array(folder / f"{name}.npy", x)
    return {ARRAY: f"{name}.npy"}


def _open(x: Any, place: Path) -> Any:
    if isinstance(x, Mapping) and set(x) == {ARRAY}:
        return MappedArray.open(str((place / x[ARRAY]).resolve()))
    return x
