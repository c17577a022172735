"""Reader for DataFrames and manifests: feature columns, a file per row, or an array file per modality."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.cells import column_numbers, holds_lists, list_rows, role_values, series_values
from sidelight.data.raw import Raw, Roles, empty, text
from sidelight.data.rows import float32
from sidelight.data.sources.arrays import as_modality
from sidelight.data.sources.stack import stack_rows
from sidelight.errors import DataError, unknown
from sidelight.utils.array_files import load_array, load_arrays
from sidelight.utils.delimited import read_delimited
from sidelight.utils.files import check_file, describe_content
from sidelight.utils.images import IMAGE_FILES, read_labels, stack_images

if TYPE_CHECKING:
    import pandas as pd

FILE_COLUMN = "_file_name"
ARRAY_FILES = (".safetensors", ".npy", ".npz")


def read_frame(path: Path) -> pd.DataFrame:
    """A .csv, .tsv or .parquet file. In text columns only an empty cell is empty: a class may be called "None".

    Raises DataError for an unreadable file, two columns of one name, and a line that is wider or narrower than the
    header.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    # Cells as they are written: "01" stays a name, and 3 stays different from 3.0.
    table = read_delimited(path, separator_of(path))
    for name in filter(None, table.names):
        table.check_once(name)
    columns = [name or f"Unnamed: {k}" for k, name in enumerate(table.names)]  # as pandas calls them
    return table.cells.set_axis(columns, axis=1)


def separator_of(path: Path) -> str:
    """What stands between the cells of a text file of this name."""
    return "\t" if path.suffix == ".tsv" else ","


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    check_file(path)
    try:
        if not path.stat().st_size:
            raise DataError(f"{path} is empty; expected the names of the columns and the rows of a Parquet file")
        return pd.read_parquet(path)
    except DataError:
        raise
    except Exception as e:  # pandas and pyarrow each raise their own
        first = (str(e).splitlines() or [""])[0]
        told = describe_content(path, path.suffix)
        raise DataError(f"cannot read {path}: {told or f'{type(e).__name__}: {first}'}") from e


def read_table(
    frame: pd.DataFrame,
    name: str,
    folder: Path | None,
    find: Callable[[Sequence[str]], Roles],
    modalities: Sequence[str] | Mapping[str, str | Sequence[str] | None] | None,
    longest: Mapping[str, int] | None = None,
) -> tuple[Raw, Roles]:
    """Rows of a table. `folder`: where file names start from and where `<modality>.npy` files lie; None: in memory."""
    frame = _with_named_columns(frame, name)
    columns = list(frame.columns)
    for c in columns:
        if frame[c].dtype.kind == "c":
            raise DataError(f"{name}: column {c!r} holds {frame[c].dtype}; expected real numbers")
    roles = find(columns)
    raw = Raw(
        name,
        len(frame),
        {},
        columns={c: _role(frame[c], name, c in roles.target) for c in roles.names},
        longest=longest or {},
    )
    names = text(raw.columns[roles.ids]) if roles.ids else np.arange(len(frame)).astype(str)
    rows = [f"row {i}" if names[i] == str(i) else f"row {i} (id {str(names[i])!r})" for i in range(len(frame))]
    dense = [t for t in roles.target if t.endswith(FILE_COLUMN)]
    for t in dense:
        raw.columns[t] = _label_maps(raw, t, folder, rows)
    free = [c for c in columns if c not in roles.names]
    wanted: dict[str, Any] = dict.fromkeys(modalities) if modalities is not None else _found(frame, free, folder, name)
    if isinstance(modalities, Mapping):
        wanted = dict(modalities)
    if not wanted:
        raise DataError(
            f"{name}: no modality found; expected columns like 'video.0', 'video.1', a column "
            f"'video{FILE_COLUMN}', or a file video.npy beside the table. Columns: {', '.join(free[:30]) or '(none)'}"
        )
    for m, how in wanted.items():
        _add(raw, m, how, frame, free, folder, rows, dense=bool(dense))
    return raw, roles


def _with_named_columns(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table with its columns named by different strings; the levels of its index that have a name are columns."""
    import pandas as pd

    if isinstance(frame.columns, pd.MultiIndex):
        raise DataError(
            f"{name}: the columns have {frame.columns.nlevels} levels (a MultiIndex); join them first: "
            "frame.columns = ['.'.join(map(str, c)) for c in frame.columns]"
        )
    for c in frame.columns:
        if not isinstance(c, str | int | np.integer):
            raise DataError(f"{name}: a column is called {c!r} ({type(c).__name__}); columns are named by strings")
    levels = [level for level in frame.index.names if level is not None and level not in frame.columns]
    frame = frame.reset_index(level=levels) if levels else frame
    frame = frame.rename(columns=str)
    doubled = frame.columns[frame.columns.duplicated()]
    if len(doubled):
        raise DataError(f"{name}: column {doubled[0]!r} occurs twice")
    return frame


def _role(column: pd.Series, name: str, target: bool) -> NDArray:
    return role_values(series_values(column), f"{name}: column {str(column.name)!r}", target)


def _found(frame: pd.DataFrame, free: Sequence[str], folder: Path | None, name: str) -> dict[str, None]:
    """Every modality that columns speak of, then, for a folder's `metadata` file, the array files in that folder.

    A row's own file is no modality.
    """
    found: dict[str, None] = {}
    row_files: set[str] = set()
    for c in free:
        if c.endswith(FILE_COLUMN):
            found[c.removesuffix(FILE_COLUMN)] = None
            row_files |= set(frame[c].astype(str))
        elif "." in c.strip("."):
            found[c.split(".", 1)[0]] = None
        elif holds_lists(frame[c]):
            found[c] = None
    if folder is not None and Path(name).stem == "metadata":
        for path in sorted(folder.iterdir()):
            if path.suffix in ARRAY_FILES and path.name not in row_files:
                found[path.stem] = None
    return found


def _add(
    raw: Raw,
    m: str,
    how: str | Sequence[str] | None,
    frame: pd.DataFrame,
    free: Sequence[str],
    folder: Path | None,
    rows: Sequence[str],
    dense: bool,
) -> None:
    """Read one modality by whichever way it is stored."""
    if how is None:
        cells = in_order(c for c in free if c.startswith(f"{m}.") and not c.endswith(FILE_COLUMN))
        cells = cells or [c for c in free if c == m]
        file_column = f"{m}{FILE_COLUMN}"
        beside = [
            folder / f"{m}{end}" for end in ARRAY_FILES if folder is not None and (folder / f"{m}{end}").is_file()
        ]
        ways = [*(["columns"] if cells else []), *([file_column] if file_column in free else []), *map(str, beside)]
        if len(ways) > 1:
            raise DataError(f"{raw.name}: modality {m!r} is stored in several ways ({', '.join(ways)}); keep one")
        if not ways:
            known = _found(frame, free, folder, raw.name)
            raise DataError(f"{raw.name}: {unknown('modality', m, known)}")
        if beside:
            _add_array(raw, m, beside[0], dense)
        elif file_column in free:
            _add_files(raw, m, frame[file_column], folder, rows, dense)
        else:
            _add_columns(raw, m, frame, cells, rows)
        return
    cells = in_order(c for c in free if c.startswith(how)) if isinstance(how, str) else list(how)
    for c in cells:
        if c not in free:
            raise DataError(f"{raw.name}: modality {m!r}: {unknown('column', c, free)}")
    if not cells:
        raise DataError(f"{raw.name}: modality {m!r}: no column starts with {how!r}. Columns: {', '.join(free[:30])}")
    _add_columns(raw, m, frame, cells, rows)


def in_order(columns: Iterable[str]) -> list[str]:
    """Column names sorted, numbers in them by value: a file whose columns stand in another order reads the same."""
    return sorted(columns, key=lambda c: [(len(t), t) if t.isdigit() else (0, t) for t in re.split(r"(\d+)", c)])


def _add_columns(raw: Raw, m: str, frame: pd.DataFrame, cells: Sequence[str], rows: Sequence[str]) -> None:
    """(N, D) float32, NaN where a cell is empty; absent where all are. A column of lists is a vector by itself."""
    where = f"{raw.name}: modality {m!r}"
    if len(cells) == 1 and holds_lists(frame[cells[0]]):
        where = f"{where}, column {cells[0]!r}"
        _add_stacked(raw, m, list_rows(frame[cells[0]], where, rows), rows)
        return
    out = np.empty((len(frame), len(cells)), np.float32)
    for k, c in enumerate(cells):
        out[:, k] = float32(column_numbers(frame[c], where, rows), f"{where}, column {c!r}", rows)
    raw.inputs[m], raw.present[m], raw.features[m] = out, np.asarray(~np.isnan(out).all(1)), tuple(cells)


def _add_stacked(raw: Raw, m: str, arrays: Sequence[NDArray | None], names: Sequence[str]) -> None:
    """An array per row."""
    raw.inputs[m], raw.present[m], lengths = stack_rows(raw.name, m, arrays, names, raw.longest.get(m, 0))
    if lengths is not None:
        raw.lengths[m] = lengths


def _read_each(
    values: NDArray, what: str, folder: Path | None, rows: Sequence[str], read: Callable[[Path], NDArray]
) -> list[NDArray | None]:
    """What the file of every row holds; None where the cell is empty. `what` is how errors call it."""
    missing = empty(values)
    arrays: list[NDArray | None] = []
    for i, value in enumerate(values):
        try:
            arrays.append(None if missing[i] else read((folder or Path()) / str(value)))
        except DataError as e:
            raise DataError(f"{what}, {rows[i]}: {e}") from e
    return arrays


def _label_maps(raw: Raw, t: str, folder: Path | None, rows: Sequence[str]) -> NDArray:
    """(N, H, W) class values of a target that names a file per row; −1 in a row without a file."""

    def read(path: Path) -> NDArray:
        labels = read_labels(path) if path.suffix.lower() in IMAGE_FILES else load_array(path, t)
        if labels.ndim != 2:
            raise DataError(f"{path} has shape {labels.shape}; expected (H, W), a class value per pixel")
        return labels

    what, values = f"{raw.name}: target {t!r}", raw.columns[t]
    arrays = [None if a is None else a[None] for a in _read_each(values, what, folder, rows, read)]
    x, present = stack_images(raw.name, f"target {t!r}", arrays, [f"{r} ({v})" for r, v in zip(rows, values)])
    whole = x[:, 0].astype(np.int32)
    whole[~present] = -1
    return whole


def _add_files(raw: Raw, m: str, column: pd.Series, folder: Path | None, rows: Sequence[str], dense: bool) -> None:
    """A file per row; an empty cell is a row without the modality."""
    values = _role(column, raw.name, False)
    arrays = _read_each(values, f"{raw.name}: modality {m!r}", folder, rows, lambda path: load_array(path, m))
    arrays = [a[:, :, None] if dense and a is not None and a.ndim == 2 else a for a in arrays]
    labels = [f"{row} ({value})" for row, value in zip(rows, values)]
    _add_stacked(raw, m, arrays, labels)


def _add_array(raw: Raw, m: str, path: Path, dense: bool) -> None:
    """One array for all rows, in the table's order; `lengths` (N,) beside it in the file if they vary."""
    arrays = load_arrays(path)
    lengths = arrays.get("lengths")
    x = load_array(path, m)
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path} holds {x.dtype}; expected numbers")
    if x.ndim == 0 or len(x) != raw.n:
        raise DataError(
            f"{path} has shape {x.shape}, but {raw.name} has {raw.n} rows; its first axis must be the rows. "
            "If it is no modality, name those that are (modalities=…)"
        )
    raw.inputs[m] = as_modality(x, str(path), dense)
    if lengths is not None:
        raw.lengths[m] = raw.per_row(f"lengths in {path.name}", lengths, "iu")
