"""Reads boxes and landmarks of faces from CSV, and crops or aligns the faces."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sidelight.errors import ConfigError, DataError
from sidelight.utils.delimited import missing, read_delimited

SIZE = 112
# The layout that most face networks are trained on; in the order left eye, right eye, nose, corners of the mouth.
TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""(x, y) of eyes, nose and corners of the mouth in a 112 x 112 face (Deng et al., ArcFace, 2019)."""
BOXES = (("x1", "y1", "x2", "y2"), ("x", "y", "w", "h"))
MAX_SAMPLES = 8
"""Samples per pixel and axis at most, where a face is shrunk; more would only cost time."""


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces of a video, at most one per frame; a frame without a face has no row.

    Args:
        frames: (N,) frame numbers, ascending.
        boxes: (N, 4) x1, y1, x2, y2 in pixels, or None.
        points: (N, P, 2) landmarks x, y in pixels, or None.
        source: the file, for errors.
    """

    frames: NDArray
    boxes: NDArray | None
    points: NDArray | None
    source: str = ""

    def find_rows(self, frames: NDArray) -> NDArray[np.int64]:
        """The row of each of (T,) frames; raises DataError that names the first frame without a face."""
        rows = np.searchsorted(self.frames, frames).clip(0, len(self.frames) - 1)
        for i in np.flatnonzero(self.frames[rows] != frames)[:1]:
            raise DataError(
                f"{self.source}: frame {int(np.asarray(frames)[i])} has no face; leave it out, or take another clip"
            )
        return np.asarray(rows)


def read_faces(path: str | Path) -> Faces:
    """Read faces from a CSV with the columns `frame` and `x1,y1,x2,y2` or `x,y,w,h`, and landmarks `x_0,y_0,x_1,y_1,…`.

    A row with an empty cell means that the frame has no face. Errors count rows as lines; the header is row 1.

    Raises:
        DataError: missing columns, a cell that is not a number, a box without area, or a frame that occurs twice; names
            file, row, column and value.
    """
    import pandas as pd

    path = Path(path)
    file = read_delimited(path)
    table = file.cells.set_axis(file.names, axis=1)
    box = next((names for names in BOXES if set(names) <= set(table.columns)), None)
    count = sum(bool(re.fullmatch(r"x_\d+", c)) for c in table.columns)
    marks = [f"{axis}_{i}" for i in range(count) for axis in "xy"]
    if "frame" not in table.columns or not (box or marks) or not set(marks) <= set(table.columns):
        raise DataError(
            f"{path}: columns {', '.join(table.columns[:12])}; expected frame, and x1,y1,x2,y2 or x,y,w,h or "
            "x_0,y_0,x_1,…"
        )

    columns = ["frame", *(box or ()), *marks]
    for c in columns:
        file.check_once(c)
    values = np.stack([np.asarray(pd.to_numeric(table[c], errors="coerce"), np.float64) for c in columns], 1)
    # An empty cell and a word both become NaN; only the word is an error.
    written = np.stack([~missing(table[c]) for c in columns], 1)
    for i, c in np.argwhere(~np.isfinite(values) & written)[:1]:
        raise DataError(
            f"{path}: row {file.lines[i]}, column {columns[c]!r} is {table[columns[c]].iloc[i]!r}; expected a number"
        )
    return _build_faces(path, values, file.lines, box, bool(marks))


def _build_faces(path: Path, values: NDArray, lines: NDArray, box: tuple[str, ...] | None, marks: bool) -> Faces:
    """Sort and check the rows of a table of faces; values: (rows, columns), lines: (rows,) for errors."""
    kept = np.flatnonzero(np.isfinite(values).all(1))
    if not kept.size:
        raise DataError(f"{path} has no faces: no row without an empty cell")
    kept = kept[np.argsort(values[kept, 0], kind="stable")]
    values = values[kept]
    frames = values[:, 0].astype(np.int64)
    for i in np.flatnonzero((frames != values[:, 0]) | (frames < 0))[:1]:
        raise DataError(f"{path}: row {lines[kept[i]]}: frame {values[i, 0]:g}; expected a whole number from 0 on")
    for i in np.flatnonzero(np.diff(frames) == 0)[:1]:
        raise DataError(f"{path}: row {lines[kept[i + 1]]}: frame {frames[i]} a second time; keep one face per frame")

    boxes = None
    if box:
        boxes = values[:, 1:5].copy()
        if box[-1] == "h":  # from x, y, w, h to x1, y1, x2, y2
            boxes[:, 2:] += boxes[:, :2]
        for i in np.flatnonzero((boxes[:, 2:] <= boxes[:, :2]).any(1))[:1]:
            raise DataError(f"{path}: row {lines[kept[i]]}: the box {boxes[i].tolist()} (x1, y1, x2, y2) has no area")
    points = values[:, 5 if box else 1 :].reshape(len(values), -1, 2) if marks else None
    return Faces(frames, boxes, points, str(path))


def reduce_to_five_points(points: NDArray) -> NDArray:
    """Reduce (N, 68, 2) landmarks in iBUG order to (N, 5, 2) eyes, nose and corners of the mouth; keeps (N, 5, 2)."""
    if points.shape[1] == 5:
        return points
    if points.shape[1] != 68:
        raise ConfigError(f"{points.shape[1]} landmarks; expected 5 (eyes, nose, mouth) or 68 (iBUG)")
    # iBUG numbers the outlines of the eyes 36–41 and 42–47, the tip of the nose 30, the corners of the mouth 48 and 54.
    eyes = [points[:, 36:42].mean(1), points[:, 42:48].mean(1)]
    return np.stack([*eyes, points[:, 30], points[:, 48], points[:, 54]], 1)


def crop_faces(frames: Tensor, boxes: NDArray, size: int = SIZE, margin: float = 0.2) -> Tensor:
    """Crop a square around the center of each box; pixels outside the frame are black.

    Args:
        frames: (T, C, H, W).
        boxes: (T, 4) x1, y1, x2, y2 in pixels.
        size: height and width of the result in pixels.
        margin: added on each side of the square, as a share of the box's longer side.

    Returns:
        (T, C, size, size), of the dtype of `frames`.

    Raises:
        ConfigError: a negative margin that leaves nothing of the box.
        DataError: the numbers of frames and boxes differ.
    """
    if margin <= -0.5:
        raise ConfigError(f"a margin of {margin} leaves nothing of the box; expected more than -0.5")
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).max(1) * (1 + 2 * margin)
    scale = side / size
    matrix = np.zeros((len(boxes), 2, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale
    matrix[:, :, 2] = middle - side[:, None] / 2
    return warp(frames, matrix, size)


def align_faces(frames: Tensor, points: NDArray, size: int = SIZE) -> Tensor:
    """Align faces, so that eyes, nose and mouth lie where `TEMPLATE` has them.

    The similarity (rotation, one scale, shift) maps the template to the landmarks with the least squared error (Umeyama
    1991); in the plane it is z -> a z + b over complex numbers.

    Args:
        frames: (T, C, H, W).
        points: (T, 5, 2) or (T, 68, 2) landmarks x, y in pixels.
        size: height and width of the result in pixels.

    Returns:
        (T, C, size, size), of the dtype of `frames`.

    Raises:
        DataError: the landmarks of a face coincide, or the numbers of frames and faces differ.
    """
    places = np.array(TEMPLATE) * size / SIZE
    z = (places - places.mean(0)) @ [1, 1j]
    found = reduce_to_five_points(np.asarray(points, np.float64))
    middle = found.mean(1)
    w = (found - middle[:, None]) @ [1, 1j]
    # Least squares over complex numbers: a = <z, w> / <z, z>, with both sides centered.
    a = (w @ z.conj()) / (np.abs(z) ** 2).sum()
    for i in np.flatnonzero(np.abs(a) * size < 1)[:1]:
        raise DataError(f"face {i}: its landmarks coincide, at {middle[i].round(1).tolist()}; leave the frame out")
    matrix = np.stack([np.stack([a.real, -a.imag], 1), np.stack([a.imag, a.real], 1)], 1)
    shift = middle - np.einsum("nij,j->ni", matrix, places.mean(0))
    return warp(frames, np.concatenate([matrix, shift[:, :, None]], 2), size)


def warp(frames: Tensor, matrix: NDArray, size: int) -> Tensor:
    """Warp frames: pixel (x, y) of the result shows the point A (x, y) + b of the frame, interpolated bilinearly.

    Args:
        frames: (T, C, H, W).
        matrix: (T, 2, 3) matrices [A | b]. The first pixel spans the coordinates 0 to 1.
        size: height and width of the result in pixels.

    Returns:
        (T, C, size, size), of the dtype of `frames`.

    Raises:
        DataError: the numbers of frames and matrices differ.
    """
    if len(matrix) != len(frames) or frames.dim() != 4:
        raise DataError(
            f"{len(matrix)} faces for frames of shape {tuple(frames.shape)}; expected one a frame, (T, C, H, W)"
        )
    # Where frames are shrunk, k x k points are averaged for each pixel, so that nothing aliases.
    shrink = np.sqrt(np.abs(np.linalg.det(matrix[:, :, :2])).max())
    k = int(np.clip(np.ceil(shrink), 1, MAX_SAMPLES))
    at = (torch.arange(size * k, dtype=torch.float32, device=frames.device) + 0.5) / k
    y, x = torch.meshgrid(at, at, indexing="ij")
    place = torch.stack([x, y, torch.ones_like(x)], -1)
    m = torch.as_tensor(matrix, dtype=torch.float32, device=frames.device)
    height, width = frames.shape[-2:]
    # `grid_sample` wants coordinates from -1 to 1.
    grid = place @ m.transpose(1, 2)[:, None] * torch.tensor([2 / width, 2 / height], device=frames.device) - 1
    x32 = frames if frames.dtype == torch.float32 else frames.float()
    out = F.avg_pool2d(F.grid_sample(x32, grid, "bilinear", "zeros", align_corners=False), k)
    return out if frames.is_floating_point() else out.round().to(frames.dtype)
