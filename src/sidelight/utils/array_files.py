"""Array files, read without executing anything, and rows of different lengths made one padded array."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.rows import float32
from sidelight.errors import DataError, RunError
from sidelight.utils.files import check_file, told_by_content
from sidelight.utils.images import IMAGE_FILES, channels_first, read_image, stack_images
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


def unreadable(path: Path, error: BaseException, part: str = "") -> str:
    """The sentence for a file that exists and cannot be read."""
    if "allow_pickle" in str(error) or "Object arrays" in str(error):
        why = "it holds Python objects, which can execute code and are never loaded; store plain numbers"
    elif told := told_by_content(path, expected=path.suffix):
        why = told
    else:
        said = str(error).splitlines()[0][:200] if str(error) else ""
        why = f"truncated or not such a file ({type(error).__name__}: {said})"
    return f"cannot read {path}{', ' + part if part else ''}: {why}"


def stack_rows(
    source: str, modality: str, rows: Sequence[NDArray | None], names: Sequence[str], longest: int = 0
) -> tuple[NDArray, NDArray, NDArray | None]:
    """One array per row made (N, D), (N, T, C) float32 or images (N, C, H, W) or clips: (values, present, lengths).

    (T_i, C) rows of different lengths are padded with zeros and lengths (N,) returned; rows that are None, empty or
    NaN throughout are absent.
    names: how errors call each row. longest: time steps that are kept of a longer row; 0: all.
    Raises DataError naming the two rows whose shapes differ.
    """
    if longest > 0:
        rows = [r[:longest] if r is not None and r.ndim == 2 else r for r in rows]
    present = np.array([r is not None and r.size > 0 and not _all_nan(r) for r in rows])
    kept = [i for i in range(len(rows)) if present[i]]
    if not kept:
        raise DataError(f"{source}: modality {modality!r} is absent from every row")
    first: Any = rows[kept[0]]
    if first.ndim >= 3:
        what = f"{source}: modality {modality!r}"
        found = [_at_most_float32(r, f"{what}, {n}") if here else None for r, here, n in zip(rows, present, names)]
        x, present = stack_images(source, f"modality {modality!r}", found, names)
        return channels_first(x), present, None
    for i in kept:
        r: Any = rows[i]
        if r.dtype.kind not in "fiub":
            raise DataError(f"{source}: modality {modality!r}, {names[i]} holds {r.dtype}; expected numbers")
        if r.ndim not in (1, 2):
            raise DataError(
                f"{source}: modality {modality!r}, {names[i]} has shape {r.shape}; "
                "expected (D,) features, a (T, C) signal or an (H, W, C) image"
            )
        if r.ndim != first.ndim or r.shape[-1] != first.shape[-1]:
            hint = ""
            if r.ndim == first.ndim == 1:
                hint = "; a one-channel signal of varying length must be stored as (T, 1)"
            raise DataError(
                f"{source}: modality {modality!r}, {names[i]} has shape {r.shape}, but {names[kept[0]]} has "
                f"{first.shape}; only the length of a (T, C) signal may differ{hint}"
            )
    if first.ndim == 1:
        x = np.zeros((len(rows), len(first)), np.float32)
    else:
        steps = max(rows[i].shape[0] for i in kept)  # type: ignore[union-attr]
        x = np.zeros((len(rows), steps, first.shape[1]), np.float32)
    lengths = np.zeros(len(rows), np.int64)
    for i in kept:
        r = rows[i]
        lengths[i] = len(r)
        x[i, : len(r)] = float32(r, f"{source}: modality {modality!r}, {names[i]}", ())
    variable = first.ndim == 2 and bool((lengths[kept] != x.shape[1]).any())
    return x, present, lengths if variable else None


def _at_most_float32(x: Any, what: str) -> NDArray:
    wide = x.dtype.kind == "f" and x.dtype.itemsize > 4
    return float32(x, what, ()) if wide else np.asarray(x)


def _all_nan(x: NDArray) -> bool:
    return x.dtype.kind == "f" and bool(np.isnan(x).all())
