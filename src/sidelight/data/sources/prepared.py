"""Prepared folders: a table of rows that names their files, and what kind of recording each modality is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidelight.data.raw import MODALITIES_FILE, TABLE_FILE
from sidelight.errors import ConfigError, DataError, shown, unknown
from sidelight.recordings.registry import Labels, RecordingType, recording_type
from sidelight.utils.files import read_json
from sidelight.utils.names import check_modality

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
FILE, START, END = "_file_name", "_start", "_end"
"""Suffixes of a modality's columns: its file, and the seconds from which to which a row is a part of it."""
TASKS = ("", "classification", "regression", "segmentation", "retrieval", "anti-spoofing")


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a prepared set beside its rows.

    Args:
        name: of the data set.
        source: reader and version that prepared it.
        target: the column or columns to predict, or the one modality of kind "labels".
        group: column that says whose a row is; "": rows are independent.
        split: column of the official split; "": there is none.
        task: what the target is to be read as; "": seen from its values.
        classes: names of class codes 0, 1, …; left out: the target's own words.
        available, privileged: the modalities that experiments take unless told otherwise.
        citation, licence, description: for whoever uses it.
    """

    name: str
    source: str = ""
    target: tuple[str, ...] = ("target",)
    group: str = ""
    split: str = ""
    task: str = ""
    classes: tuple[str, ...] = ()
    available: tuple[str, ...] = ()
    privileged: tuple[str, ...] = ()
    citation: str = ""
    licence: str = ""
    description: str = ""

    @property
    def told(self) -> dict[str, str]:
        """What reports say of the set."""
        told = {name: str(getattr(self, name)) for name in ("description", "licence", "citation")}
        return {name: text for name, text in told.items() if text}

    @property
    def default_modalities(self) -> dict[str, Any]:
        """What an experiment compares unless told otherwise."""
        return {name: list(given) for name in ("available", "privileged") if (given := getattr(self, name))}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared folder: its table with every cell as text, its modalities' kinds, its facts."""

    folder: Path
    table: pd.DataFrame
    modalities: dict[str, RecordingType]
    facts: DatasetInfo = field(repr=False)

    @property
    def source(self) -> str:
        """How errors call it."""
        return str(self.folder / TABLE_FILE)


def write_prepared(
    out: str | Path,
    rows: pd.DataFrame | Iterable[Mapping[str, Any]],
    modalities: Mapping[str, RecordingType],
    facts: DatasetInfo,
    *,
    files: Callable[[Path], None] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a prepared folder under a temporary name and rename it, so that none is ever half there.

    Args:
        rows: a line per row: `id`, the target, group and split columns, any further facts, and of each modality
            `<m>_file_name` (relative to `out`, or absolute; empty where the row lacks it), and where a row is a part of
            a file `<m>_start` and perhaps `<m>_end` in seconds.
        files: called with the folder that will become `out`, to write what is not in the source as it is.
        overwrite: replace a prepared folder that is there.

    Raises:
        DataError: no rows, a missing column, an id twice, an `out` that holds something else.
    """
    import pandas as pd

    out = Path(out)
    table = rows if hasattr(rows, "columns") else pd.DataFrame(list(rows))
    assert isinstance(table, pd.DataFrame)
    _check(str(out), table, modalities, facts)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / MODALITIES_FILE).is_file():
            raise DataError(f"{out} exists and is no prepared folder; choose another name")
        if not overwrite:
            raise DataError(f"{out} is prepared already; delete it, or overwrite it (--overwrite, overwrite=True)")
    out.parent.mkdir(parents=True, exist_ok=True)
    made = out.with_name(f".{out.name}.{os.getpid()}.part")
    shutil.rmtree(made, ignore_errors=True)
    try:
        made.mkdir()
        if files is not None:
            files(made)
        kinds = {m: kind.to_config() for m, kind in modalities.items()}
        told = {"format": FORMAT, "rows": len(table), **asdict(facts), "modalities": kinds}
        (made / MODALITIES_FILE).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
        table.to_csv(made / TABLE_FILE, index=False)
        if out.exists():
            aside = out.with_name(f".{out.name}.{os.getpid()}.old")
            out.rename(aside)
            made.rename(out)
            shutil.rmtree(aside)
        else:
            made.rename(out)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return out


def read_prepared(folder: str | Path, target_needed: bool = True) -> Prepared:
    """The table, kinds and facts of a prepared folder; no recording is opened. Raises DataError, ConfigError.

    target_needed: new rows, for prediction, may have fewer columns.
    """
    from sidelight.data.sources.tables import read_frame

    folder = Path(folder)
    path = folder / MODALITIES_FILE
    try:
        told = read_json(path)
        kinds = dict(told.pop("modalities"))
        version, rows = told.pop("format"), told.pop("rows", None)
    except DataError as error:
        raise DataError(f"{folder} is no prepared folder: {error}") from None
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"cannot read {path}: {type(error).__name__}: {error}") from None
    if version != FORMAT:
        raise DataError(f"{path} is of format {version}; this version reads {FORMAT}. Prepare the folder again")
    names = [f.name for f in fields(DatasetInfo)]
    for key in told:
        if key not in names:
            raise ConfigError(f"{path}: {unknown('fact', key, ('format', 'rows', 'modalities', *names))}")
    facts = DatasetInfo(**{key: _fact(path, key, value) for key, value in told.items()})
    modalities = {m: recording_type(config, f"{path}: modality {m!r}") for m, config in kinds.items()}
    table = read_frame(folder / TABLE_FILE)
    if rows not in (None, len(table)):
        raise DataError(
            f"{folder / TABLE_FILE} has {len(table)} rows, but {MODALITIES_FILE} beside it says {rows}: it was cut, or rows "
            f'were added or taken out. Prepare the folder again, or where that was meant, set "rows" in {MODALITIES_FILE}'
        )
    _check(str(folder / TABLE_FILE), table, modalities, facts, target_needed)
    return Prepared(folder, table, modalities, facts)


def _fact(path: Path, key: str, value: Any) -> Any:
    """A fact as `Facts` holds it: a text, or texts; raises DataError for anything else."""
    if not isinstance(getattr(DatasetInfo("", ""), key, None), tuple):
        if isinstance(value, str):
            return value
        raise DataError(f"{path}: {key!r} is {shown(value)}; expected a text")
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str | int | float) for v in values):
        raise DataError(f"{path}: {key!r} is {shown(value)}; expected a list of texts")
    return tuple(str(v) for v in values)


def _check(
    source: str, table: pd.DataFrame, modalities: Mapping[str, RecordingType], facts: DatasetInfo, target_needed: bool = True
) -> None:
    if not len(table):
        raise DataError(f"{source}: there are no rows")
    if not modalities:
        raise ConfigError(f"{source}: there are no modalities")
    columns = [str(c) for c in table.columns]
    needed = ["id", *(c for c in (facts.group, facts.split) if c and target_needed)]
    for m in modalities:
        check_modality(m, source, ConfigError)
        needed += [m + FILE] if target_needed else []
    dense = [t for t in facts.target if isinstance(modalities.get(t), Labels)]
    if dense and len(facts.target) > 1:
        raise ConfigError(f"{source}: target {dense[0]!r} has a class per pixel; it stands alone")
    for m, kind in modalities.items():
        if isinstance(kind, Labels) and m not in facts.target:
            raise ConfigError(f"{source}: modality {m!r} is of kind 'labels' and therefore the target; name it so")
    for c in [*needed, *(t for t in facts.target if t not in dense and target_needed)]:
        if c not in columns:
            raise DataError(f"{source}: {unknown('column', c, columns)}")
    inputs = [m for m in modalities if m not in dense]
    for m in (*facts.available, *facts.privileged):
        if m not in inputs:
            raise ConfigError(f"{source}: {unknown('modality', m, inputs)}")
    if facts.task not in TASKS:
        raise ConfigError(f"{source}: {unknown('task', facts.task, TASKS)}")
    doubled = table["id"][table["id"].duplicated()]
    if len(doubled):
        where = table.index[table["id"] == doubled.iloc[0]].tolist()[:4]
        raise DataError(f"{source}: id {str(doubled.iloc[0])!r} occurs several times (rows {where}); ids are unique")
