"""Reader for arrays by name: those in memory, and those of an .npz."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.conversion import to_numpy, find_first_value, objects_to_float, convert_role_column
from sidelight.data.raw import Raw, Roles
from sidelight.data.rows import to_float32
from sidelight.data.sources.stack import stack_rows
from sidelight.errors import DataError, unknown
from sidelight.utils.images import channels_first, compact

RESERVED = ("class_names", "labelled")


def read_arrays(
    source: Mapping[str, Any],
    name: str,
    find: Callable[[Sequence[str]], Roles],
    modalities: Sequence[str] | None,
    longest: Mapping[str, int] | None = None,
) -> tuple[Raw, Roles]:
    """Arrays by name. Beside the role columns: `class_names` (C,), `labelled` (N,) bool, `<modality>_length` and
    `<modality>_present` (N,). A list of (T_i, C) arrays (None: absent) is a variable-length modality.

    An array with four axes, or a list of (H, W, C) arrays, holds images, one with five axes clips (see
    `channels_first`). Where the target has a class per pixel, (N, H, W), an array with three axes holds images of one
    channel; elsewhere it holds signals.
    """
    keys = [str(k) for k in source]
    for k in keys:
        if keys.count(k) > 1:
            raise DataError(f"{name}: {k!r} occurs {keys.count(k)} times, as text and as a number; keep one")
    source = {str(k): v for k, v in source.items()}
    roles = find(list(source))
    columns = {c: _column(name, c, source[c], c in roles.target) for c in roles.names}
    n = _row_count(name, source, columns, roles, modalities)
    if modalities is None:
        names = [m for m in source if m not in roles.names and m not in RESERVED and _is_modality(name, source, m, n)]
    else:
        names = list(modalities)
    raw = Raw(name, n, {}, columns=columns, longest=longest or {})
    for m in names:
        if m not in source:
            raise DataError(f"{name}: {unknown('modality', m, [k for k in source if k not in roles.names])}")
        _add(raw, m, source, dense=any(columns[t].ndim == 3 for t in roles.target))
    if "class_names" in source and len(roles.target) == 1:
        classes = _array(name, "class_names", source["class_names"])
        if classes.ndim != 1:
            raise DataError(f"{name}: 'class_names' has shape {classes.shape}; expected one name per class")
        raw.class_names = tuple(str(c) for c in classes.tolist())
    if "labelled" in source:
        raw.labelled = raw.check_per_row("labelled", _array(raw.name, "labelled", source["labelled"]), "b")
    return raw, roles


def _array(name: str, key: str, value: Any) -> NDArray:
    return to_numpy(value, f"{name}: {key!r}")


def _column(name: str, key: str, value: Any, several: bool) -> NDArray:
    array = convert_role_column(_array(name, key, value), f"{name}: {key!r}", several)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if several and array.ndim == 4 and 1 in (array.shape[1], array.shape[3]):
        array = array[:, 0] if array.shape[1] == 1 else array[..., 0]
    if array.ndim not in ((1, 2, 3) if several else (1,)) or 0 in array.shape[1:]:
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
        named = [m for m in modalities or source if m in source and m not in RESERVED]
        known = {
            m: len(source[m]) for m in named if hasattr(source[m], "__len__") and getattr(source[m], "ndim", None) != 0
        }
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
    array = _rows_of(name, key, source[key])
    if isinstance(array, list):
        return len(array) == n
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        return False
    if len(array) != n:
        raise DataError(
            f"{name}: {key!r} has {len(array)} rows, but there are {n}; rows must be paired over modalities. "
            "If it is no modality, name those that are (modalities=…)"
        )
    return True


def to_modality_array(x: NDArray, what: str, dense: bool = False) -> NDArray:
    """(N, D) or (N, T, C) float32, or images or clips as they are stored, channels first, of an array by rows.

    what: how errors call it.
    """
    if x.ndim == 3 and dense:
        return compact(x[:, None])
    if x.ndim >= 4:
        to_float32(x, what)
        return compact(channels_first(x))
    return to_float32(x[:, None] if x.ndim == 1 else x, what)


def _rows_of(name: str, key: str, value: Any) -> NDArray | list[Any]:
    """An array over all rows, or an array (or None) for each row where they are given so."""
    where = f"{name}: modality {key!r}"
    cells = value if isinstance(value, list | tuple) else ()
    if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 1:
        cells = list(value)
    if cells:
        first = next((v for v in cells if v is not None), None)
        if isinstance(first, list | tuple) or getattr(first, "ndim", False):
            return [None if v is None else to_numpy(v, f"{where}, row {i}") for i, v in enumerate(cells)]
    array = to_numpy(value, where)
    if (
        array.dtype == object
        and array.size
        and array.ndim
        and not isinstance(find_first_value(array.ravel()), str | bytes | None)
    ):
        return objects_to_float(array, where)
    return array


def _add(raw: Raw, m: str, source: Mapping[str, Any], dense: bool) -> None:
    array = _rows_of(raw.name, m, source[m])
    if isinstance(array, list):
        rows = [r[:, :, None] if dense and r is not None and r.ndim == 2 else r for r in array]
        x, present, lengths = stack_rows(
            raw.name, m, rows, [f"row {i}" for i in range(len(rows))], raw.longest.get(m, 0)
        )
    else:
        if array.dtype.kind not in "fiub" or array.ndim == 0:
            what = array.dtype if array.ndim else "a single value"
            raise DataError(f"{raw.name}: modality {m!r} holds {what}; expected numbers, one or more per row")
        x = to_modality_array(array, f"{raw.name}: modality {m!r}", dense)
        present, lengths = None, None
    if len(x) != raw.n:
        raise DataError(f"{raw.name}: modality {m!r} has {len(x)} rows, but there are {raw.n}; rows must be paired")
    if f"{m}_length" in source:
        lengths = raw.check_per_row(f"{m}_length", _array(raw.name, f"{m}_length", source[f"{m}_length"]), "iu")
    if f"{m}_present" in source:
        present = raw.check_per_row(f"{m}_present", _array(raw.name, f"{m}_present", source[f"{m}_present"]), "b")
    raw.inputs[m] = x
    if present is not None:
        raw.present[m] = present
    if lengths is not None:
        raw.lengths[m] = lengths
