"""Prepared folders: a table that names the files of every row, and the recording type of each modality."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidelight.config import CLASS_TASKS
from sidelight.data.raw import MODALITIES_FILE, TABLE_FILE
from sidelight.data.sources.checked_files import FILE
from sidelight.data.sources.croissant import CROISSANT_FILE, describe_croissant
from sidelight.data.target_checks import TARGET_KINDS
from sidelight.errors import ConfigError, DataError, shown, unknown
from sidelight.recordings.infer import expand_colours
from sidelight.recordings.registry import Labels, RecordingType, Rows, recording_type
from sidelight.utils.dialect import Dialect
from sidelight.utils.files import read_json
from sidelight.utils.names import check_modality

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
DECLARED_TASKS = ("", *TARGET_KINDS, *CLASS_TASKS)
"""What a prepared folder may declare as its task; "": read off the target."""


@dataclass(frozen=True)
class DatasetInfo:
    """Metadata of a prepared data set.

    Args:
        name: name of the data set.
        source: reader and version that prepared it.
        target: the column or columns to predict, or the one modality of kind "labels".
        group: column of the person or session of each row; "": rows are independent.
        split: column of the official split; "": there is none.
        task: task of the target; "": read from its values.
        classes: names of class codes 0, 1, …; (): the target's own words.
        available: default modalities of experiments at deployment.
        privileged: default modalities of experiments in training only.
        citation: how to cite it.
        licence: its terms.
        description: what it is.
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
    def about(self) -> dict[str, str]:
        """Description, licence and citation for reports; empty ones are left out."""
        about = {"description": self.description, "licence": self.licence, "citation": self.citation}
        return {name: text for name, text in about.items() if text}

    @property
    def default_modalities(self) -> dict[str, Any]:
        """The modalities that an experiment compares by default; empty lists are left out."""
        defaults = {}
        if self.available:
            defaults["available"] = list(self.available)
        if self.privileged:
            defaults["privileged"] = list(self.privileged)
        return defaults


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared folder: its table with every cell as text, its recording types and its metadata.

    Files of new recordings are read as one too, which is nowhere on the disk and has a `name` of its own.
    """

    folder: Path
    table: pd.DataFrame
    modalities: dict[str, RecordingType]
    facts: DatasetInfo = field(repr=False)
    name: str = ""

    @property
    def source(self) -> str:
        """Its name in errors."""
        return self.name or str(self.folder / TABLE_FILE)


def write_prepared(
    out: str | Path,
    rows: pd.DataFrame | Iterable[Mapping[str, Any]],
    modalities: Mapping[str, RecordingType],
    facts: DatasetInfo,
    *,
    files: Callable[[Path], None] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a prepared folder under a temporary name and rename it, so that a half-written one is never visible.

    Beside the table and `modalities.json` it has `croissant.json`, the table's description for catalogues and other
    tools (`sidelight.data.sources.croissant`).

    Args:
        out: the folder to make.
        rows: a row per recording: `id`, the target, group and split columns, any further columns, and for each modality
            `<m>_file_name` (relative to `out`, or absolute; empty where the row lacks it). Where a row is a segment of
            a file, also `<m>_start` and optionally `<m>_end` in seconds. A type with `of` reads the columns of that
            modality instead.
        modalities: modality -> recording type.
        facts: metadata.
        files: called with the folder that will become `out`, to write files that the source does not have.
        overwrite: whether to replace a prepared folder.

    Returns:
        `out`.

    Raises:
        DataError: no rows, a missing column, a repeated id, or an `out` that holds something else.
    """
    import pandas as pd

    out = Path(out)
    table = rows if hasattr(rows, "columns") else pd.DataFrame(list(rows))
    assert isinstance(table, pd.DataFrame)
    _check(str(out), table, modalities, facts)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / MODALITIES_FILE).is_file():
            raise DataError(f"{out} exists and is not a prepared folder; choose another name")
        if not overwrite:
            raise DataError(f"{out} is prepared already; delete it, or overwrite it (--overwrite, overwrite=True)")
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside `out`, since a rename is atomic within one file system only.
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        if files is not None:
            files(temporary)
        types = {m: kind.to_config() for m, kind in modalities.items()}
        config = {"format": FORMAT, "rows": len(table), **asdict(facts), "modalities": types}
        text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
        (temporary / MODALITIES_FILE).write_text(text, "utf-8")
        table.to_csv(temporary / TABLE_FILE, index=False)
        told = describe_croissant(temporary, table, modalities, facts, FILE)
        (temporary / CROISSANT_FILE).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
        if out.exists():
            # A folder that is not empty cannot be renamed over.
            aside = out.with_name(f".{out.name}.{os.getpid()}.old")
            out.rename(aside)
            temporary.rename(out)
            shutil.rmtree(aside)
        else:
            temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def read_prepared(folder: str | Path, target_needed: bool = True, dialect: Dialect | None = None) -> Prepared:
    """Read the table, recording types and metadata of a prepared folder; recordings stay closed.

    target_needed: False for new rows to predict, which may lack the target, group and split columns.
    dialect: what is known of how the table is written.

    Raises:
        DataError: a file is damaged, cut or of another format.
        ConfigError: an unknown entry or setting.
    """
    from sidelight.data.sources.tables import read_frame

    folder = Path(folder)
    path = folder / MODALITIES_FILE
    try:
        config = read_json(path)
        types = dict(config.pop("modalities"))
        version, n_rows = config.pop("format"), config.pop("rows", None)
    except DataError as error:
        raise DataError(f"{folder} is not a prepared folder: {error}") from None
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"cannot read {path}: {type(error).__name__}: {error}") from None
    if version != FORMAT:
        raise DataError(f"{path} has format {version}; this version reads {FORMAT}. Prepare the folder again")

    names = [f.name for f in fields(DatasetInfo)]
    values = {}
    for key, value in config.items():
        if key not in names:
            raise ConfigError(f"{path}: {unknown('entry', key, ('format', 'rows', 'modalities', *names))}")
        values[key] = _read_entry(path, key, value)
    info = DatasetInfo(**values)
    modalities = {}
    for m, settings in types.items():
        settings = expand_colours(settings, folder) if isinstance(settings, Mapping) else settings
        modalities[m] = recording_type(settings, f"{path}: modality {m!r}")

    table = read_frame(folder / TABLE_FILE, dialect)
    if target_needed and n_rows not in (None, len(table)):
        raise DataError(
            f"{folder / TABLE_FILE} has {len(table)} rows, but {MODALITIES_FILE} beside it has the number {n_rows}: "
            "the table was cut, or rows were added or removed. Prepare the folder again, or if you changed the rows, "
            f'set "rows" in {MODALITIES_FILE}'
        )
    _check(str(folder / TABLE_FILE), table, modalities, info, target_needed)
    return Prepared(folder, table, modalities, info)


def check_units(source: str, modalities: Mapping[str, RecordingType]) -> None:
    """Raise ConfigError for a unit that is not known; it names the modality, and the unit that was meant."""
    from sidelight.formats.units import translate
    from sidelight.utils.units import parse_unit

    for m, kind in modalities.items():
        unit = getattr(kind, "unit", "1")
        try:
            parse_unit(unit)
        except ConfigError as error:
            meant = translate(unit)
            hint = f" {unit!r} is written {meant!r} here" if meant else ""
            raise ConfigError(f"{source}: modality {m!r}: {error}{hint}") from None


def _read_entry(path: Path, key: str, value: Any) -> Any:
    """A value as `DatasetInfo` holds it, a text or texts; raises DataError for anything else."""
    if not isinstance(getattr(DatasetInfo("", ""), key, None), tuple):
        if isinstance(value, str):
            return value
        raise DataError(f"{path}: {key!r} is {shown(value)}; expected a text")
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str | int | float) for v in values):
        raise DataError(f"{path}: {key!r} is {shown(value)}; expected a list of texts")
    return tuple(str(v) for v in values)


def _check(
    source: str,
    table: pd.DataFrame,
    modalities: Mapping[str, RecordingType],
    facts: DatasetInfo,
    target_needed: bool = True,
) -> None:
    if not len(table):
        raise DataError(f"{source} has no rows")
    if not modalities:
        raise ConfigError(f"{source} has no modalities")
    check_units(source, modalities)
    columns = [str(c) for c in table.columns]
    needed = ["id", *(c for c in (facts.group, facts.split) if c and target_needed)]
    for m, kind in modalities.items():
        check_modality(m, source, ConfigError)
        needed += [(kind.of or m) + FILE] if target_needed and not isinstance(kind, Rows) else []
    dense = [t for t in facts.target if isinstance(modalities.get(t), Labels)]
    if dense and len(facts.target) > 1:
        raise ConfigError(f"{source}: target {dense[0]!r} has a class per pixel and has to be the only target")
    for m, kind in modalities.items():
        if isinstance(kind, Labels) and m not in facts.target:
            raise ConfigError(
                f"{source}: modality {m!r} is of kind 'labels', so it has to be the target; name it as target"
            )
    for c in [*needed, *(t for t in facts.target if t not in dense and target_needed)]:
        if c not in columns:
            raise DataError(f"{source}: {unknown('column', c, columns)}")
    inputs = [m for m in modalities if m not in dense]
    for m in (*facts.available, *facts.privileged):
        if m not in inputs:
            raise ConfigError(f"{source}: {unknown('modality', m, inputs)}")
    if facts.task not in DECLARED_TASKS:
        raise ConfigError(f"{source}: {unknown('task', facts.task, DECLARED_TASKS)}")
    doubled = table["id"][table["id"].duplicated()]
    if len(doubled):
        where = table.index[table["id"] == doubled.iloc[0]].tolist()[:4]
        raise DataError(
            f"{source}: id {str(doubled.iloc[0])!r} occurs several times (rows {where}); ids must be unique"
        )
