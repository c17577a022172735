"""Files of rows: every one is checked, small modalities are read into memory, the others stay files."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.raw import Raw
from sidelight.data.sources.stack import stack_rows
from sidelight.errors import ConfigError, DataError, SidelightError, unknown
from sidelight.recordings.base import RecordingType, Segment, Size
from sidelight.recordings.label_maps import LabelScan
from sidelight.recordings.lazy import LazyRows
from sidelight.recordings.pictures import Depth, Image, Picture
from sidelight.recordings.registry import Labels, Raster
from sidelight.utils.delimited import missing
from sidelight.utils.machine import usable_cores

OnError = Literal["raise", "skip"]
FILE, START, END = "_file_name", "_start", "_end"
"""Suffixes of a modality's columns: its file, and the first and last second of the row's segment."""
IN_MEMORY = 2**30
"""Bytes up to which a modality of images or clips in arrays is kept in memory."""
SAMPLED = 8
"""Other rows that are looked at once one cannot be read."""
T = TypeVar("T")
QUIET_SECONDS = 2.0
"""Seconds without a progress line."""


def build_rows(
    table: pd.DataFrame, m: str, kind: RecordingType, folder: Path, names: NDArray, source: str, column: str = ""
) -> LazyRows:
    """The rows of a modality whose files a table names.

    Args:
        table: the table, a row a line; empty cells are absent rows.
        m: the modality.
        kind: its recording type. `RecordingType.of` names the modality whose columns are read.
        folder: to which file names are relative.
        names: (N,) names of the rows in errors.
        source: name of the table in errors.
        column: the column of file names, where it is not called after the modality.
    """
    of = kind.of or m
    column = column or of + FILE

    def seconds(suffix: str) -> NDArray:
        if of + suffix not in table.columns:
            return np.full(len(table), np.nan)
        cells = table[of + suffix]
        values = np.asarray(pd.to_numeric(cells, errors="coerce"), np.float64)
        written = ~missing(cells)
        # A table of text has empty cells where there is no start; any other has to be a number.
        for i in np.flatnonzero(written & ~((values >= 0) & np.isfinite(values)))[:1]:
            raise DataError(
                f"{source}: {names[i]}, column {of + suffix!r}: {cells.iloc[i]!r}; expected seconds from 0 on"
            )
        return values

    cells = table[column]
    files = np.where(missing(cells), "", cells.astype(str).str.strip().to_numpy(str))
    return LazyRows(m, kind, folder, files, seconds(START), seconds(END), names)


def check_files(rows: dict[str, LazyRows], on_error: OnError) -> tuple[dict[int, dict[str, str]], dict[str, list[Any]]]:
    """Check every file of every modality.

    Returns:
        Row -> modality and reason of its first bad file; and modality -> its decoded rows, where these stay in memory,
        or a `LabelScan` of each label map.

    Raises:
        DataError: the first bad file, unless rows are to be skipped.
    """
    if on_error not in ("raise", "skip"):
        raise ConfigError(unknown("value of on_error", on_error, ("raise", "skip")))
    bad: dict[int, dict[str, str]] = {}
    sizes: dict[int, dict[str, Size]] = {}
    decoded: dict[str, list[Any]] = {}
    for m, x in rows.items():
        kind = x.kind
        # What is kept in memory is read at once; opening each file a second time would double the work.
        work = kind.scan if isinstance(kind, Labels) else kind.probe if _stays_files(x) else kind.read
        for i, result in _run_on_rows(x, work, f"checking {m}"):
            error = result if isinstance(result, SidelightError) else None
            if work != kind.probe:
                decoded.setdefault(m, []).append(None if error else result)
            if isinstance(result, tuple):
                sizes.setdefault(i, {})[m] = result.size if isinstance(result, LabelScan) else result
                error = _find_mismatch(rows, i, sizes[i], m)
            if error is None or i in bad:
                continue
            if on_error == "raise":
                reason = str(error) + "." * (str(error)[-1] not in ".?")
                hint = " Leave such rows out: --on-error skip" if _others_are_sound(rows, m, i, work, sizes) else ""
                raise DataError(f"{m!r}, {x.names[i]}: {reason}{hint}") from error
            bad[i] = {"modality": m, "reason": str(error)}
    return bad, decoded


def _others_are_sound(
    rows: dict[str, LazyRows], m: str, bad: int, work: Callable[[Segment], Any], sizes: Mapping[int, Mapping[str, Size]]
) -> bool:
    """Whether another row can be read: where none can, a setting is wrong, and skipping would leave nothing."""
    x = rows[m]
    for i in spread([i for i in range(len(x)) if x.files[i] and i != bad]):
        try:
            result = work(x.segment(i))
        except SidelightError:
            continue
        if not isinstance(result, tuple):
            return True
        size = result.size if isinstance(result, LabelScan) else result
        if _find_mismatch(rows, i, {**sizes.get(i, {}), m: size}, m) is None:
            return True
    return False


def spread(rows: Sequence[T]) -> Sequence[T]:
    """A few of many rows, from all of their range."""
    return rows[:: -(-len(rows) // SAMPLED) or 1]


def _stays_files(x: LazyRows) -> bool:
    shape = x.kind.shape
    # 4 bytes per value: arrays are float32 in memory.
    large = shape is not None and len(shape) >= 3 and 4 * len(x) * math.prod(shape) > IN_MEMORY
    return x.kind.lazy or large


def _find_mismatch(rows: dict[str, LazyRows], i: int, sizes: dict[str, Size], last: str) -> DataError | None:
    """An error where images, depth and label maps of one view (`Picture.view`) differ in size, else None."""
    view = get_view(rows[last].kind)
    paired = {}
    for m, size in sizes.items():
        kind = rows[m].kind
        if isinstance(kind, Image | Depth | Raster | Labels) and get_view(kind) == view:
            paired[m] = size
    has_pixels_to_match = any(isinstance(rows[m].kind, Depth | Labels) for m in paired)
    if not has_pixels_to_match or len(set(paired.values())) == 1:
        return None
    exact = {size for m, size in paired.items() if not isinstance(rows[m].kind, Raster)}
    if len(exact) < 2 and len({Fraction(*size) for size in paired.values()}) == 1:
        return None  # bands of one place have pixels of 10, 20 or 60 m
    found = ", ".join(f"{rows[m].segment(i).path} is {h} x {w}" for m, (h, w) in paired.items())
    return DataError(
        f"{' and '.join(map(repr, paired))} show different views: {found}. If one of them is meant to, name its view "
        "in modalities.json (view: face)"
    )


def get_view(kind: RecordingType) -> str:
    return kind.view if isinstance(kind, Picture) else ""


def _run_on_rows(x: LazyRows, work: Callable[[Segment], object], what: str) -> Iterator[tuple[int, object]]:
    """Call `work` with every row's file in threads; a progress line appears on a terminal if it takes long.

    Yields:
        Row number and result, in order; the result is the error of a bad file, and None for a row without a file.
    """

    def run(i: int) -> object:
        try:
            return work(x.segment(i)) if x.files[i] else None
        except DataError as error:
            return error

    start, shown = time.perf_counter(), 0.0
    with ThreadPoolExecutor(usable_cores(), "check") as pool:
        futures = [pool.submit(run, i) for i in range(len(x))]
        try:
            for i, future in enumerate(futures):
                yield i, future.result()
                now = time.perf_counter()
                if now - start > QUIET_SECONDS and now - shown > 1 and sys.stderr.isatty():
                    print(f"\r{what}: {i + 1} of {len(x)}", end="", file=sys.stderr, flush=True)
                    shown = now
        finally:
            # The caller stops at the first error; the remaining files need not be opened.
            for future in futures:
                future.cancel()
            if shown:
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def add_files(raw: Raw, x: LazyRows, decoded: list[Tensor | None] | None) -> None:
    """Add a modality to `raw`, as an array of its decoded rows or as files."""
    m = x.modality
    if x.kind.standard != "train" or x.kind.lazy:
        raw.standard[m] = x.kind.standard
    if not x.present.any():
        raise DataError(f"{raw.name}: modality {m!r} is absent from every row")
    if decoded is None:
        raw.inputs[m], raw.present[m] = x, x.present
        raw.standard.setdefault(m, "train")
        return
    arrays = [None if row is None else row.numpy() for row in decoded]
    names = [f"{name} ({file})" for name, file in zip(x.names, x.files)]
    values, present, lengths = stack_rows(raw.name, m, arrays, names, raw.longest.get(m, 0))
    raw.inputs[m], raw.present[m] = values, present
    if lengths is not None:
        raw.lengths[m] = lengths
