"""Reader for arrays by name: those in memory, and those of an .npz."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.array_conversion import objects_to_float, to_numpy
from sidelight.data.conversion import convert_role_column, find_first_value
from sidelight.data.raw import Raw, Roles
from sidelight.data.rows import to_float32
from sidelight.data.sources.stack import stack_rows
from sidelight.errors import DataError, unknown
from sidelight.utils.images import channels_first, compact

RESERVED = ("class_names", "labelled")
"""Keys of arrays that are neither a modality nor a column with a role."""


def read_arrays(
    source: Mapping[str, Any],
    name: str,
    find: Callable[[Sequence[str]], Roles],
    modalities: Sequence[str] | None,
    longest: Mapping[str, int] | None = None,
) -> tuple[Raw, Roles]:
    """Read arrays by name.

    Beside the columns with a role, these keys are special: `class_names` (C,), `labelled` (N,) bool,
    `<modality>_length` and `<modality>_present` (N,). A list of (T_i, C) arrays (None: absent) is a variable-length
    modality. An array with four axes, or a list of (H, W, C) arrays, holds images, one with five axes clips (see
    `channels_first`). Beside a target with a class per pixel, (N, H, W), an array with three axes holds images of one
    channel; elsewhere it holds signals.

    Args:
        source: name -> array.
        name: name of the data in errors.
        find: called with the names; returns those with a role.
        modalities: names; None: every numeric array with a row per row.
        longest: modality -> time steps to keep of longer rows.

    Raises:
        DataError: names the array, and the row where one is at fault.
    """
    keys = list(map(str, source))
    for k in keys:
        if keys.count(k) > 1:
            raise DataError(f"{name}: {k!r} occurs {keys.count(k)} times, as text and as a number; keep one")
    source = dict(zip(keys, source.values()))
    roles = find(keys)
    columns = {c: _read_column(name, c, source[c], c in roles.target) for c in roles.names}
    n = _count_rows(name, source, columns, roles, modalities)
    features = [k for k in keys if k not in roles.names]
    if modalities is None:
        names = [m for m in features if m not in RESERVED and _is_modality(name, source, m, n)]
    else:
        names = list(modalities)

    raw = Raw(name, n, {}, columns=columns, longest=longest or {})
    dense = any(columns[t].ndim == 3 for t in roles.target)
    for m in names:
        if m not in source:
            raise DataError(f"{name}: {unknown('modality', m, features)}")
        _add(raw, m, source, dense)
    if "class_names" in source and len(roles.target) == 1:
        classes = _to_array(name, "class_names", source["class_names"])
        if classes.ndim != 1:
            raise DataError(f"{name}: 'class_names' has shape {classes.shape}; expected one name per class")
        raw.class_names = tuple(map(str, classes.tolist()))
    if "labelled" in source:
        raw.labelled = raw.check_per_row("labelled", _to_array(name, "labelled", source["labelled"]), "b")
    return raw, roles


def _to_array(name: str, key: str, value: Any) -> NDArray:
    return to_numpy(value, f"{name}: {key!r}")


def _read_column(name: str, key: str, value: Any, several: bool) -> NDArray:
    array = convert_role_column(_to_array(name, key, value), f"{name}: {key!r}", several)
    # (N, 1) is a column, and label maps may have an axis for their one channel.
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if several and array.ndim == 4 and 1 in (array.shape[1], array.shape[3]):
        array = array[:, 0] if array.shape[1] == 1 else array[..., 0]
    if array.ndim not in ((1, 2, 3) if several else (1,)) or 0 in array.shape[1:]:
        raise DataError(f"{name}: column {key!r} has shape {array.shape}; expected one value per row")
    return array


def _count_rows(
    name: str,
    source: Mapping[str, Any],
    columns: Mapping[str, NDArray],
    roles: Roles,
    modalities: Sequence[str] | None,
) -> int:
    """The number of rows: that of the columns with a role, or else of the modalities."""
    known = {c: len(x) for c, x in columns.items()}
    if not known:
        for m in modalities or source:
            if m not in source or m in RESERVED:
                continue
            x = source[m]
            if hasattr(x, "__len__") and getattr(x, "ndim", None) != 0:
                known[m] = len(x)
    if not known:
        raise DataError(f"{name} has no arrays")
    first = roles.target[0] if roles.target else next(iter(known))
    for c, n in known.items():
        if n != known[first]:
            raise DataError(f"{name}: {c!r} has {n} rows, but {first!r} has {known[first]}; rows must be paired")
    return known[first]


def _is_modality(name: str, source: Mapping[str, Any], key: str, n: int) -> bool:
    """Whether an array is a modality: numeric, with a row per row, and no length or mask of another modality."""
    # `face_length` belongs to `face` only where `face` exists.
    for end in ("_length", "_present"):
        if key.endswith(end) and key.removesuffix(end) in source:
            return False
    array = _read_rows(name, key, source[key])
    if isinstance(array, list):
        return len(array) == n
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        return False
    if len(array) != n:
        raise DataError(
            f"{name}: {key!r} has {len(array)} rows, but there are {n}; rows must be paired over modalities. "
            "If it is not a modality, name those that are (modalities=…)"
        )
    return True


def to_modality_array(x: NDArray, what: str, dense: bool = False) -> NDArray:
    """The rows of an array as a `Dataset` holds them.

    Args:
        x: (N,), (N, D), (N, T, C), or images or clips with the channels first or last.
        what: name of the array in errors.
        dense: whether the target has a class per pixel, so that (N, H, W) are images.

    Returns:
        (N, D) or (N, T, C) float32, or images or clips with their dtype, channels first.
    """
    if x.ndim == 3 and dense:
        return compact(x[:, None])
    if x.ndim >= 4:
        # Only checks the range: images keep their dtype.
        to_float32(x, what)
        return compact(channels_first(x))
    return to_float32(x[:, None] if x.ndim == 1 else x, what)


def _read_rows(name: str, key: str, value: Any) -> NDArray | list[Any]:
    """One array for all rows, or a list with an array or None for each row."""
    where = f"{name}: modality {key!r}"
    cells = value if isinstance(value, list | tuple) else ()
    # numpy stores arrays of different lengths as objects.
    if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 1:
        cells = list(value)
    if cells:
        first = next((v for v in cells if v is not None), None)
        if isinstance(first, list | tuple) or getattr(first, "ndim", False):
            return [None if v is None else to_numpy(v, f"{where}, row {i}") for i, v in enumerate(cells)]
    array = to_numpy(value, where)
    if array.dtype != object or not array.size or not array.ndim:
        return array
    # Objects that are numbers, such as Decimal or None; text stays as it is and is no modality.
    is_text = isinstance(find_first_value(array.ravel()), str | bytes | None)
    return array if is_text else objects_to_float(array, where)


def _add(raw: Raw, m: str, source: Mapping[str, Any], dense: bool) -> None:
    """Add one modality to `raw`, with its lengths and mask."""
    array = _read_rows(raw.name, m, source[m])
    present, lengths = None, None
    if isinstance(array, list):
        if dense:
            array = [r[:, :, None] if r is not None and r.ndim == 2 else r for r in array]
        row_names = [f"row {i}" for i in range(len(array))]
        x, present, lengths = stack_rows(raw.name, m, array, row_names, raw.longest.get(m, 0))
    else:
        if array.dtype.kind not in "fiub" or array.ndim == 0:
            what = array.dtype if array.ndim else "a single value"
            raise DataError(f"{raw.name}: modality {m!r} holds {what}; expected numbers, one or more per row")
        x = to_modality_array(array, f"{raw.name}: modality {m!r}", dense)
    if len(x) != raw.n:
        raise DataError(f"{raw.name}: modality {m!r} has {len(x)} rows, but there are {raw.n}; rows must be paired")
    if f"{m}_length" in source:
        lengths = raw.check_per_row(f"{m}_length", _to_array(raw.name, f"{m}_length", source[f"{m}_length"]), "iu")
    if f"{m}_present" in source:
        present = raw.check_per_row(f"{m}_present", _to_array(raw.name, f"{m}_present", source[f"{m}_present"]), "b")
    raw.inputs[m] = x
    if present is not None:
        raw.present[m] = present
    if lengths is not None:
        raw.lengths[m] = lengths
