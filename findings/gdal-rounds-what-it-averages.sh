#!/usr/bin/env bash
# A GeoTIFF of whole numbers that is read in a smaller size holds whole numbers, also where floating point is asked for.
#
# rasterio 1.4.4 (bundled GDAL 3.10.3), numpy 2.2.6, Python 3.11, Linux x86_64. `read(out_shape=…, resampling=average,
# out_dtype="float32")` names the type of the result, so one expects the mean of 0, 1, 1, 1 to be 0.75. GDAL resamples in
# the type of the file and converts afterwards: 1.0. Files of float32 give 0.75. So it is for `bilinear`, and for each
# type of whole numbers. A band of small counts, of shares in per cent or of a mask thus changes its meaning as it shrinks.
# What helps: read in the file's own size, and resize the floating point values.
# Exits 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip -q install rasterio==1.4.4 numpy==2.2.6
venv/bin/python - <<'PY'
import sys
import warnings

import numpy as np
import rasterio
from rasterio.enums import Resampling

warnings.simplefilter("ignore")
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
block = np.tile(np.array([[0, 1], [1, 1]]), (2, 2))
seen = {}
for kind in ("uint8", "uint16", "int16", "float32"):
    with rasterio.open("a.tif", "w", driver="GTiff", height=4, width=4, count=1, dtype=kind) as file:
        file.write(block.astype(kind), 1)
    with rasterio.open("a.tif") as file:
        small = file.read(1, out_shape=(2, 2), resampling=Resampling.average, out_dtype="float32")
    seen[kind] = float(small[0, 0])
    print(f"mean of 0, 1, 1, 1 in a file of {kind}, read as {small.dtype}: {seen[kind]}")
sys.exit(seen != {"uint8": 1.0, "uint16": 1.0, "int16": 1.0, "float32": 0.75})
PY
