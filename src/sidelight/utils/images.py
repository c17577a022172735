"""Read images as (C, H, W) and label maps as (H, W), and stack them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.utils.files import check_file, unreadable
from sidelight.utils.rasters import RASTER_FILES, read_raster_labels

IMAGE_FILES = (".png", ".jpg", ".jpeg")
LABEL_FILES = (*IMAGE_FILES, *RASTER_FILES)
MOST_CHANNELS = 4
"""A last axis up to this length holds channels."""
LARGEST = 9999
"""Largest class of a pixel; an image with larger values is probably not a label map."""


def compact(x: NDArray) -> NDArray:
    """Convert an array to a dtype for images: uint8 and float16 stay, bool becomes uint8, all others float32."""
    if x.dtype == bool:
        return x.astype(np.uint8)
    return np.ascontiguousarray(x, dtype=x.dtype if x.dtype in (np.uint8, np.float16) else np.float32)


def channels_first(x: NDArray) -> NDArray:
    """Move channels first: (N, H, W, C) to (N, C, H, W), and clips (N, T, H, W, C) to (N, C, T, H, W).

    The last axis holds the channels if it has at most 4 entries; no image is only 4 pixels wide.
    """
    return np.moveaxis(x, -1, 1) if x.shape[-1] <= MOST_CHANNELS else x


def channel_axis(shape: Sequence[int]) -> int:
    """The axis of the channels of one row: (D,) columns, (T, C), images or clips with the channels first or last."""
    return 0 if len(shape) >= 3 and shape[-1] > MOST_CHANNELS else len(shape) - 1


def take_channels(x: NDArray, axis: int, channels: Sequence[int], what: str) -> NDArray:
    """Some channels of an array, contiguous; raises DataError that begins with `what` for a number outside of it."""
    for number in channels:
        if number >= x.shape[axis]:
            raise DataError(
                f"{what} has {x.shape[axis]} channel{'s' * (x.shape[axis] > 1)}, and channel {number} is asked for; "
                f"they count from 0 to {x.shape[axis] - 1}"
            )
    return np.ascontiguousarray(np.take(x, channels, axis))


def read_image(path: Path) -> NDArray:
    """Read a .png or .jpg as (C, H, W): one channel for grey values (also 16 bits), three for colours or a palette."""
    image = _open(path, {"P": "RGB", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"})
    return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)


def read_labels(path: Path, no_data: int = -1) -> NDArray:
    """Read a .png or .tif as (H, W) class values; raises DataError for colours.

    Args:
        path: of a .png, grey values or palette indices, or a .tif with one band.
        no_data: the value of pixels that a .tif marks as "no data".
    """
    if path.suffix.lower() in RASTER_FILES:
        return read_raster_labels(path, no_data)
    labels = _open(path, {})
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise DataError(
            f"{path} has colours, shape {labels.shape}; a label map has one class value per pixel. "
            "Say which colour is which class: modalities: {mask: {colours: colours.csv}} (columns class, r, g, b)"
        )
    return labels


def read_colours(path: Path) -> NDArray[np.int32]:
    """Read a .png with a colour per class as (H, W) numbers, 65536 red + 256 green + blue; alpha is not read."""
    image = _open(path, dict.fromkeys(("1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr"), "RGB"))
    if image.ndim != 3 or image.dtype != np.uint8:
        raise DataError(f"{path} has {image.dtype} pixels of shape {image.shape}; expected colours of 8 bits a channel")
    red, green, blue = np.moveaxis(image.astype(np.int32), -1, 0)
    return np.asarray(red << 16 | green << 8 | blue, np.int32)


def _open(path: Path, modes: dict[str, str]) -> NDArray:
    from PIL import Image

    check_file(path)
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return np.asarray(image.convert(modes[image.mode]) if image.mode in modes else image)
    except Exception as e:  # damaged files raise many kinds of errors
        raise DataError(unreadable(path, e)) from e


def stack_images(
    source: str, what: str, rows: Sequence[NDArray | None], names: Sequence[str]
) -> tuple[NDArray, NDArray]:
    """Stack one image or clip per row into one array.

    Args:
        source: name of the data in errors.
        what: name of the images in errors.
        rows: images or clips of one shape; None for rows without one.
        names: names of the rows in errors.

    Returns:
        (N, ...) images, zeros for rows without one, and (N,) bool, which rows have one.

    Raises:
        DataError: two rows differ in shape, or a row does not hold numbers.
    """
    there = [i for i, r in enumerate(rows) if r is not None and r.size]
    if not there:
        raise DataError(f"{source}: {what} is absent from every row")
    first: Any = rows[there[0]]
    for i in there:
        r: Any = rows[i]
        if r.dtype.kind not in "fiub":
            raise DataError(f"{source}: {what}, {names[i]} holds {r.dtype}; expected numbers")
        if r.shape != first.shape:
            raise DataError(
                f"{source}: {what}, {names[i]} has shape {r.shape}, but {names[there[0]]} has {first.shape}; images "
                "are not resized: bring them to one size first"
            )
    like = np.result_type(*{rows[i].dtype for i in there})  # type: ignore[union-attr]
    x = np.zeros((len(rows), *first.shape), compact(np.zeros(0, like)).dtype)
    present = np.zeros(len(rows), bool)
    for i in there:
        x[i], present[i] = rows[i], True
    return x, present
