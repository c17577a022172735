"""Reader for arrays in memory and .npz files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.files import load_npz, stack_rows
from sidelight.data.raw import Raw, Roles
from sidelight.errors import DataError, unknown

RESERVED = ("class_names", "labelled")


def read_npz(path: Path) -> dict[str, NDArray]:
    """The file's arrays; nothing in it is executed. Raises DataError for an unreadable file."""
    return load_npz(path)


def read_arrays(
    source: Mapping[str, Any], name: str, find: Callable[[Sequence[str]], Roles], modalities: Sequence[str] | None
) -> tuple[Raw, Roles]:
    """Arrays by name. Beside the role columns: `class_names` (C,), `labelled` (N,) bool, `<modality>_length` and
    `<modality>_present` (N,). A list of (T_i, C) arrays (None: absent) is a variable-length modality.
    """
    roles = find([str(k) for k in source])
    columns = {c: _column(name, c, source[c]) for c in roles.names}
    n = _row_count(name, source, columns, roles, modalities)
    if modalities is None:
        names = [m for m in source if m not in roles.names and m not in RESERVED and _is_modality(name, source, m, n)]
    else:
        names = list(modalities)
    raw = Raw(name, n, {}, columns=columns)
    for m in names:
        if m not in source:
            raise DataError(f"{name}: {unknown('modality', m, [k for k in source if k not in roles.names])}")
        _add(raw, m, source)
    if "class_names" in source and len(roles.target) == 1:
        raw.class_names = tuple(str(c) for c in np.asarray(source["class_names"]).tolist())
    if "labelled" in source:
        raw.labelled = np.asarray(source["labelled"], bool)
    return raw, roles


def _column(name: str, key: str, value: Any) -> NDArray:
    array = np.asarray(value)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2):
        raise DataError(f"{name}: column {key!r} has shape {array.shape}; expected one value per row")
    return array


def _row_count(
    name: str,
    source: Mapping[str, Any],
    columns: Mapping[str, NDArray],
    roles: Roles,
    modalities: Sequence[str] | None,
) -> int:
    known = {c: len(x) for c, x in columns.items()}
    if not known:
        known = {m: len(source[m]) for m in (modalities or [k for k in source if k not in RESERVED]) if m in source}
    if not known:
        raise DataError(f"{name}: there are no arrays")
    first = roles.target[0] if roles.target else next(iter(known))
    for c, n in known.items():
        if n != known[first]:
            raise DataError(f"{name}: {c!r} has {n} rows, but {first!r} has {known[first]}; rows must be paired")
    return known[first]


def _is_modality(name: str, source: Mapping[str, Any], key: str, n: int) -> bool:
    """Numeric arrays with a row per row are; texts and what belongs to another modality are not."""
    for end in ("_length", "_present"):
        if key.endswith(end) and key.removesuffix(end) in source:
            return False
    value = source[key]
    if isinstance(value, list | tuple):
        return len(value) == n
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        return False
    if len(array) != n:
        raise DataError(
            f"{name}: {key!r} has {len(array)} rows, but there are {n}; rows must be paired over modalities. "
            "If it is no modality, name those that are (modalities=…)"
        )
    return True


def _add(raw: Raw, m: str, source: Mapping[str, Any]) -> None:
    value = source[m]
    if isinstance(value, list | tuple) and not np.isscalar(value[0] if value else 0):
        rows = [None if v is None else np.asarray(v) for v in value]
        x, present, lengths = stack_rows(raw.name, m, rows, [f"row {i}" for i in range(len(rows))])
    else:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise DataError(f"{raw.name}: modality {m!r} holds {array.dtype}; expected numbers")
        x = array.astype(np.float32)
        x = x[:, None] if x.ndim == 1 else x
        present, lengths = None, None
    if len(x) != raw.n:
        raise DataError(f"{raw.name}: modality {m!r} has {len(x)} rows, but there are {raw.n}; rows must be paired")
    if f"{m}_length" in source:
        lengths = np.asarray(source[f"{m}_length"])
    if f"{m}_present" in source:
        present = np.asarray(source[f"{m}_present"], bool)
    raw.inputs[m] = x
    if present is not None:
        raw.present[m] = present
    if lengths is not None:
        raw.lengths[m] = lengths
