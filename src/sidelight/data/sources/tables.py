"""Reader for DataFrames and manifests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sidelight.data.arguments import Modalities
from sidelight.data.raw import Raw, Roles, to_text
from sidelight.data.rows import name_row, number_rows
from sidelight.data.similar_names import warn_similar_names
from sidelight.data.sources.channels import Channels, pick_channels, plan_sources
from sidelight.data.sources.checked_files import END, START, OnError
from sidelight.data.sources.checked_files import FILE as FILE_COLUMN
from sidelight.data.sources.prefixes import propose_modalities
from sidelight.data.sources.table_files import TypesOfTable
from sidelight.data.sources.table_modalities import add_modality, find_modalities, read_label_maps, read_role
from sidelight.errors import ConfigError, DataError, listed
from sidelight.utils.delimited import read_delimited
from sidelight.utils.dialect import Dialect
from sidelight.utils.files import check_file, describe_content
from sidelight.utils.json_lines import read_json_lines
from sidelight.utils.text_files import table_suffix

if TYPE_CHECKING:
    import pandas as pd


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
    role_columns = {c: read_role(frame[c], name, c in roles.target) for c in roles.names}
    raw = Raw(name, len(frame), {}, columns=role_columns, longest=longest or {})
    rows = _name_rows(raw, roles)

    dense = [t for t in roles.target if t.endswith(FILE_COLUMN)]
    free = [c for c in columns if c not in roles.names]
    asked, picked = plan_sources(modalities)
    of_target = {t: m for t in dense if (m := t.removesuffix(FILE_COLUMN)) not in free}
    if isinstance(asked, Mapping):
        wanted: dict[str, Any] = {m: how for m, how in asked.items() if m not in of_target.values()}
    else:
        names = asked if asked is not None else find_modalities(frame, free, folder, name)
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
        raw.columns[t] = maps if maps is not None else read_label_maps(raw, t, folder, rows)
    for m in [*wanted, *picked]:
        if m in read.rows:
            read.add(raw, m)
        elif m in wanted and m not in types.implied:
            add_modality(raw, m, wanted[m], frame, free, folder, rows, dense=bool(dense))
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
