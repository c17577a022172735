"""Image files: read their size without decoding them, or decode a crop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sidelight.errors import DataError
from sidelight.recordings.base import Size
from sidelight.utils.files import check_file, unreadable
from sidelight.utils.rasters import RASTER_FILES
from sidelight.video.crop import CropBox, CropParams

ENDS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
"""Format -> the bytes that end a complete file."""
PICTURES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes with 8 bits a channel."""
COLOURS = ("LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""The modes with more than one channel."""


def _open(path: Path) -> Any:
    """Read the header of an image file; pixels are decoded when they are used."""
    from PIL import Image as Pillow

    check_file(path)
    if path.suffix.lower() in RASTER_FILES:
        raise DataError(f"{path}: .tif files, of any number of bands, are read by another kind (kind: raster)")
    return Pillow.open(path, formats=tuple(ENDS))


def check_eight_bits(path: Path, mode: str) -> None:
    """Raise DataError for pixels with more than 8 bits a channel; `mode` is Pillow's name."""
    if mode not in PICTURES:
        raise DataError(f"{path} has pixels of mode {mode}; expected 8 bits. 16 bits: is it a depth?")


def count_bands(mode: str) -> int:
    """Number of channels of an image; `mode` is Pillow's name. Colours of a palette count as three."""
    from PIL import ImageMode

    return {"P": 3, "PA": 4}.get(mode) or len(ImageMode.getmode(mode).bands)


def check_bands(path: Path, mode: str, pick: tuple[int, ...]) -> None:
    """Raise DataError for pixels that are not of 8 bits, or that lack a channel of `pick`."""
    check_eight_bits(path, mode)
    bands = count_bands(mode)
    for number in pick:
        if number >= bands:
            raise DataError(
                f"{path} has {bands} channel{'s' * (bands > 1)} (mode {mode}), and channel {number} is asked for; they "
                f"count from 0 to {bands - 1}"
            )


def check_single_channel(path: Path, mode: str) -> None:
    """Raise DataError for pixels of several channels, where a label map has one class value."""
    if mode in COLOURS:
        raise DataError(
            f"{path} has colours (mode {mode}); a label map has one class value per pixel. Say which colour is which "
            "class: the setting colours: colours.csv (columns class, r, g, b)"
        )


def check_nothing(path: Path, mode: str) -> None:
    """Accept any mode."""


def read_image_mode(path: Path) -> str:
    """Pillow's name of an image's mode, from its header; raises DataError for a missing or damaged file."""
    try:
        with _open(path) as image:
            return str(image.mode)
    except DataError:
        raise
    except Exception as error:  # damaged files raise anything
        raise DataError(unreadable(path, error)) from error


def read_image_size(path: Path, check: Callable[[Path, str], None]) -> Size:
    """(height, width) of an image file, from its header; the file's last bytes show whether it is complete.

    Raises:
        DataError: the file is missing or damaged, or `check` refuses its mode.
    """
    try:
        with _open(path) as image:
            check(path, image.mode)
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 1024))
                complete = ENDS[image.format] in file.read()
            if not complete:
                # Some cameras append data after the image, so only decoding can decide.
                image.load()
            return image.height, image.width
    except DataError:
        raise
    except Exception as error:  # damaged files raise anything
        raise DataError(unreadable(path, error)) from error


def read_view(path: Path, crop: CropParams, size: Size, channels: int, pick: tuple[int, ...] = ()) -> Tensor:
    """Decode a crop of an image file, not yet mirrored; pixels are averaged when the image shrinks.

    Args:
        path: the file.
        crop: which part of the image.
        size: (height, width) of the result.
        channels: 3: RGB. 1: grey.
        pick: numbers of the file's own channels to read instead.

    Returns:
        (channels, height, width) uint8, or (number of `pick`, height, width).

    Raises:
        DataError: the file is missing or damaged.
    """
    from PIL import Image as Pillow

    try:
        with _open(path) as image:
            place = CropBox.from_params(crop, image.height, image.width, size)
            check_bands(path, image.mode, pick)
            # A JPEG can be decoded at a half, a quarter or an eighth of its size, which is much faster.
            image.draft(None, (place.width, place.height))
            box = place.source_box(image.height, image.width, size)
            whole = (image.height, image.width, *box[:2]) == (*size, 0, 0)
            planes = _planes(image, channels, pick)
            if not whole:
                planes = [plane.resize(size[::-1], Pillow.Resampling.BILINEAR, box) for plane in planes]
            array = np.concatenate([np.array(plane).reshape(*size, -1) for plane in planes], 2)
    except DataError:
        raise
    except Exception as error:
        raise DataError(unreadable(path, error)) from error
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _planes(image: Any, channels: int, pick: tuple[int, ...]) -> list[Any]:
    """The image in RGB or grey, or an image of each picked channel: Pillow weighs colours by alpha when it resizes."""
    if pick:
        own = image.convert({"P": "RGB", "PA": "RGBA"}.get(image.mode, image.mode))
        return [own.getchannel(number) for number in pick]
    mode = "L" if channels == 1 else "RGB"
    return [image if image.mode == mode else image.convert(mode)]
