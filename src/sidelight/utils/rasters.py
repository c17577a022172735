"""GeoTIFF and TIFF files with any number of bands, which GDAL reads."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError, SidelightError
from sidelight.utils.extras import optional
from sidelight.utils.files import check_file, unreadable

Box = tuple[int, int, int, int]
RASTER_FILES = (".tif", ".tiff")
SETTINGS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # else opening a file lists its folder, of 100,000 others perhaps
    "GDAL_PAM_ENABLED": "NO",  # nothing but the file itself says what it holds
}


@cache
def _import_rasterio() -> Any:
    return optional("rasterio", "raster", "reading .tif files")


def _silence(kind: type[Warning]) -> None:
    """Ignore a kind of warning from now on: `warnings.catch_warnings` around each read would not be safe in threads."""
    if not any(entry[2] is kind for entry in warnings.filters):  # whoever caught warnings has removed it again
        warnings.filterwarnings("ignore", category=kind)


@contextmanager
def open_raster(path: Path) -> Iterator[Any]:
    """Open a .tif file as a `rasterio` data set; raises DataError if it, or what is done with it, fails."""
    rasterio = _import_rasterio()
    _silence(rasterio.errors.NotGeoreferencedWarning)  # patches need no place on the globe
    check_file(path)
    try:
        # A driver by name: other formats of GDAL refer to further files and to addresses.
        with rasterio.Env(**SETTINGS), rasterio.open(path, driver="GTiff") as source:
            if bad := [kind for kind in source.dtypes if kind.startswith("complex")]:
                raise DataError(f"{path} holds {bad[0]} values; expected real numbers: store amplitudes, or two bands")
            yield source
    except SidelightError:
        raise
    except Exception as error:  # damaged files raise anything
        raise DataError(unreadable(path, error)) from error


def read_bands(source: Any, bands: Sequence[int] = (), window: Box | None = None) -> NDArray[np.float32]:
    """Read bands of an open file, or a part of them.

    Args:
        source: of `open_raster`.
        bands: their numbers, from 0; (): all.
        window: (left, top, right, bottom) in whole pixels; None: everything.

    Returns:
        (bands, height, width), with the file's own scale and offset applied; NaN where the file says "no data".
    """
    from rasterio.windows import Window

    numbers = [band + 1 for band in bands or range(source.count)]
    left, top, right, bottom = window or (0, 0, source.width, source.height)
    part = Window(left, top, right - left, bottom - top)
    read = source.read(numbers, window=part, masked=True, out_dtype=np.float32)
    scale = np.array([source.scales[number - 1] for number in numbers], np.float32)[:, None, None]
    offset = np.array([source.offsets[number - 1] for number in numbers], np.float32)[:, None, None]
    return np.asarray(read.filled(np.nan) * scale + offset, np.float32)


def read_resized(
    source: Any, bands: Sequence[int], box: tuple[float, float, float, float], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Read a part of some bands in another size, as Pillow resizes the part of an image.

    Pixels are averaged when the part shrinks and interpolated when it grows. A pixel without a value takes no part in
    that, and one that is made of such pixels by more than half has none.

    Args:
        source: of `open_raster`.
        bands: their numbers, from 0; (): all.
        box: (left, top, right, bottom) in pixels.
        size: (height, width) of the result.

    Returns:
        (bands, height, width), NaN where there is no value.
    """
    # GDAL would resize while it reads, but in the type of the file: means of whole numbers are rounded, also to float.
    left, top, right, bottom = box
    x_margin, y_margin = (math.ceil(max(1, span)) + 1 for span in ((right - left) / size[1], (bottom - top) / size[0]))
    window = (
        max(0, math.floor(left) - x_margin),
        max(0, math.floor(top) - y_margin),
        min(source.width, math.ceil(right) + x_margin),
        min(source.height, math.ceil(bottom) + y_margin),
    )
    x = read_bands(source, bands, window)
    inside = (left - window[0], top - window[1], right - window[0], bottom - window[1])
    if inside == (0, 0, size[1], size[0]) and x.shape[1:] == size:
        return x
    known = ~np.isnan(x)
    if known.all():
        return np.stack([_resize(band, inside, size) for band in x])
    values = np.stack([_resize(band, inside, size) for band in np.where(known, x, np.float32(0))])
    share = np.stack([_resize(band, inside, size) for band in known.astype(np.float32)])
    out = np.full_like(values, np.nan)
    np.divide(values, share, out=out, where=share >= 0.5)
    return out


def _resize(band: NDArray[np.float32], box: tuple[float, float, float, float], size: tuple[int, int]) -> NDArray:
    from PIL import Image

    return np.asarray(Image.fromarray(band).resize(size[::-1], Image.Resampling.BILINEAR, box))


def read_raster_labels(path: Path, no_data: int) -> NDArray[np.int32]:
    """Read the only band of a .tif file as (H, W) class values, `no_data` where the file says so."""
    with open_raster(path) as source:
        if source.count != 1 or np.dtype(source.dtypes[0]).kind not in "iu":
            raise DataError(
                f"{path} has {source.count} bands of {source.dtypes[0]}; a label map has one band of whole numbers, a "
                "class value per pixel"
            )
        values = source.read(1, masked=True)
        return np.asarray(values.astype(np.int32).filled(no_data))
