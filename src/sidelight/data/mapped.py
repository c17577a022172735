"""Rows in files that every process of a run maps, so that a machine holds them once."""

from __future__ import annotations

import copy
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.rows import iterate_slices
from sidelight.errors import DiskError
from sidelight.utils.array_files import HEADER_LOCK

LEAST = 2**16
"""Bytes from which on an array is put into a file; smaller ones are sent to each worker."""


class MappedArray(np.memmap):
    """A whole .npy file as an array. Sent to another process it is mapped there; of a part of it, the values are sent.

    Pages are shared until they are written to: whoever changes a value changes it in this process alone.
    """

    path: str | None = None
    """The file; None for parts of the array, which inherit no attributes of this class."""

    @classmethod
    def open(cls, path: str) -> Self:
        """Map a file that `write_array` wrote."""
        # "c" (copy on write), because torch warns of arrays that cannot be written, and would crash where one is.
        with HEADER_LOCK:
            array = np.lib.format.open_memmap(path, mode="c").view(cls)
        array.path = path
        return array

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.path is None:
            return np.array(self).__reduce_ex__(protocol)
        return type(self).open, (self.path,)


@contextmanager
def share_rows(dataset: Dataset, folder: Path) -> Iterator[Dataset]:
    """Put the arrays of a data set into files, for the time of a run.

    The files are in a temporary folder inside `folder`, which `remove_leftovers` removes after a killed run. The
    caller should drop the data set that it gives, so that its arrays are freed.

    Args:
        dataset: all rows.
        folder: the run folder.

    Yields:
        The same data set on the files; pickled, it holds their names alone.

    Raises:
        DiskError: the disk is full or cannot be written; names the folder and the size.
    """
    place = folder / f".rows.{os.getpid()}-{secrets.token_hex(3)}.tmp"
    shared = copy.copy(dataset)
    del dataset
    try:
        for name, value in vars(shared).items():
            if isinstance(value, Mapping):
                mapped = {key: _map_array(x, place, f"{name}-{i}") for i, (key, x) in enumerate(value.items())}
                setattr(shared, name, mapped)
            else:
                setattr(shared, name, _map_array(value, place, name))
        del value, mapped
        yield shared
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _map_array(x: Any, place: Path, name: str) -> Any:
    """An array of at least `LEAST` bytes in a file of this name; anything else unchanged."""
    if not isinstance(x, np.ndarray) or x.nbytes < LEAST or x.dtype.hasobject:
        return x
    path, folder = place / f"{name}.npy", place.parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        write_array(path, x)
        return MappedArray.open(str(path.resolve()))
    except OSError as error:
        raise DiskError(
            f"cannot write {path}: {error.strerror or error}. The workers of a run read its rows from files in the run "
            f"folder, {x.nbytes / 2**20:,.0f} MiB for this array; {free_mib(folder):,.0f} MiB are free there. Choose a "
            f"folder on another disk (--output), or let one process do the work (--jobs 1), which needs no files."
        ) from error


def write_array(path: Path, x: NDArray) -> None:
    """Write an array as .npy, a few rows at a time."""
    with path.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(x) | {"fortran_order": False}
        np.lib.format.write_array_header_2_0(file, header)
        for rows in iterate_slices(x):
            # ndarray.tofile would hide the system's reason, such as a full disk.
            file.write(np.ascontiguousarray(x[rows]).reshape(-1).view(np.uint8).data)


def free_mib(folder: Path) -> float:
    """Free space of the disk that a folder is on, in MiB; 0 if it cannot be told."""
    try:
        return shutil.disk_usage(folder).free / 2**20
    except OSError:
        return 0.0
