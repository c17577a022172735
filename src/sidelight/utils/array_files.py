"""Read array files without executing anything in them."""

from __future__ import annotations

import math
import threading
import zipfile
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError, RunError
from sidelight.utils.files import check_file, unreadable
from sidelight.utils.images import IMAGE_FILES, read_image
from sidelight.utils.machine import memory
from sidelight.utils.tensorfile import read_arrays

MAGIC = b"\x93NUMPY"
"""First bytes of an .npy."""
HEADER_LOCK = threading.Lock()
"""Held while NumPy parses a header: it calls the parser of Python, which fails at random in several threads (3.11)."""
CHUNK = 2**20
"""Bytes that are read at a time, so that decompressing an array needs no second copy of it."""


def load_npz(path: Path) -> dict[str, NDArray]:
    """Read every array of an .npz; raises DataError that names file and array."""
    check_file(path)
    key = ""
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(path, archive)
            arrays = {}
            for member in archive.infolist():
                key = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    if file.read(len(MAGIC)) != MAGIC:
                        continue  # NumPy, too, skips other files in the archive
                with archive.open(member) as file:
                    arrays[key] = read_npy(file, member.file_size)
            return arrays
    except DataError:
        raise
    except Exception as e:  # a damaged header raises errors of zlib, tokenize, memory, …
        raise DataError(unreadable(path, e, f"array {key!r}" if key else "")) from e


def check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise DataError if a zip archive declares more than fits into memory, before anything is read."""
    whole = sum(member.file_size for member in archive.infolist())
    if whole > memory():
        raise DataError(
            f"{path} declares {whole:,} bytes of content (in a file of {path.stat().st_size:,}), more than this "
            f"machine's memory of {memory():,}; is it damaged?"
        )


def read_npy(file: IO[bytes], size: int) -> NDArray:
    """Read an .npy; several threads may do so at once, which `np.load` does not allow in CPython 3.11.

    Args:
        file: the file, open at its start.
        size: its number of bytes.

    Raises:
        ValueError: it is no .npy, holds Python objects, or declares a shape that does not fit into its bytes.
    """
    with HEADER_LOCK:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    if any(isinstance(n, bool) or n < 0 for n in shape):
        raise ValueError(f"its header declares the shape {shape}")
    declared = math.prod(shape) * dtype.itemsize
    there = size - file.tell()
    if declared > there:  # before anything of that size is allocated
        raise ValueError(f"its header declares the shape {shape}, {declared} bytes, but the file has {there}")
    order: Literal["F", "C"] = "F" if columns_first else "C"
    if not declared:
        return np.empty(shape, dtype, order)
    values = np.empty(declared, np.uint8)
    for start in range(0, declared, CHUNK):
        part = file.read(min(CHUNK, declared - start))
        if len(part) < min(CHUNK, declared - start):
            raise ValueError(f"it ends after {start + len(part)} of {declared} bytes")
        values[start : start + len(part)] = np.frombuffer(part, np.uint8)
    return values.view(dtype).reshape(shape, order=order)


def load_array(path: Path, name: str) -> NDArray:
    """Read the only array of an .npy, .npz, .safetensors or image, or the one called `name`. Raises DataError."""
    if path.suffix.lower() in IMAGE_FILES:
        return read_image(path)
    arrays = load_arrays(path)
    arrays.pop("lengths", None)
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if name in arrays:
        return arrays[name]
    raise DataError(f"{path} holds {len(arrays)} arrays ({', '.join(arrays)}); expected one, or one called {name!r}")


def load_arrays(path: Path) -> dict[str, NDArray]:
    """Read all arrays of an .npy (named ''), .npz or .safetensors; raises DataError for an unreadable file."""
    check_file(path)
    if path.suffix == ".npz":
        return load_npz(path)
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return {"": read_npy(file, path.stat().st_size)}
        if path.suffix == ".safetensors":
            return read_arrays(path)
    except DataError:
        raise
    except RunError as e:
        raise DataError(str(e)) from e
    except Exception as e:  # as in load_npz
        raise DataError(unreadable(path, e)) from e
    raise DataError(
        f"{path}: cannot read {path.suffix or 'a file without suffix'}; expected .npy, .npz or .safetensors"
    )
