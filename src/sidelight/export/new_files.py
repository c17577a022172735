"""Files of new recordings as rows: single files, a folder of them, or a table that names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sidelight.data.raw import DEFAULT_NAMES, MODALITIES_FILE
from sidelight.data.sources.checked_files import FILE
from sidelight.data.sources.locate import MANIFESTS
from sidelight.data.sources.prepared import DatasetInfo, Prepared
from sidelight.data.sources.tables import read_frame
from sidelight.errors import DataError, listed
from sidelight.export.source import names_in
from sidelight.export.student import Student
from sidelight.recordings.base import RecordingType
from sidelight.recordings.by_id import KNOWN, find_folders, list_files, name_files, names_repeat, suffixes_of
from sidelight.recordings.registry import recording_type
from sidelight.utils.files import check_file
from sidelight.utils.images import IMAGE_FILES

TABLES = (".csv", ".tsv", ".txt", ".parquet")
NAMED = ("file", "file_name", "filename", "path")
"""Columns in which a table of files for one modality may name them."""

Suffixes = tuple[str, ...]
Files = Mapping[str, Mapping[str, Path]]
"""Modality -> id -> file."""


def open_new_files(student: Student, source: Any) -> Prepared | pd.DataFrame | None:
    """New recordings as rows, read with the settings that the student keeps; None for any other source.

    Images of a student whose training rows were a plain table are a table that names them, which is read like that one.

    Args:
        student: the student.
        source: a file or several, a folder without a manifest, or a table with the column `<modality>_file_name` (for
            a student of one modality also `file` or `path`). In a folder, files lie beside one another, or in a folder
            for each modality. Files of several modalities with one name are one row.

    Raises:
        DataError: no file fits, a file fits no modality, or the student does not know how files are read.
    """
    kinds = {m: recording_type(config, f"the student's {m!r}") for m, config in student.meta.get("files", {}).items()}
    if isinstance(source, str | Path):
        return _open_path(student, Path(source), kinds)
    if not isinstance(source, list | tuple) or not all(isinstance(path, str | Path) for path in source):
        return None
    paths = [Path(path) for path in source]
    suffixes = _find_suffixes(student, kinds, listed([str(p) for p in paths[:3]]))
    return _build(student, _match_files(paths, suffixes), kinds, "the files given")


def _open_path(student: Student, path: Path, kinds: Mapping[str, RecordingType]) -> Prepared | pd.DataFrame | None:
    """A folder of recordings, a table that names them, or a single one; None for any other source."""
    if path.is_dir():
        if (path / MODALITIES_FILE).exists():
            return None
        if any((path / name).exists() for name in MANIFESTS):
            return _open_table(path, kinds)
        if not kinds and not list_files(path):
            return None
        return _build(student, _match_folder(path, _find_suffixes(student, kinds, path)), kinds, str(path))
    if not path.is_file() or path.suffix.lower() == ".npz" or path.suffix.lower() not in (*KNOWN, *TABLES):
        return None
    if path.suffix.lower() in TABLES and not _is_recording(path, kinds):
        return _open_table(path, kinds)
    return _build(student, _match_files([path], _find_suffixes(student, kinds, path)), kinds, "the files given")


def _find_suffixes(student: Student, kinds: Mapping[str, RecordingType], source: object) -> dict[str, Suffixes]:
    """Modality -> the suffixes of its files.

    Raises:
        DataError: nothing says how files of a modality are read.
    """
    recipes, found = student.meta.get("modalities", {}), {}
    for m in student.reads:
        if m in kinds:
            found[m] = suffixes_of(kinds[m].kind)
        elif "kind" in recipes.get(m, {}):
            found[m] = suffixes_of(recipes[m]["kind"])
        elif len(student.preprocessor.plans[m].shape) == 3:
            found[m] = IMAGE_FILES
        else:
            raise DataError(
                f"{source}: the student was not trained on a file for each row of {m!r}, so it does not keep how such "
                "files are read; give rows as they were in training (a table, a prepared folder or .npz)"
            )
    return found


def _is_recording(path: Path, kinds: Mapping[str, RecordingType]) -> bool:
    """Whether a table is the recording of a row: a modality is stored in tables, and this one has its columns."""
    fits = [kind for kind in kinds.values() if path.suffix.lower() in suffixes_of(kind.kind)]
    if not fits:
        return False
    columns = getattr(fits[0], "columns", None)
    if columns is None:
        return True
    from sidelight.utils.delimited import read_header

    try:
        names = read_header(path, fits[0].separator)  # type: ignore[attr-defined]
    except DataError:
        return False
    return set(columns) <= set(names)


def _match_folder(folder: Path, suffixes: Mapping[str, Suffixes]) -> Files:
    """The files of each modality, in a folder of its own or, for a single modality, anywhere in the folder."""
    folders = find_folders(folder)
    listed_of: dict[str, list[Path]] = {}
    for m in suffixes:
        inside = list_files(folder / m, suffixes[m]) if m in folders else []
        if not inside and len(suffixes) == 1:
            inside = list_files(folder, suffixes[m])
        listed_of[m] = inside
    by_path = any(map(names_repeat, listed_of.values()))
    files = {m: name_files(inside, folder / m if m in folders else folder, by_path) for m, inside in listed_of.items()}
    if not any(files.values()):
        wanted = "; ".join(f"{m}: {', '.join(ends)}" for m, ends in suffixes.items())
        there = ", ".join(sorted({p.suffix or p.name for p in folder.iterdir()})[:8]) or "nothing"
        raise DataError(
            f"{folder}: there are no files that this student reads ({wanted}"
            + ("" if len(suffixes) == 1 else "; a folder for each modality")
            + f"), and no {MANIFESTS[0]}; there is {there}"
        )
    return files


def _match_files(paths: Sequence[Path], suffixes: Mapping[str, Suffixes]) -> Files:
    """The files of each modality, told by their suffixes or else by the names of their folders."""
    of: dict[str, list[Path]] = {m: [] for m in suffixes}
    for path in paths:
        check_file(path)
        fits = [m for m in suffixes if path.suffix.lower() in suffixes[m]]
        if len(fits) > 1:
            fits = [m for m in fits if m == path.parent.name]
        if len(fits) != 1:
            wanted = "; ".join(f"{m}: {', '.join(ends)}" for m, ends in suffixes.items())
            raise DataError(f"{path} is no recording that this student reads ({wanted})")
        of[fits[0]].append(path)
    if len([m for m in of if of[m]]) > 1 and any(map(names_repeat, of.values())):
        raise DataError(
            "the files given have several with one name, so those of one row cannot be told from the others: give a "
            f"folder with a folder for each modality ({', '.join(suffixes)}), or a table that names the files"
        )
    return {m: name_files(found) for m, found in of.items()}


def _open_table(path: Path, kinds: Mapping[str, RecordingType]) -> Prepared | None:
    """A table that names files; None where it does not, or the student does not know how they are read."""
    if path.is_dir():
        path = next(path / name for name in MANIFESTS if (path / name).exists())
    names = names_in(path)
    columns = {m: m + FILE for m in kinds if m + FILE in names}
    if not columns and len(kinds) == 1:
        plain = next((c for c in NAMED if c in names), None)
        columns = {next(iter(kinds)): plain} if plain else {}
    if not columns:
        return None
    table = read_frame(path)
    table = table.rename(columns={c: m + FILE for m, c in columns.items()})
    for m in columns:
        table[m + FILE] = table[m + FILE].where(table[m + FILE].notna(), "").astype(str)
    if not any(name in table.columns for name in DEFAULT_NAMES["ids"]):
        table["id"] = [_first_name(row) for row in table[[m + FILE for m in columns]].to_numpy().tolist()]
        if table["id"].duplicated().any():
            table["id"] = [str(i) for i in range(len(table))]
    elif "id" not in table.columns:
        table = table.rename(columns={"ids": "id"})
    present = {m: kinds[m] for m in columns}
    return Prepared(path.parent, table, present, DatasetInfo(path.stem), str(path))


def _first_name(files: Sequence[str]) -> str:
    return next((Path(name).stem for name in files if name), "")


def _build(student: Student, files: Files, kinds: Mapping[str, RecordingType], name: str) -> Prepared | pd.DataFrame:
    """A row for each id, in their order; a modality without any file is not there at all."""
    files = {m: found for m, found in files.items() if found}
    ids = sorted({i for found in files.values() for i in found})
    recipes = student.meta.get("modalities", {})
    column = {m: m if m in kinds else str(recipes.get(m, {}).get("of", m)) for m in files}
    columns = {column[m] + FILE: [str(found.get(i, "")) for i in ids] for m, found in files.items()}
    table = pd.DataFrame({"id": ids, **columns})
    if not kinds.keys() >= files.keys():
        return table
    return Prepared(Path(), table, {m: kinds[m] for m in files}, DatasetInfo(name), name)
