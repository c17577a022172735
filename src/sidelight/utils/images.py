"""Images: how arrays and files become (C, H, W), and label maps (H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.utils.files import check_file, unreadable

IMAGE_FILES = (".png", ".jpg", ".jpeg")
MOST_CHANNELS = 4
LARGEST = 9999
"""A class value of a pixel; above it, the image is probably no label map."""


def compact(x: NDArray) -> NDArray:
    """The array as images are kept: uint8 and float16 as they are, truth values as uint8, anything else as float32."""
    if x.dtype == bool:
        return x.astype(np.uint8)
    return np.ascontiguousarray(x, dtype=x.dtype if x.dtype in (np.uint8, np.float16) else np.float32)


def channels_first(x: NDArray) -> NDArray:
    """(N, H, W, C) or (N, C, H, W) to (N, C, H, W): the last axis holds the channels where it is at most 4 long.

    As most image readers give them; an image 4 pixels wide does not occur. Clips likewise, (N, T, H, W, C) to
    (N, C, T, H, W).
    """
    return np.moveaxis(x, -1, 1) if x.shape[-1] <= MOST_CHANNELS else x


def read_image(path: Path) -> NDArray:
    """(C, H, W) of a .png or .jpg: one channel for grey values (16-bit ones too), three for colours or a palette."""
    image = _open(path, {"P": "RGB", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"})
    return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)


def read_labels(path: Path) -> NDArray:
    """(H, W) class values of a .png: grey values, or the numbers of a palette. Raises DataError for colours."""
    labels = _open(path, {})
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise DataError(f"{path} has colours, shape {labels.shape}; a label map has one class value per pixel")
    return labels


def _open(path: Path, modes: dict[str, str]) -> NDArray:
    from PIL import Image

    check_file(path)
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return np.asarray(image.convert(modes[image.mode]) if image.mode in modes else image)
    except Exception as e:  # damaged files raise anything
        raise DataError(unreadable(path, e)) from e


def stack_images(
    source: str, what: str, rows: Sequence[NDArray | None], names: Sequence[str]
) -> tuple[NDArray, NDArray]:
    """One image or clip per row, all of one shape, made one array, and (N,) which rows are there; of None, zeros.

    what: how errors call the images; names: how they call each row. Raises DataError naming the two rows that differ.
    """
    kept = [i for i, r in enumerate(rows) if r is not None and r.size]
    if not kept:
        raise DataError(f"{source}: {what} is absent from every row")
    first: Any = rows[kept[0]]
    for i in kept:
        r: Any = rows[i]
        if r.dtype.kind not in "fiub":
            raise DataError(f"{source}: {what}, {names[i]} holds {r.dtype}; expected numbers")
        if r.shape != first.shape:
            raise DataError(
                f"{source}: {what}, {names[i]} has shape {r.shape}, but {names[kept[0]]} has {first.shape}; images are "
                "not resized: bring them to one size first"
            )
    like = np.result_type(*{rows[i].dtype for i in kept})  # type: ignore[union-attr]
    x = np.zeros((len(rows), *first.shape), compact(np.zeros(0, like)).dtype)
    present = np.zeros(len(rows), bool)
    for i in kept:
        x[i], present[i] = rows[i], True
    return x, present
