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
from sidelight.data.sources.channels import pick_channels, plan_sources
from sidelight.data.sources.locate import locate
from sidelight.errors import DataError, shown
from sidelight.utils.array_files import load_npz
from sidelight.utils.dialect import build_dialect
from sidelight.utils.files import exists, path_fault, read_json

if TYPE_CHECKING:
    from sidelight.data.sources.checked_files import OnError
    from sidelight.data.sources.prepared import Prepared


def read_source(
    source: Any,
    label: str,
    find: Callable[[Sequence[str]], Roles],
    modalities: Modalities | None,
    longest: Mapping[str, int] | None,
    table: Mapping[str, Any] | None = None,
    on_error: OnError = "raise",
    ignore_index: int = 255,
) -> tuple[Raw, Roles]:
    """Read any source but built-in data and prepared folders with the reader that fits.

    Args:
        source: arrays, a DataFrame, a path or `Windows`.
        label: name of the data in errors, where the source is no file.
        find: called with the columns; returns those with a role.
        modalities: names, or name -> recipe; None: all.
        longest: modality -> time steps to keep of longer rows.
        table: how a text table is written, as for `load`.
        on_error: what an unreadable recording of a table does: "raise" an error, or "skip" its row.
        ignore_index: of label maps of a table, as `read_table` describes it.

    Raises:
        DataError: the source is of no known kind, or faulty.
    """
    if _has_windows(source):
        from sidelight.data.sources.sessions import build_session_schema, concat_sessions, name_sessions

        sessions = name_sessions(source)
        return _read_arrays(concat_sessions(sessions), label, find, modalities, longest, build_session_schema(sessions))
    if isinstance(source, Mapping):
        return _read_arrays(source, label, find, modalities, longest)
    if isinstance(source, str | Path):
        path = locate(source)
        if path.suffix == ".npz":
            return _read_arrays(load_npz(path), str(path), find, modalities, longest)
        from sidelight.data.sources.tables import read_frame, read_table

        frame = read_frame(path, build_dialect(table or {}))
        return read_table(frame, str(path), path.parent, find, modalities, longest, on_error, ignore_index)
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        from sidelight.data.sources.tables import read_table

        return read_table(source, label, None, find, modalities, longest, on_error, ignore_index)
    raise DataError(
        f"cannot load a {type(source).__name__}; expected a built-in name, a path, a dict of arrays, a DataFrame, or "
        "Windows of one or several sessions"
    )


def _read_arrays(
    source: Mapping[str, Any],
    label: str,
    find: Callable[[Sequence[str]], Roles],
    modalities: Modalities | None,
    longest: Mapping[str, int] | None,
    schema: dict[str, dict[str, Any]] | None = None,
) -> tuple[Raw, Roles]:
    """Read arrays by name, and channels of them."""
    asked, picked = plan_sources(modalities)
    raw, roles = read_arrays(source, label, find, None if asked is None else list(asked), longest)
    raw.schema = select_keys(schema or {}, raw.inputs)
    pick_channels(raw, picked, modalities)
    return raw, roles


def _has_windows(source: Any) -> bool:
    """Whether a source is or holds `Windows`; asks without importing signals, which need torch."""
    if isinstance(source, Mapping):
        candidates = list(source.values())
    else:
        candidates = list(source) if isinstance(source, list | tuple) else [source]
    return any(hasattr(w, "starts") and hasattr(w, "labelled") for w in candidates)


def open_prepared(source: Any, target_needed: bool = True, table: Mapping[str, Any] | None = None) -> Prepared | None:
    """The prepared folder that a source names, itself or by its table; None for any other source."""
    folder = _find_prepared(source)
    if folder is None:
        return None
    from sidelight.data.sources.prepared import read_prepared

    return read_prepared(folder, target_needed, build_dialect(table or {}))


def list_defaults(source: Any) -> list[str]:
    """The modalities that a prepared folder compares by default; [] for any other source. Its table stays closed."""
    folder = _find_prepared(source)
    if folder is None:
        return []
    config = read_json(folder / MODALITIES_FILE)
    lists = [config.get(role) for role in ("available", "privileged")] if isinstance(config, Mapping) else []
    return [str(m) for names in lists if isinstance(names, list) for m in names]


def _find_prepared(source: Any) -> Path | None:
    if not isinstance(source, str | Path):
        return None
    if wrong := path_fault(str(source)):
        raise DataError(f"{shown(str(source))} {wrong}")
    folder = Path(source).parent if Path(source).name == TABLE_FILE else Path(source)
    return folder if exists(folder / MODALITIES_FILE) else None


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
