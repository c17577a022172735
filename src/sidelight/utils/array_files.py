"""Array files, read without executing anything."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError, RunError
from sidelight.utils.files import check_file, unreadable
from sidelight.utils.images import IMAGE_FILES, read_image
from sidelight.utils.machine import memory
from sidelight.utils.tensorfile import read_arrays

MAGIC = b"\x93NUMPY"


def load_npz(path: Path) -> dict[str, NDArray]:
    """Every array of an .npz, nothing of which is executed; raises DataError naming file and array."""
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
                        continue  # a text or another file that lies in the archive, as numpy itself reads past it
                with archive.open(member) as file:
                    check_header(file, member.file_size)
                with archive.open(member) as file:
                    arrays[key] = np.asarray(np.lib.format.read_array(file, allow_pickle=False))
            return arrays
    except DataError:
        raise
    except Exception as e:  # a damaged header raises anything: zlib, tokenize, memory, …
        raise DataError(unreadable(path, e, f"array {key!r}" if key else "")) from e


def check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Raises DataError where a zip archive declares more than this machine could hold; nothing is read."""
    whole = sum(member.file_size for member in archive.infolist())
    if whole > memory():
        raise DataError(
            f"{path} declares {whole:,} bytes of content (in a file of {path.stat().st_size:,}), more than this "
            f"machine's memory of {memory():,}; is it damaged?"
        )


def check_header(file: IO[bytes], size: int) -> None:
    """Raises ValueError where an .npy, open at its start, declares a shape that its `size` bytes cannot hold.

    Read before its array is: numpy makes room for the whole declared array first.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        return  # refused by read_array, in its own words
    if any(isinstance(n, bool) or n < 0 for n in shape):
        raise ValueError(f"its header declares the shape {shape}")
    declared = math.prod(shape) * dtype.itemsize
    there = size - file.tell()
    if declared > there:
        raise ValueError(f"its header declares the shape {shape}, {declared} bytes, where {there} are there")


def load_array(path: Path, name: str) -> NDArray:
    """The one array of an .npy, .npz, .safetensors or image; of several, the one called `name`. Raises DataError."""
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
    """All arrays of an .npy (called ''), .npz or .safetensors; raises DataError for an unreadable file."""
    check_file(path)
    if path.suffix == ".npz":
        return load_npz(path)
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                check_header(file, path.stat().st_size)
            return {"": np.load(path, allow_pickle=False)}
        if path.suffix == ".safetensors":
            return read_arrays(path)
    except DataError:
        raise
    except RunError as e:
        raise DataError(str(e)) from e
    except Exception as e:  # as above
        raise DataError(unreadable(path, e)) from e
    raise DataError(
        f"{path}: cannot read {path.suffix or 'a file without suffix'}; expected .npy, .npz or .safetensors"
    )
