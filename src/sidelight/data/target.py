"""Target columns as class codes, values, or class codes of pixels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.conversion import is_decimal_comma
from sidelight.data.ambiguous_targets import check_class_names, check_mixed_words, parse_numbers, check_not_one_hot, unlabel_minus_one
from sidelight.data.raw import Raw, Roles, is_empty, to_text
from sidelight.data.rows import to_float32, is_lazy, name_row
from sidelight.data.similar_names import warn_similar_names
from sidelight.data.target_checks import TASKS
from sidelight.errors import ConfigError, DataError, SidelightWarning, unknown
from sidelight.utils.images import LARGEST


@dataclass(frozen=True)
class Target:
    """`values` (N,) int64 codes, (N, K) float32, (N, H, W) codes or `LabelMaps`; `labelled` (N,) bool; `labels`."""

    values: Any
    labelled: NDArray
    task: str
    class_names: tuple[str, ...]


def encode_target(raw: Raw, roles: Roles, ids: NDArray, task: str | None, ignore_index: int = 255) -> Target:
    """The target columns as class codes or values.

    Without `task`: (N, H, W) is segmentation; one column of strings, whole numbers or booleans is classification,
    numbers with a fraction and several columns are regression. ignore_index: the value of pixels that have no class,
    beside −1. Raises DataError naming row and value.
    """
    if task in ("", "auto"):
        task = None
    if task not in (None, *TASKS):
        raise ConfigError(unknown("task", task, ("auto", *TASKS)))
    dense = [t for t in roles.target if raw.columns[t].ndim == 3]
    if dense and (task not in (None, "segmentation") or len(roles.target) > 1):
        raise DataError(f"{raw.name}: target {dense[0]!r} has a class per pixel: a segmentation, with this one target")
    if task == "segmentation" and not dense:
        raise DataError(f"{raw.name}: segmentation needs a target with a class per pixel, (N, H, W) or label files")
    if dense:
        target = _pixels(raw, dense[0], ids, ignore_index)
        return target if raw.labelled is None else replace(target, labelled=target.labelled & raw.labelled)
    check_class_names(raw)
    columns: dict[str, NDArray] = {}
    for t in roles.target:
        column = raw.columns[t]
        names = [t] if column.ndim == 1 else [f"{t}.{k}" for k in range(column.shape[1])]
        columns |= dict(zip(names, column.reshape(raw.n, -1).T))
    if task is None:
        task = _guess_task(raw, columns, ids)
    target = _values(raw, columns, ids) if task == "regression" else _classes(raw, columns, ids)
    if raw.labelled is None:
        return target
    return replace(target, labelled=target.labelled & raw.labelled)  # Dataset blanks the others' target


def _guess_task(raw: Raw, columns: Mapping[str, NDArray], ids: NDArray) -> str:
    if raw.class_names:
        return "classification"
    if len(columns) > 1:
        check_not_one_hot(raw, columns)
        return "regression"
    ((name, values),) = columns.items()
    kept = values[~is_empty(values)]
    numbers = parse_numbers(values)
    if numbers is None:
        check_mixed_words(raw, name, values, ids)
    if numbers is None or all(isinstance(v, bool | np.bool_) for v in kept.tolist()):
        return "classification"
    known = numbers[~np.isnan(numbers)]
    whole = bool(np.all(known == np.round(known)))
    fraction = values.dtype.kind == "f" or any(
        "." in str(v) or "e" in str(v).lower() for v in kept.tolist() if not isinstance(v, bool | np.bool_)
    )
    if whole and not fraction:
        return _integers(raw, known)
    if whole and len(known) < len(values) and len(np.unique(known)) <= 20:
        warnings.warn(
            f"{raw.name}: the target holds whole numbers and gaps; it is read as {len(np.unique(known))} classes. "
            "If it is a quantity, say task='regression'.",
            SidelightWarning,
            stacklevel=2,
        )
        return "classification"
    return "regression"


def _integers(raw: Raw, values: NDArray) -> str:
    n = len(np.unique(values))
    if n > 30:
        warnings.warn(
            f"{raw.name}: the target's whole numbers are read as {n} classes. "
            "If it is a quantity, say task='regression'.",
            SidelightWarning,
            stacklevel=2,
        )
    return "classification"


def _values(raw: Raw, columns: Mapping[str, NDArray], ids: NDArray) -> Target:
    out = []
    for name, values in columns.items():
        numbers = parse_numbers(values)
        if numbers is None:
            i = next(i for i, v in enumerate(values) if parse_numbers(values[i : i + 1]) is None)
            raise DataError(
                f"{raw.name}: {name_row(i, ids)}: target {name!r} is {values[i]!r}; regression needs a number "
                + ("with a decimal point" if is_decimal_comma(values[i]) else "(or an empty cell: unlabelled)")
            )
        out.append(numbers)
    array = to_float32(
        np.stack(out, 1), f"{raw.name}: target {', '.join(columns)!r}", [name_row(i, ids) for i in range(raw.n)]
    )
    return Target(array, np.asarray(~np.isnan(array).all(1)), "regression", tuple(columns))


def _classes(raw: Raw, columns: Mapping[str, NDArray], ids: NDArray) -> Target:
    if len(columns) != 1:
        raise DataError(f"{raw.name}: classification needs one target column, but got {len(columns)}: {list(columns)}")
    ((name, values),) = columns.items()
    numbers = parse_numbers(values)
    if raw.class_names:
        return _named_codes(raw, name, numbers, values, ids)
    labelled = ~is_empty(values) if raw.labelled is None else ~is_empty(values) & raw.labelled
    words = to_text(values)
    if numbers is not None:
        for i in np.flatnonzero(np.isinf(numbers)):
            raise DataError(f"{raw.name}: {name_row(int(i), ids)}: target {name!r} is {values[i]}; expected a class")
        if all(float(v).is_integer() for v in numbers[labelled]):  # "1.0" is class "1"; "01" stays "01"
            words = np.array([w.split(".")[0] if "." in w else w for w in words])
            labelled = unlabel_minus_one(raw, name, numbers, labelled)
        order = {words[i]: numbers[i] for i in np.flatnonzero(labelled)}
        labels = sorted(order, key=lambda w: (order[w], w))
    else:
        labels = sorted(set(words[labelled].tolist()))
    warn_similar_names(raw.name, f"target {name!r}", map(str, labels), "class", "")
    codes = {w: c for c, w in enumerate(labels)}
    return Target(np.array([codes.get(w, -1) for w in words]), labelled, "classification", tuple(map(str, labels)))


def _named_codes(raw: Raw, name: str, numbers: NDArray | None, values: NDArray, ids: NDArray) -> Target:
    """Codes that point into class_names, −1 or empty meaning unlabelled; or the names themselves."""
    names = raw.class_names
    if numbers is None:
        index: dict[str, float] = {c: i for i, c in enumerate(names)}
        index[""] = np.nan
        words = to_text(values)
        for i, w in enumerate(words):
            if w not in index:
                raise DataError(f"{raw.name}: {name_row(i, ids)}, target {name!r}: {unknown('class', w, names)}")
        numbers = np.array([index[w] for w in words])
    labelled = ~np.isnan(numbers) & (numbers != -1)
    good = np.isin(numbers, np.arange(len(names))) | ~labelled
    for bad in np.flatnonzero(~good):
        raise DataError(
            f"{raw.name}: {name_row(int(bad), ids)}: target {name!r} is {values[bad]}, but class_names has "
            f"{len(names)} names; expected 0–{len(names) - 1}, or −1 for a row without a label"
        )
    return Target(np.where(labelled, numbers, -1).astype(np.int64), labelled, "classification", names)


def _pixels(raw: Raw, name: str, ids: NDArray, ignore_index: int) -> Target:
    """(N, H, W) codes of the class values that occur, or of `class_names`; −1 where the value is −1 or ignore_index.

    `class_names` names the values 0, 1, …; the ignored one's name, if it has one, is left out.
    """
    values = raw.columns[name]
    if is_lazy(values):  # whose values were checked where its files were looked at
        return Target(values, values.present, "segmentation", values.class_names)
    if values.dtype.kind not in "iub":
        raise DataError(f"{raw.name}: target {name!r} holds {values.dtype}; expected whole numbers, a class per pixel")
    flat = values.reshape(raw.n, -1)
    low, high = flat.min(1).astype(np.int64), flat.max(1).astype(np.int64)
    for i in np.flatnonzero((low < -1) | (high > LARGEST)).tolist():
        raise DataError(
            f"{raw.name}: {name_row(i, ids)}: a pixel of target {name!r} is {low[i] if low[i] < -1 else high[i]}; "
            f"expected class values from 0 to {LARGEST}, and −1 or {ignore_index} (ignore_index) for no class"
        )
    counts = np.zeros(int(high.max()) + 2, np.int64)
    for row in flat:
        counts += np.bincount(row.astype(np.int64) + 1, minlength=len(counts))
    known = [int(v) for v in np.flatnonzero(counts[1:]) if v != ignore_index]
    if raw.class_names:
        for v in known:
            if v >= len(raw.class_names):
                i = int(np.flatnonzero((flat == v).any(1))[0])
                raise DataError(
                    f"{raw.name}: {name_row(i, ids)}: a pixel of target {name!r} is {v}, but class_names has "
                    f"{len(raw.class_names)} names; if it is no class, say ignore_index={v}"
                )
        known = [v for v in range(len(raw.class_names)) if v != ignore_index]
    codes = np.full(len(counts), -1, np.int8 if len(known) < 128 else np.int16)
    codes[[v + 1 for v in known if v + 1 < len(codes)]] = [i for i, v in enumerate(known) if v + 1 < len(codes)]
    target = np.stack([codes[row.astype(np.int64) + 1] for row in values])
    labels = tuple(raw.class_names[v] if raw.class_names else str(v) for v in known)
    labelled = np.asarray((target >= 0).reshape(raw.n, -1).any(1))
    return Target(target, labelled, "segmentation", labels)
