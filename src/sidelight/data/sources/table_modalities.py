"""Modalities of a table: columns of features, a file per row, or an array file for all rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sidelight.data.conversion import convert_role_column, has_lists, numeric_column, series_to_numpy, vector_column
from sidelight.data.raw import Raw
from sidelight.data.rows import to_float32
from sidelight.data.sources.arrays import to_modality_array
from sidelight.data.sources.checked_files import FILE as FILE_COLUMN
from sidelight.data.sources.stack import stack_rows
from sidelight.errors import DataError, unknown
from sidelight.utils.array_files import load_array, load_arrays
from sidelight.utils.delimited import missing
from sidelight.utils.images import LABEL_FILES, read_labels, stack_images
from sidelight.utils.text_files import table_stem

if TYPE_CHECKING:
    import pandas as pd

ARRAY_FILES = (".safetensors", ".npy", ".npz")


def read_role(column: pd.Series, name: str, target: bool) -> NDArray:
    return convert_role_column(series_to_numpy(column), f"{name}: column {str(column.name)!r}", target)


def find_modalities(frame: pd.DataFrame, free: Sequence[str], folder: Path | None, name: str) -> dict[str, None]:
    """The modalities in the columns, then, for a folder's `metadata` file, those in the folder's array files.

    The file of a single row is not a modality.
    """
    found: dict[str, None] = {}
    row_files: set[str] = set()
    prefixes = find_prefixes(free)
    for c in free:
        if c.endswith(FILE_COLUMN):
            found[c.removesuffix(FILE_COLUMN)] = None
            row_files |= set(frame[c].astype(str))
        elif c in prefixes:
            found[prefixes[c]] = None
        elif has_lists(frame[c]):
            found[c] = None
    # Array files beside a table of another name may belong to other data.
    if folder is not None and table_stem(Path(name)) == "metadata":
        for path in sorted(folder.iterdir()):
            if path.suffix in ARRAY_FILES and path.name not in row_files:
                found[path.stem] = None
    return found


def find_prefixes(columns: Iterable[str]) -> dict[str, str]:
    """Column -> the modality before its first dot.

    A dot before a blank ("Sr. No") or inside of a number ("F0semitoneFrom27.5Hz") separates nothing. "cam2.0" is column
    0 of cam2 where its columns are counted.
    """
    found: dict[str, str] = {}
    counted: dict[str, list[str]] = {}
    for c in columns:
        m, _, column = c.partition(".")
        if c.endswith(FILE_COLUMN) or not m or not column.strip(".") or column[0].isspace():
            continue
        if m[-1].isdigit() and column[0].isdigit():
            counted.setdefault(m, []).append(column)
        else:
            found[c] = m
    for m, numbers in counted.items():
        first = min((int(n) for n in numbers if n.isdecimal()), default=-1)
        if first in (0, 1) and {*numbers} == {str(first + i) for i in range(len(numbers))}:
            found |= {f"{m}.{n}": m for n in numbers}
    return found


def add_modality(
    raw: Raw,
    m: str,
    how: str | Sequence[str] | None,
    frame: pd.DataFrame,
    free: Sequence[str],
    folder: Path | None,
    rows: Sequence[str],
    dense: bool,
) -> None:
    """Add one modality to `raw`, from the columns that `how` names or in the one way that it is stored."""
    if how is None:
        _add_stored(raw, m, frame, free, folder, rows, dense)
        return
    if isinstance(how, str):
        columns = sort_naturally(c for c in free if c.startswith(how))
    else:
        columns = list(how)
        if twice := [c for c, n in Counter(columns).items() if n > 1]:
            raise DataError(f"{raw.name}: modality {m!r}: column {twice[0]!r} is named {columns.count(twice[0])} times")
    for c in columns:
        if c not in free:
            raise DataError(f"{raw.name}: modality {m!r}: {unknown('column', c, free)}")
    if not columns and not isinstance(how, str):
        raise DataError(f"{raw.name}: modality {m!r}: name at least one column. Columns: {', '.join(free[:30])}")
    if not columns:
        raise DataError(f"{raw.name}: modality {m!r}: no column starts with {how!r}. Columns: {', '.join(free[:30])}")
    _add_columns(raw, m, frame, columns, rows)


def _add_stored(
    raw: Raw,
    m: str,
    frame: pd.DataFrame,
    free: Sequence[str],
    folder: Path | None,
    rows: Sequence[str],
    dense: bool,
) -> None:
    """Add a modality from columns, a file per row or one array file, whichever exists."""
    columns = sort_naturally(c for c in free if c.startswith(f"{m}.") and not c.endswith(FILE_COLUMN))
    if not columns and m in free:
        columns = [m]
    file_column = f"{m}{FILE_COLUMN}"
    candidates = [] if folder is None else [folder / f"{m}{end}" for end in ARRAY_FILES]
    array_files = [path for path in candidates if path.is_file()]

    ways = ["columns"] if columns else []
    if file_column in free:
        ways.append(file_column)
    ways += map(str, array_files)
    if len(ways) > 1:
        raise DataError(f"{raw.name}: modality {m!r} is stored in several ways ({', '.join(ways)}); keep one")
    if not ways:
        known = find_modalities(frame, free, folder, raw.name)
        raise DataError(f"{raw.name}: {unknown('modality', m, known)}")

    if array_files:
        _add_array(raw, m, array_files[0], dense)
    elif columns:
        _add_columns(raw, m, frame, columns, rows)
    else:
        _add_files(raw, m, frame[file_column], folder, rows, dense)


def sort_naturally(columns: Iterable[str]) -> list[str]:
    """Column names in order, the numbers in them by value, so that the order in the file does not matter."""

    def key(column: str) -> list[tuple[int, str]]:
        # The longer of two numbers is the larger; (0, …) puts text before numbers.
        return [(len(t), t) if t.isdigit() else (0, t) for t in re.split(r"(\d+)", column)]

    return sorted(columns, key=key)


def _add_columns(raw: Raw, m: str, frame: pd.DataFrame, cells: Sequence[str], rows: Sequence[str]) -> None:
    """Add (N, D) float32, NaN for empty cells, absent where all are empty. A column of lists is a vector by itself."""
    where = f"{raw.name}: modality {m!r}"
    if len(cells) == 1 and has_lists(frame[cells[0]]):
        where = f"{where}, column {cells[0]!r}"
        _add_stacked(raw, m, vector_column(frame[cells[0]], where, rows), rows)
        return
    values = np.empty((len(frame), len(cells)), np.float32)
    for k, c in enumerate(cells):
        values[:, k] = to_float32(numeric_column(frame[c], where, rows), f"{where}, column {c!r}", rows)
    raw.inputs[m] = values
    raw.present[m] = np.asarray(~np.isnan(values).all(1))
    raw.features[m] = tuple(cells)


def _add_stacked(raw: Raw, m: str, arrays: Sequence[NDArray | None], names: Sequence[str]) -> None:
    """Add one array per row."""
    raw.inputs[m], raw.present[m], lengths = stack_rows(raw.name, m, arrays, names, raw.longest.get(m, 0))
    if lengths is not None:
        raw.lengths[m] = lengths


def _read_each(
    values: NDArray, what: str, folder: Path | None, rows: Sequence[str], read: Callable[[Path], NDArray]
) -> list[NDArray | None]:
    """Read the file of every row; None for an empty cell. `what` is its name in errors."""
    import pandas as pd

    without = missing(pd.Series(values))
    arrays: list[NDArray | None] = []
    for i, value in enumerate(values):
        try:
            arrays.append(None if without[i] else read((folder or Path()) / str(value).strip()))
        except DataError as e:
            raise DataError(f"{what}, {rows[i]}: {e}") from e
    return arrays


def read_label_maps(raw: Raw, t: str, folder: Path | None, rows: Sequence[str]) -> NDArray:
    """(N, H, W) class values of a target that names a file per row; −1 in a row without a file."""

    def read(path: Path) -> NDArray:
        labels = read_labels(path) if path.suffix.lower() in LABEL_FILES else load_array(path, t)
        if labels.ndim != 2:
            raise DataError(f"{path} has shape {labels.shape}; expected (H, W), a class value per pixel")
        return labels

    what, values = f"{raw.name}: target {t!r}", raw.columns[t]
    arrays = [None if a is None else a[None] for a in _read_each(values, what, folder, rows, read)]
    x, present = stack_images(raw.name, f"target {t!r}", arrays, [f"{r} ({v})" for r, v in zip(rows, values)])
    maps = x[:, 0].astype(np.int32)
    maps[~present] = -1
    return maps


def _add_files(raw: Raw, m: str, column: pd.Series, folder: Path | None, rows: Sequence[str], dense: bool) -> None:
    """Add one file per row; an empty cell is a row without the modality."""
    values = read_role(column, raw.name, False)
    arrays = _read_each(values, f"{raw.name}: modality {m!r}", folder, rows, lambda path: load_array(path, m))
    arrays = [a[:, :, None] if dense and a is not None and a.ndim == 2 else a for a in arrays]
    labels = [f"{row} ({value})" for row, value in zip(rows, values)]
    _add_stacked(raw, m, arrays, labels)


def _add_array(raw: Raw, m: str, path: Path, dense: bool) -> None:
    """Add one array for all rows, in the table's order; the file may hold `lengths` (N,) beside it."""
    arrays = load_arrays(path)
    lengths = arrays.get("lengths")
    x = load_array(path, m)
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path} holds {x.dtype}; expected numbers")
    if x.ndim == 0 or len(x) != raw.n:
        raise DataError(
            f"{path} has shape {x.shape}, but {raw.name} has {raw.n} rows; its first axis must be the rows. "
            "If it is not a modality, name those that are (modalities=…)"
        )
    raw.inputs[m] = to_modality_array(x, str(path), dense)
    if lengths is not None:
        raw.lengths[m] = raw.check_per_row(f"lengths in {path.name}", lengths, "iu")
