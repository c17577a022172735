"""GeoTIFF and TIFF files with any number of bands, which GDAL reads."""

from __future__ import annotations

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


def read_bands(
    source: Any,
    bands: Sequence[int] = (),
    box: tuple[float, float, float, float] | None = None,
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Read bands of an open file, or a part of them in another size.

    Pixels are averaged when the image shrinks and interpolated when it grows; those without a value take no part.

    Args:
        source: of `open_raster`.
        bands: their numbers, from 0; (): all.
        box: (left, top, right, bottom) in pixels; None: everything.
        size: (height, width) of the result; None: that of the file.

    Returns:
        (bands, height, width), with the file's own scale and offset applied; NaN where the file says "no data".
    """
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    numbers = [band + 1 for band in bands or range(source.count)]
    left, top, right, bottom = box or (0, 0, source.width, source.height)
    read = source.read(
        numbers,
        window=Window(left, top, right - left, bottom - top),
        out_shape=(len(numbers), *(size or (source.height, source.width))),
        resampling=Resampling.bilinear,
        masked=True,
        out_dtype=np.float32,
    )
    scale = np.array([source.scales[number - 1] for number in numbers], np.float32)[:, None, None]
    offset = np.array([source.offsets[number - 1] for number in numbers], np.float32)[:, None, None]
    return np.asarray(read.filled(np.nan) * scale + offset, np.float32)


def read_raster_labels(path: Path, ignore: int) -> NDArray[np.int32]:
    """Read the only band of a .tif file as (H, W) class values, `ignore` where the file says "no data"."""
    with open_raster(path) as source:
        if source.count != 1 or np.dtype(source.dtypes[0]).kind not in "iu":
            raise DataError(
                f"{path} has {source.count} bands of {source.dtypes[0]}; a label map has one band of whole numbers, a "
                "class value per pixel"
            )
        values = source.read(1, masked=True)
        return np.asarray(values.astype(np.int32).filled(ignore))
