"""Rows of a prepared folder: every file is checked, small modalities are read into memory, the others stay files."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.by_modality import index_rows
from sidelight.data.raw import Raw, Roles
from sidelight.data.rows import name_row
from sidelight.data.sources.clocks import check_clocks
from sidelight.data.sources.prepared import END, FILE, START, Prepared
from sidelight.data.sources.stack import stack_rows
from sidelight.errors import ConfigError, DataError, SidelightError, unknown
from sidelight.recordings.label_maps import LabelScan, build_label_maps
from sidelight.recordings.lazy import LazyRows
from sidelight.recordings.pictures import Depth, Image, Picture
from sidelight.recordings.recording_type import RecordingType, Segment, Size
from sidelight.recordings.registry import Labels, Rows
from sidelight.utils.delimited import missing
from sidelight.utils.machine import usable_cores

OnError = Literal["raise", "skip"]
IN_MEMORY = 2**30
"""Bytes up to which a modality of images or clips in arrays is kept in memory."""
QUIET_SECONDS = 2.0
"""Seconds without a progress line."""


def read_recordings(
    prepared: Prepared,
    find: Callable[[Sequence[str]], Roles],
    modalities: Sequence[str] | None,
    on_error: OnError = "raise",
    longest: Mapping[str, int] | None = None,
) -> tuple[Raw, Roles]:
    """Read the rows of a prepared folder: modalities as arrays or, where their rows stay files, as `LazyRows`.

    Args:
        prepared: the folder.
        find: called with the columns; returns those with a role.
        modalities: names; None: all.
        on_error: "raise": an unreadable file is an error. "skip": its row is dropped and listed in `Raw.skipped`.
        longest: modality -> time steps to keep of longer rows.

    Raises:
        DataError: a file is missing, damaged or not as declared (`RecordingType.probe`); names row, modality and file.
        ConfigError: images that do not lie on the label maps.
    """
    table, types = prepared.table, dict(prepared.modalities)
    dense = [m for m, kind in types.items() if isinstance(kind, Labels)]
    roles = find([*table.columns, *dense])
    usable = [m for m in types if m not in dense]
    wanted = usable if modalities is None else list(modalities)
    for m in wanted:
        if m in types and not isinstance(types[m], Rows) and m + FILE not in table.columns:
            raise DataError(f"{prepared.source}: {m!r}: {unknown('column', m + FILE, table.columns)}")
        if m not in usable:
            raise DataError(f"{prepared.source}: {unknown('modality', m, usable)}")
    dense_targets = [t for t in roles.target if t in dense]
    if dense_targets:
        _check_views(prepared, wanted, dense_targets[0])

    names = np.array([name_row(i, table["id"].to_numpy()) for i in range(len(table))])
    stacked = {m: kind for m in wanted if isinstance(kind := types[m], Rows)}
    of_files = [m for m in [*wanted, *dense_targets] if m not in stacked]
    rows = {m: _build_rows(prepared, m, types[m], names) for m in of_files}
    skipped, decoded = _check_files(rows, on_error)
    check_clocks(prepared.source, rows, skipped)
    # From here on skipped rows do not exist.
    kept = np.setdiff1d(np.arange(len(table)), list(skipped))
    if not len(kept):
        first = next(iter(skipped.values()))
        raise DataError(f"{prepared.source}: no row can be read; {first['modality']!r}: {first['reason']}")
    rows = index_rows(rows, kept)

    ids = table["id"].to_numpy()
    raw = Raw(prepared.source, len(kept), {}, class_names=tuple(prepared.facts.classes), longest=longest or {})
    raw.read_as = table.attrs.get("read_as", "")
    named = {*roles.names, "id", *(m + suffix for m in types for suffix in (FILE, START, END))}
    raw.not_read = tuple(c for c in table.columns if c not in named)
    raw.skipped = tuple({"id": str(ids[i]), **fault} for i, fault in sorted(skipped.items()))
    raw.columns = {c: table[c].to_numpy(object)[kept] for c in roles.names if c not in dense}
    raw.schema = {m: types[m].schema() for m in wanted}
    for m in wanted:
        if m in stacked:
            x, present = stacked[m].read_all(prepared.folder, len(table))
            everything = len(kept) == len(table)
            raw.inputs[m], raw.present[m] = (x, present) if everything else (x[kept], present[kept])
            if not raw.present[m].any():
                raise DataError(f"{raw.name}: modality {m!r} is absent from every row")
            continue
        _add(raw, rows[m], [decoded[m][i] for i in kept] if m in decoded else None)
    for t in dense_targets:
        raw.columns[t] = build_label_maps(rows[t], [decoded[t][i] for i in kept])
    return raw, roles


def _check_views(prepared: Prepared, modalities: Sequence[str], target: str) -> None:
    """Raise ConfigError for images that show another view than the label maps."""
    view = _get_view(prepared.modalities[target])
    for m in modalities:
        kind = prepared.modalities[m]
        if isinstance(kind, Picture) and _get_view(kind) != view:
            raise ConfigError(
                f"{prepared.source}: {m!r} shows another view ({_get_view(kind) or 'the scene'}) than the label maps "
                f"{target!r}; where every pixel has a class, all images have to lie on it: leave {m!r} out"
            )


def _build_rows(prepared: Prepared, m: str, kind: RecordingType, names: NDArray) -> LazyRows:
    table = prepared.table

    def seconds(suffix: str) -> NDArray:
        if m + suffix not in table.columns:
            return np.full(len(table), np.nan)
        cells = table[m + suffix]
        values = np.asarray(pd.to_numeric(cells, errors="coerce"), np.float64)
        written = ~missing(cells)
        # `metadata.csv` is read as text, so an empty cell is no start and any other has to be a number.
        for i in np.flatnonzero(written & ~((values >= 0) & np.isfinite(values)))[:1]:
            raise DataError(
                f"{prepared.source}: {names[i]}, column {m + suffix!r}: {cells.iloc[i]!r}; expected seconds from 0 on"
            )
        return values

    files = table[m + FILE].astype(str).str.strip().where(~missing(table[m + FILE]), "").to_numpy(str)
    return LazyRows(m, kind, prepared.folder, files, seconds(START), seconds(END), names)


# checking every file -------------------------------------------------------------------------------------------------


def _check_files(
    rows: dict[str, LazyRows], on_error: OnError
) -> tuple[dict[int, dict[str, str]], dict[str, list[Any]]]:
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
                raise DataError(f"{m!r}, {x.names[i]}: {reason} Leave such rows out: --on-error skip") from error
            bad[i] = {"modality": m, "reason": str(error)}
    return bad, decoded


def _stays_files(x: LazyRows) -> bool:
    shape = x.kind.shape
    # 4 bytes per value: arrays are float32 in memory.
    large = shape is not None and len(shape) >= 3 and 4 * len(x) * math.prod(shape) > IN_MEMORY
    return x.kind.lazy or large


def _find_mismatch(rows: dict[str, LazyRows], i: int, sizes: dict[str, Size], last: str) -> DataError | None:
    """An error where images, depth and label maps of one view (`Picture.view`) differ in size, else None."""
    view = _get_view(rows[last].kind)
    paired = {}
    for m, size in sizes.items():
        kind = rows[m].kind
        if isinstance(kind, Image | Depth | Labels) and _get_view(kind) == view:
            paired[m] = size
    has_pixels_to_match = any(isinstance(rows[m].kind, Depth | Labels) for m in paired)
    if not has_pixels_to_match or len(set(paired.values())) == 1:
        return None
    found = ", ".join(f"{rows[m].segment(i).path} is {h} x {w}" for m, (h, w) in paired.items())
    return DataError(
        f"{' and '.join(map(repr, paired))} show different views: {found}. If one of them is meant to, name its view "
        "in modalities.json (view: face)"
    )


def _get_view(kind: RecordingType) -> str:
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


def _add(raw: Raw, x: LazyRows, decoded: list[Tensor | None] | None) -> None:
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
