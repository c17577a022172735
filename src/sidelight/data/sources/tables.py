"""Reader for DataFrames and manifests: feature columns, a file per row, or an array file per modality."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.arguments import Modalities
from sidelight.data.conversion import convert_role_column, has_lists, numeric_column, series_to_numpy, vector_column
from sidelight.data.raw import Raw, Roles, to_text
from sidelight.data.rows import name_row, number_rows, to_float32
from sidelight.data.similar_names import warn_similar_names
from sidelight.data.sources.arrays import to_modality_array
from sidelight.data.sources.channels import Channels, pick_channels, plan_sources
from sidelight.data.sources.checked_files import END, START, OnError
from sidelight.data.sources.checked_files import FILE as FILE_COLUMN
from sidelight.data.sources.prefixes import propose_modalities
from sidelight.data.sources.stack import stack_rows
from sidelight.data.sources.table_files import TypesOfTable
from sidelight.errors import ConfigError, DataError, listed, unknown
from sidelight.utils.array_files import load_array, load_arrays
from sidelight.utils.delimited import missing, read_delimited
from sidelight.utils.dialect import Dialect
from sidelight.utils.files import check_file, describe_content
from sidelight.utils.images import IMAGE_FILES, read_labels, stack_images
from sidelight.utils.json_lines import read_json_lines
from sidelight.utils.text_files import table_stem, table_suffix

if TYPE_CHECKING:
    import pandas as pd

ARRAY_FILES = (".safetensors", ".npy", ".npz")


def read_frame(path: Path, dialect: Dialect | None = None) -> pd.DataFrame:
    """Read a .csv, .tsv, .txt, .jsonl (each also .gz) or .parquet file; `attrs["read_as"]` says how it is written.

    Args:
        path: the file.
        dialect: what is known of how a text table is written.

    Raises:
        DataError: an unreadable file, two columns of one name, or a line that is wider or narrower than the header.
    """
    suffix = table_suffix(path)
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix == ".jsonl":
        return read_json_lines(path)
    # Cells stay text: "01" remains a name, and 3 remains different from 3.0.
    table = read_delimited(path, dialect or Dialect())
    for name in filter(None, table.names):
        table.check_once(name)
    columns = [name or f"Unnamed: {k}" for k, name in enumerate(table.names)]  # as pandas calls them
    frame = table.cells.set_axis(columns, axis=1)
    frame.attrs["read_as"] = table.dialect.describe(suffix)
    return frame


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
    modalities: Modalities | None,
    longest: Mapping[str, int] | None = None,
    on_error: OnError = "raise",
    ignore_index: int = 255,
) -> tuple[Raw, Roles]:
    """Read the rows of a table.

    Args:
        frame: the table.
        name: name of the data in errors.
        folder: the folder that file names are relative to and that holds `<modality>.npy` files; None: in memory.
        find: called with the columns; returns those with a role.
        modalities: names, or name -> recipe; None: all that are found.
        longest: modality -> time steps to keep of longer rows.
        on_error: what a recording that cannot be read does: "raise" an error, or "skip" its row.
        ignore_index: value of pixels without a class, in label maps that are brought to the size of their images.

    Raises:
        DataError: names row, column and value.
    """
    read_as = frame.attrs.get("read_as", "")
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
    free = [c for c in columns if c not in roles.names]
    asked, picked = plan_sources(modalities)
    of_target = {t: m for t in dense if (m := t.removesuffix(FILE_COLUMN)) not in free}
    if isinstance(asked, Mapping):
        wanted: dict[str, Any] = {m: how for m, how in asked.items() if m not in of_target.values()}
    else:
        names = asked if asked is not None else _find_modalities(frame, free, folder, name)
        wanted = dict.fromkeys(names)
    if not wanted and not picked:
        raise DataError(
            f"{name}: no modality found; expected columns like 'video.0', 'video.1', a column "
            f"'video{FILE_COLUMN}', or a file video.npy beside the table. Columns of other names are given to a "
            f"modality by --modality {propose_modalities(free)} (modalities=…). "
            f"Columns: {', '.join(free[:30]) or '(none)'}"
        )
    if modalities is None:
        warn_similar_names(name, "modalities", wanted, "modality", "")
    types = TypesOfTable(frame, free, folder or Path(), name)
    types.declare(wanted, picked, [*modalities] if modalities is not None else [])
    if dense:
        settings = {t: asked.get(m) if isinstance(asked, Mapping) else None for t, m in of_target.items()}
        types.declare_target(dense[0], settings.get(dense[0]), ignore_index)
    read = types.read(np.array(rows), on_error)
    if read.kept is not None:
        ids = to_text(role_columns[roles.ids]) if roles.ids else number_rows(len(frame))
        frame, rows = frame.iloc[read.kept], [rows[i] for i in read.kept]
        raw = Raw(name, len(frame), {}, longest=longest or {}, numbers=read.kept)
        raw.columns = {c: values[read.kept] for c, values in role_columns.items()}
        raw.skipped = tuple({"id": str(ids[i]), **fault} for i, fault in sorted(read.skipped.items()))
    for t in dense:
        maps = read.label_maps(t)
        raw.columns[t] = maps if maps is not None else _read_label_maps(raw, t, folder, rows)
    for m in [*wanted, *picked]:
        if m in read.rows:
            read.add(raw, m)
        elif m in wanted and m not in types.implied:
            _add(raw, m, wanted[m], frame, free, folder, rows, dense=bool(dense))
    _check_numbers(raw, columns, wanted, picked)
    pick_channels(raw, picked, modalities)
    raw.not_read = _find_not_read(raw, free, [*wanted], types)
    raw.read_as = read_as
    return raw, roles


def _check_numbers(raw: Raw, columns: Sequence[str], wanted: Mapping[str, Any], picked: Mapping[str, Channels]) -> None:
    """Raise ConfigError for the number of a column where the table has them in another order than the modality."""
    for m, channels in picked.items():
        names = raw.features.get(channels.of, ())
        ordered = isinstance(wanted.get(channels.of), list | tuple)  # the user has listed them
        if ordered or not any(isinstance(channel, int) for channel in channels.pick):
            continue
        known = set(names)
        if [*names] != [c for c in columns if c in known]:
            raise ConfigError(
                f"{raw.name}: modality {m!r} = {channels}: the columns of {channels.of!r} are sorted by their names "
                f"({listed(names)}), and the table has them in another order; name the column in place of its number"
            )


def _find_not_read(raw: Raw, free: Sequence[str], wanted: Sequence[str], types: TypesOfTable) -> tuple[str, ...]:
    """The columns without a role that no modality reads, nor the file of one."""
    used = {c for columns in raw.features.values() for c in columns}
    for m in (*wanted, *types.columns):
        used |= {m, m + FILE_COLUMN, types.columns.get(m, m)}
    used |= {m + end for m in wanted for end in (START, END)}
    return tuple(c for c in free if c not in used)


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
    import pandas as pd

    without = missing(pd.Series(values))
    arrays: list[NDArray | None] = []
    for i, value in enumerate(values):
        try:
            arrays.append(None if without[i] else read((folder or Path()) / str(value).strip()))
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
