"""Rows of a prepared folder: every file looked at, what is small read into memory, the rest left as files."""

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

from sidelight.data.raw import Raw, Roles
from sidelight.data.rows import name_row
from sidelight.data.sources.prepared import END, FILE, START, Prepared
from sidelight.data.sources.stack import stack_rows
from sidelight.errors import ConfigError, DataError, SidelightError, unknown
from sidelight.recordings.label_maps import LabelScan, build_label_maps
from sidelight.recordings.lazy import LazyRows
from sidelight.recordings.pictures import Depth, Image, Picture
from sidelight.recordings.recording_type import Segment, RecordingType, Size
from sidelight.recordings.registry import Labels
from sidelight.utils.machine import usable_cores

OnError = Literal["raise", "skip"]
IN_MEMORY = 2**30
"""Bytes up to which a modality of images or clips in arrays is kept in memory."""
QUIET_SECONDS = 2.0


def read_recordings(
    prepared: Prepared,
    find: Callable[[Sequence[str]], Roles],
    modalities: Sequence[str] | None,
    on_error: OnError = "raise",
    longest: Mapping[str, int] | None = None,
) -> tuple[Raw, Roles]:
    """The rows of a prepared folder: modalities as arrays or, where their rows stay files, as `LazyRows`.

    Every file is looked at first (`RecordingType.probe`). One that is missing, damaged or not as declared is a DataError that
    names row, modality and file, or with on_error="skip" drops its row, listed in `Raw.skipped`.
    """
    table, kinds = prepared.table, dict(prepared.modalities)
    dense = [m for m, kind in kinds.items() if isinstance(kind, Labels)]
    roles = find([*table.columns, *dense])
    wanted = [m for m in kinds if m not in dense] if modalities is None else list(modalities)
    for m in wanted:
        if m in kinds and m + FILE not in table.columns:
            raise DataError(f"{prepared.source}: {m!r}: {unknown('column', m + FILE, table.columns)}")
        if m not in kinds or m in dense:
            raise DataError(f"{prepared.source}: {unknown('modality', m, [k for k in kinds if k not in dense])}")
    read = [*wanted, *(t for t in roles.target if t in dense)]
    for m in wanted if any(t in dense for t in roles.target) else ():
        target = kinds[roles.target[0]]
        if isinstance(kinds[m], Picture) and _view(kinds[m]) != _view(target):
            raise ConfigError(
                f"{prepared.source}: {m!r} shows another view ({_view(kinds[m]) or 'the scene'}) than the label maps "
                f"{roles.target[0]!r}; where every pixel has a class, all images have to lie on it: leave {m!r} out"
            )
    names = np.array([name_row(i, table["id"].to_numpy()) for i in range(len(table))])
    rows = {m: _rows(prepared, m, kinds[m], names) for m in read}
    skipped, decoded = _look(rows, on_error)
    kept = np.setdiff1d(np.arange(len(table)), list(skipped))
    if not len(kept):
        first = next(iter(skipped.values()))
        raise DataError(f"{prepared.source}: no row can be read; {first['modality']!r}: {first['reason']}")
    rows = {m: x[kept] for m, x in rows.items()}
    ids = table["id"].to_numpy()
    raw = Raw(prepared.source, len(kept), {}, class_names=tuple(prepared.facts.classes), longest=longest or {})
    raw.skipped = tuple({"id": str(ids[i]), **told} for i, told in sorted(skipped.items()))
    raw.columns = {c: table[c].to_numpy(object)[kept] for c in roles.names if c not in dense}
    raw.schema = {m: kinds[m].schema() for m in wanted}
    for m in wanted:
        _add(raw, rows[m], [decoded[m][i] for i in kept] if m in decoded else None)
    for t in roles.target:
        if t in dense:
            raw.columns[t] = build_label_maps(rows[t], [decoded[t][i] for i in kept])
    return raw, roles


def _rows(prepared: Prepared, m: str, kind: RecordingType, names: NDArray) -> LazyRows:
    table = prepared.table

    def seconds(suffix: str) -> NDArray:
        if m + suffix not in table.columns:
            return np.full(len(table), np.nan)
        cells = table[m + suffix]
        values = np.asarray(pd.to_numeric(cells, errors="coerce"), np.float64)
        written = cells.astype(str).str.strip() != ""
        for i in np.flatnonzero(written & ~((values >= 0) & np.isfinite(values)))[:1]:
            raise DataError(
                f"{prepared.source}: {names[i]}, column {m + suffix!r}: {cells.iloc[i]!r}; expected seconds from 0 on"
            )
        return values

    files = table[m + FILE].astype(str).str.strip().to_numpy(str)
    return LazyRows(m, kind, prepared.folder, files, seconds(START), seconds(END), names)


# looking at every file ----------------------------------------------------------------------------------------------


def _look(rows: dict[str, LazyRows], on_error: OnError) -> tuple[dict[int, dict[str, str]], dict[str, list[Any]]]:
    """Row -> the modality and reason of its first bad file; and modality -> its rows, where those stay in memory, or
    of label maps what they hold.

    Raises DataError for the first bad file unless rows are to be skipped.
    """
    if on_error not in ("raise", "skip"):
        raise ConfigError(unknown("value of on_error", on_error, ("raise", "skip")))
    bad: dict[int, dict[str, str]] = {}
    sizes: dict[int, dict[str, Size]] = {}
    decoded: dict[str, list[Any]] = {}
    for m, x in rows.items():
        kind = x.kind
        work = kind.scan if isinstance(kind, Labels) else kind.probe if _stays_files(x) else kind.read
        for i, found in _each(x, work, f"looking at {m}"):
            error: SidelightError | None = None
            if work != kind.probe:
                decoded.setdefault(m, []).append(None if isinstance(found, SidelightError) else found)
            if isinstance(found, SidelightError):
                error = found
            elif isinstance(found, tuple):
                sizes.setdefault(i, {})[m] = found.size if isinstance(found, LabelScan) else found
                error = _mismatch(rows, i, sizes[i], m)
            if error is None or i in bad:
                continue
            if on_error == "raise":
                told = str(error) + "." * (str(error)[-1] not in ".?")
                raise DataError(f"{m!r}, {x.names[i]}: {told} Leave such rows out: --on-error skip") from error
            bad[i] = {"modality": m, "reason": str(error)}
    return bad, decoded


def _stays_files(x: LazyRows) -> bool:
    shape = x.kind.shape
    large = shape is not None and len(shape) >= 3 and 4 * len(x) * math.prod(shape) > IN_MEMORY
    return x.kind.lazy or large


def _mismatch(rows: dict[str, LazyRows], i: int, sizes: dict[str, Size], last: str) -> DataError | None:
    """Depths and labels belong to the pixels of the images beside them that show the same: `Picture.view`."""
    kinds = {m: rows[m].kind for m in sizes}
    paired = {m: sizes[m] for m, kind in kinds.items() if isinstance(kind, Image | Depth | Labels)}
    paired = {m: size for m, size in paired.items() if _view(kinds[m]) == _view(kinds[last])}
    if not any(isinstance(rows[m].kind, Depth | Labels) for m in paired) or len(set(paired.values())) == 1:
        return None
    told = ", ".join(f"{rows[m].segment(i).path} is {h} x {w}" for m, (h, w) in paired.items())
    return DataError(
        f"{' and '.join(map(repr, paired))} show different views: {told}. If one of them is meant to, name what it "
        "shows in modalities.json (view: face)"
    )


def _view(kind: RecordingType) -> str:
    return kind.view if isinstance(kind, Picture) else ""


def _each(x: LazyRows, work: Callable[[Segment], object], what: str) -> Iterator[tuple[int, object]]:
    """Row number and what `work` says of its file, or its error, by threads; a line on the terminal where it is long.

    None of rows without a file.
    """

    def of(i: int) -> object:
        try:
            return work(x.segment(i)) if x.files[i] else None
        except DataError as error:
            return error

    start, shown = time.perf_counter(), 0.0
    with ThreadPoolExecutor(usable_cores(), "look") as pool:
        begun = [pool.submit(of, i) for i in range(len(x))]
        try:
            for i, row in enumerate(begun):
                yield i, row.result()
                now = time.perf_counter()
                if now - start > QUIET_SECONDS and now - shown > 1 and sys.stderr.isatty():
                    print(f"\r{what}: {i + 1} of {len(x)}", end="", file=sys.stderr, flush=True)
                    shown = now
        finally:
            for row in begun:
                row.cancel()
            if shown:
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _add(raw: Raw, x: LazyRows, decoded: list[Tensor | None] | None) -> None:
    """A modality as an array of what was decoded, or as files."""
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
