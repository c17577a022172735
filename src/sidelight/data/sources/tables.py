"""Reader for DataFrames and manifests: feature columns, a file per row, or an array file per modality."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.conversion import convert_role_column, has_lists, numeric_column, series_to_numpy, vector_column
from sidelight.data.raw import Raw, Roles, is_empty, to_text
from sidelight.data.rows import name_row, to_float32
from sidelight.data.sources.arrays import to_modality_array
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
    """Read a .csv, .tsv or .parquet file. In text columns only an empty cell is empty: a class may be called "None".

    Raises:
        DataError: an unreadable file, two columns of one name, or a line that is wider or narrower than the header.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    # Cells stay text: "01" remains a name, and 3 remains different from 3.0.
    table = read_delimited(path, separator_of(path))
    for name in filter(None, table.names):
        table.check_once(name)
    columns = [name or f"Unnamed: {k}" for k, name in enumerate(table.names)]  # as pandas calls them
    return table.cells.set_axis(columns, axis=1)


def separator_of(path: Path) -> str:
    """The separator of the cells in a text file of this name."""
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
        first_line = (str(e).splitlines() or [""])[0]
        reason = describe_content(path, path.suffix) or f"{type(e).__name__}: {first_line}"
        raise DataError(f"cannot read {path}: {reason}") from e


def read_table(
    frame: pd.DataFrame,
    name: str,
    folder: Path | None,
    find: Callable[[Sequence[str]], Roles],
    modalities: Sequence[str] | Mapping[str, str | Sequence[str] | None] | None,
    longest: Mapping[str, int] | None = None,
) -> tuple[Raw, Roles]:
    """Read the rows of a table.

    Args:
        frame: the table.
        name: name of the data in errors.
        folder: the folder that file names are relative to and that holds `<modality>.npy` files; None: in memory.
        find: called with the columns; returns those with a role.
        modalities: names, or name -> column prefix or list of columns; None: all that are found.
        longest: modality -> time steps to keep of longer rows.

    Raises:
        DataError: names row, column and value.
    """
    frame = _name_columns(frame, name)
    columns = list(frame.columns)
    for c in columns:
        if frame[c].dtype.kind == "c":
            raise DataError(f"{name}: column {c!r} holds {frame[c].dtype}; expected real numbers")
    roles = find(columns)
    role_columns = {c: _read_role(frame[c], name, c in roles.target) for c in roles.names}
    raw = Raw(name, len(frame), {}, columns=role_columns, longest=longest or {})
    rows = _name_rows(raw, roles)

    dense = [t for t in roles.target if t.endswith(FILE_COLUMN)]
    for t in dense:
        raw.columns[t] = _read_label_maps(raw, t, folder, rows)
    free = [c for c in columns if c not in roles.names]
    if isinstance(modalities, Mapping):
        wanted: dict[str, Any] = dict(modalities)
    else:
        names = modalities if modalities is not None else _find_modalities(frame, free, folder, name)
        wanted = dict.fromkeys(names)
    if not wanted:
        raise DataError(
            f"{name}: no modality found; expected columns like 'video.0', 'video.1', a column "
            f"'video{FILE_COLUMN}', or a file video.npy beside the table. Columns: {', '.join(free[:30]) or '(none)'}"
        )
    for m, how in wanted.items():
        _add(raw, m, how, frame, free, folder, rows, dense=bool(dense))
    return raw, roles


def _name_rows(raw: Raw, roles: Roles) -> list[str]:
    """(N,) names of the rows in errors."""
    if not roles.ids:
        return [f"row {i}" for i in range(raw.n)]
    ids = to_text(raw.columns[roles.ids])
    return [name_row(i, ids) for i in range(raw.n)]


def _name_columns(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table with distinct strings as column names; named levels of the index become columns."""
    import pandas as pd

    if isinstance(frame.columns, pd.MultiIndex):
        raise DataError(
            f"{name}: the columns have {frame.columns.nlevels} levels (a MultiIndex); join them first: "
            "frame.columns = ['.'.join(map(str, c)) for c in frame.columns]"
        )
    for c in frame.columns:
        if not isinstance(c, str | int | np.integer):
            raise DataError(f"{name}: a column is called {c!r} ({type(c).__name__}); column names must be strings")
    levels = [level for level in frame.index.names if level is not None and level not in frame.columns]
    if levels:
        frame = frame.reset_index(level=levels)
    frame = frame.rename(columns=str)
    doubled = frame.columns[frame.columns.duplicated()]
    if len(doubled):
        raise DataError(f"{name}: column {doubled[0]!r} occurs twice")
    return frame


def _read_role(column: pd.Series, name: str, target: bool) -> NDArray:
    return convert_role_column(series_to_numpy(column), f"{name}: column {str(column.name)!r}", target)


def _find_modalities(frame: pd.DataFrame, free: Sequence[str], folder: Path | None, name: str) -> dict[str, None]:
    """The modalities in the columns, then, for a folder's `metadata` file, those in the folder's array files.

    The file of a single row is not a modality.
    """
    found: dict[str, None] = {}
    row_files: set[str] = set()
    for c in free:
        if c.endswith(FILE_COLUMN):
            found[c.removesuffix(FILE_COLUMN)] = None
            row_files |= set(frame[c].astype(str))
        elif "." in c.strip("."):
            found[c.split(".", 1)[0]] = None
        elif has_lists(frame[c]):
            found[c] = None
    # Array files beside a table of another name may belong to other data.
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
    """Add one modality to `raw`, from the columns that `how` names or in the one way that it is stored."""
    if how is None:
        _add_stored(raw, m, frame, free, folder, rows, dense)
        return
    if isinstance(how, str):
        columns = sort_naturally(c for c in free if c.startswith(how))
    else:
        columns = list(how)
    for c in columns:
        if c not in free:
            raise DataError(f"{raw.name}: modality {m!r}: {unknown('column', c, free)}")
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
        known = _find_modalities(frame, free, folder, raw.name)
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
    missing = is_empty(values)
    arrays: list[NDArray | None] = []
    for i, value in enumerate(values):
        try:
            arrays.append(None if missing[i] else read((folder or Path()) / str(value)))
        except DataError as e:
            raise DataError(f"{what}, {rows[i]}: {e}") from e
    return arrays


def _read_label_maps(raw: Raw, t: str, folder: Path | None, rows: Sequence[str]) -> NDArray:
    """(N, H, W) class values of a target that names a file per row; −1 in a row without a file."""

    def read(path: Path) -> NDArray:
        labels = read_labels(path) if path.suffix.lower() in IMAGE_FILES else load_array(path, t)
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
    values = _read_role(column, raw.name, False)
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
