"""Match the columns or arrays of new rows with a student's modalities, before the rows are read."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sidelight.data.arguments import Recipe
from sidelight.data.raw import DEFAULT_NAMES, MODALITIES_FILE, TABLE_FILE
from sidelight.data.sources.checked_files import FILE as FILE_COLUMN
from sidelight.data.sources.locate import locate
from sidelight.data.sources.prepared import Prepared
from sidelight.data.sources.table_modalities import ARRAY_FILES
from sidelight.errors import DataError, SidelightError, SidelightWarning
from sidelight.export.checks import privileged_error
from sidelight.export.student import Student
from sidelight.utils.delimited import read_header
from sidelight.utils.dialect import build_dialect
from sidelight.utils.files import check_file, read_json
from sidelight.utils.json_lines import read_json_lines
from sidelight.utils.text_files import table_suffix


def find_columns(student: Student, source: Any, table: Mapping[str, Any] | None = None) -> dict[str, Recipe]:
    """Find a student's modalities in new rows.

    A student that `completes` accepts missing modalities, with a warning, as long as one is there.

    Returns:
        Modality -> the columns to read, in the order of training, or the settings of its files that the student was
        trained with; None if its name says it.

    Raises:
        DataError: the source lacks a modality, or a column of one.
    """
    names, where = names_in(source, table), source if isinstance(source, str | Path) else "the data"
    declared, recipes = _declared(source), student.meta.get("modalities", {})
    found: dict[str, Recipe] = {}
    missing: dict[str, str] = {}
    for m in student.reads:
        columns = student.preprocessor.plans[m].columns
        own = [c for c in names if c.startswith(f"{m}.")]
        if columns and (own or not {*columns}.isdisjoint(names)):
            for c in columns:
                if c not in names:
                    has = _instead(c, [other for other in own or names if other not in columns])
                    raise DataError(f"{where}: {m!r} has no column {c!r}, which the student was trained on.{has}")
            found[m] = columns
        elif m in declared:
            found[m] = None
        elif m in recipes and _has_source(source, names, m, recipes[m]):
            found[m] = recipes[m]
        elif own or not names or m in names or f"{m}{FILE_COLUMN}" in names or _has_array_file(source, m):
            found[m] = None
        else:
            has = _instead(m, modalities(names))
            if student.inputs.get(m, {}).get("axes", [])[1:] == ["time", "channels"]:
                has += (
                    " If these are recordings that have to be cut into rows, cut them as the training rows were: "
                    "`sidelight windows` with the same recordings.yaml, without its labels and the other sensors."
                )
            missing[m] = f"{where}: this student reads {', '.join(student.reads)}, but {m!r} is missing.{has}"
    for text in missing.values():
        if not (student.completes and found):
            raise DataError(text)
        warnings.warn(f"{text} Its features are completed from the others.", SidelightWarning, stacklevel=3)
    return found


def _declared(source: Any) -> list[str]:
    """The modalities of a prepared folder, which says itself how each is stored; [] for any other source."""
    if not isinstance(source, str | Path):
        return []
    folder = Path(source).parent if Path(source).name == TABLE_FILE else Path(source)
    if not (folder / MODALITIES_FILE).is_file():
        return []
    try:
        return list(read_json(folder / MODALITIES_FILE)["modalities"])
    except (SidelightError, KeyError, TypeError, ValueError):  # `load_rows` reports what is wrong
        return []


def _has_source(source: Any, names: Sequence[str], m: str, recipe: Mapping[str, Any]) -> bool:
    """Whether new rows have what the recipe of a modality reads: a column of files, or an array of its channels."""
    of = str(recipe.get("of", m))
    if f"{of}{FILE_COLUMN}" in names or (of != m and of in names):
        return True
    return "kind" not in recipe and (any(c.startswith(f"{of}.") for c in names) or _has_array_file(source, of))


def refuse_privileged(student: Student, source: Any, table: Mapping[str, Any] | None = None) -> None:
    """Raise DataError if the source has a column or array of a privileged modality."""
    names = names_in(source, table)
    for m in student.privileged:
        found = [c for c in names if c in (m, f"{m}{FILE_COLUMN}") or c.startswith(f"{m}.")]
        if found:
            where = source if isinstance(source, str | Path) else "the data"
            raise DataError(
                f"{where}: column {found[0]!r}{f' and {len(found) - 1} more' if found[1:] else ''}: "
                f"{privileged_error(m, student.reads)}. Remove it, or leave it unread: "
                "--ignore-privileged, or ignore_privileged=True"
            )


def names_in(source: Any, table: Mapping[str, Any] | None = None) -> list[str]:
    """Names of columns or arrays, without reading rows; [] for an unreadable file, which `load_rows` reports.

    table: how a text manifest is written, as for `load`.
    """
    if isinstance(source, Prepared):
        return [str(c) for c in source.table.columns]
    if hasattr(source, "columns"):
        return [str(c) for c in source.columns]
    if isinstance(source, Mapping):
        return [str(c) for c in source]
    try:
        path = check_file(locate(source))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return list(file.files)
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return list(pyarrow.parquet.read_schema(path).names)
        if table_suffix(path) == ".jsonl":
            return list(read_json_lines(path).columns)
        return [name for name in read_header(path, build_dialect(table or {})) if name]
    except Exception:  # numpy, pyarrow and zipfile each raise their own
        return []


def modalities(names: Iterable[str]) -> list[str]:
    """The modalities that columns or arrays belong to."""
    roles = {role for usual in DEFAULT_NAMES.values() for role in usual}
    return list(dict.fromkeys(c.removesuffix(FILE_COLUMN).split(".", 1)[0] for c in names if c not in roles))


def _has_array_file(source: Any, m: str) -> bool:
    """Whether an array file of the modality lies beside the table."""
    folder = locate(source).parent if isinstance(source, str | Path) else None
    return folder is not None and any((folder / f"{m}{end}").is_file() for end in ARRAY_FILES)


def _instead(name: str, there: Sequence[str]) -> str:
    """A hint for a missing name: the nearest name, else all names."""
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    if near:
        return f" There is {near[0]!r}: if it is the same, rename it to {name!r}."
    return f" There is: {', '.join(there[:30]) or 'nothing else'}."
