"""Chooses the reader of a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sidelight.data.arguments import Modalities
from sidelight.data.by_modality import select_keys
from sidelight.data.raw import MODALITIES_FILE, TABLE_FILE, Raw, Roles
from sidelight.data.rows import is_lazy, iterate_slices
from sidelight.data.sources.arrays import read_arrays
from sidelight.data.sources.locate import locate
from sidelight.errors import DataError, shown
from sidelight.utils.array_files import load_npz
from sidelight.utils.dialect import build_dialect
from sidelight.utils.files import exists, path_fault

if TYPE_CHECKING:
    from sidelight.data.sources.prepared import Prepared


def read_source(
    source: Any,
    label: str,
    find: Callable[[Sequence[str]], Roles],
    modalities: Modalities | None,
    longest: Mapping[str, int] | None,
    table: Mapping[str, Any] | None = None,
) -> tuple[Raw, Roles]:
    """Read any source but built-in data and prepared folders with the reader that fits.

    Args:
        source: arrays, a DataFrame, a path or `Windows`.
        label: name of the data in errors, where the source is no file.
        find: called with the columns; returns those with a role.
        modalities: names, or name -> column prefix or list of columns; None: all.
        longest: modality -> time steps to keep of longer rows.
        table: how a text table is written, as for `load`.

    Raises:
        DataError: the source is of no known kind, or faulty.
    """
    names = None if modalities is None else list(modalities)
    if _has_windows(source):
        from sidelight.data.sources.sessions import build_session_schema, concat_sessions, name_sessions

        sessions = name_sessions(source)
        raw, roles = read_arrays(concat_sessions(sessions), label, find, names, longest)
        raw.schema = select_keys(build_session_schema(sessions), raw.inputs)
        return raw, roles
    if isinstance(source, Mapping):
        return read_arrays(source, label, find, names, longest)
    if isinstance(source, str | Path):
        path = locate(source)
        if path.suffix == ".npz":
            return read_arrays(load_npz(path), str(path), find, names, longest)
        from sidelight.data.sources.tables import read_frame, read_table

        return read_table(
            read_frame(path, build_dialect(table or {})), str(path), path.parent, find, modalities, longest
        )
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        from sidelight.data.sources.tables import read_table

        return read_table(source, label, None, find, modalities, longest)
    raise DataError(
        f"cannot load a {type(source).__name__}; expected a built-in name, a path, a dict of arrays, a DataFrame, or "
        "Windows of one or several sessions"
    )


def _has_windows(source: Any) -> bool:
    """Whether a source is or holds `Windows`; asks without importing signals, which need torch."""
    if isinstance(source, Mapping):
        candidates = list(source.values())
    else:
        candidates = list(source) if isinstance(source, list | tuple) else [source]
    return any(hasattr(w, "starts") and hasattr(w, "labelled") for w in candidates)


def open_prepared(source: Any, target_needed: bool = True, table: Mapping[str, Any] | None = None) -> Prepared | None:
    """The prepared folder that a source names, itself or by its table; None for any other source."""
    if not isinstance(source, str | Path):
        return None
    if wrong := path_fault(str(source)):
        raise DataError(f"{shown(str(source))} {wrong}")
    folder = Path(source).parent if Path(source).name == TABLE_FILE else Path(source)
    if not exists(folder / MODALITIES_FILE):
        return None
    from sidelight.data.sources.prepared import read_prepared

    return read_prepared(folder, target_needed, build_dialect(table or {}))


def find_present(raw: Raw) -> dict[str, Any]:
    """The reader's `present`, without the rows whose features are all NaN."""
    present = dict(raw.present)
    for m, x in raw.inputs.items():
        if is_lazy(x) or x.dtype.kind != "f":
            continue
        blank = np.concatenate([np.isnan(x[rows]).reshape(len(x[rows]), -1).all(1) for rows in iterate_slices(x)])
        if blank.any():
            present[m] = present.get(m, np.ones(raw.n, bool)) & ~blank
    return present
