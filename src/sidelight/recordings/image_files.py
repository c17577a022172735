"""Image files: their size without decoding them, and views of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sidelight.errors import DataError
from sidelight.recordings.recording_type import Size
from sidelight.utils.files import check_file, unreadable
from sidelight.video.crop import CropParams, Place

ENDS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
PICTURES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes of pixels, as Pillow calls them, of 8 bits a channel."""
COLOURS = ("LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Those with more than one channel."""


def _opened(path: Path) -> Any:
    from PIL import Image as Pillow

    check_file(path)
    return Pillow.open(path, formats=tuple(ENDS))


def check_eight_bits(path: Path, mode: str) -> None:
    """Raises DataError for pixels of more bits."""
    if mode not in PICTURES:
        raise DataError(f"{path} has pixels of mode {mode}; expected 8 bits. 16 bits: is it a depth?")


def check_single_channel(path: Path, mode: str) -> None:
    """Raises DataError for pixels of several channels, where one class value is expected."""
    if mode in COLOURS:
        raise DataError(f"{path} has colours (mode {mode}); a label map has one class value per pixel")


def read_image_size(path: Path, check: Callable[[Path, str], None]) -> Size:
    """(height, width), from the header, its mode checked; the file's last bytes say whether it is whole."""
    try:
        with _opened(path) as image:
            check(path, image.mode)
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 1024))
                whole = ENDS[image.format] in file.read()
            if not whole:  # something may stand behind the image
                image.load()
            return image.height, image.width
    except DataError:
        raise
    except Exception as error:  # damaged files raise anything
        raise DataError(unreadable(path, error)) from error


def read_view(path: Path, crop: CropParams, size: Size, channels: int) -> Tensor:
    """(channels, *size) uint8 of a view, not yet mirrored; shrunk pixels are averaged."""
    from PIL import Image as Pillow

    try:
        with _opened(path) as image:
            place = Place.of(crop, image.height, image.width, size)
            check_eight_bits(path, image.mode)
            image.draft(None, (place.width, place.height))  # a JPEG is decoded at a half, a quarter, an eighth
            box = place.box(image.height, image.width, size)
            mode = "L" if channels == 1 else "RGB"
            pixels = image if image.mode == mode else image.convert(mode)
            if (image.height, image.width, *box[:2]) != (*size, 0, 0):
                pixels = pixels.resize(size[::-1], Pillow.Resampling.BILINEAR, box)
            array = np.array(pixels)
    except DataError:
        raise
    except Exception as error:
        raise DataError(unreadable(path, error)) from error
    return torch.from_numpy(array.reshape(*size, channels)).permute(2, 0, 1).contiguous()
