"""Target columns as class codes, values, or class codes of pixels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.ambiguous_targets import (
    check_class_names,
    check_mixed_words,
    check_not_one_hot,
    parse_numbers,
    unlabel_minus_one,
)
from sidelight.data.conversion import is_decimal_comma
from sidelight.data.raw import Raw, Roles, is_empty, to_text
from sidelight.data.rows import is_lazy, name_row, to_float32
from sidelight.data.similar_names import warn_similar_names
from sidelight.data.target_checks import TARGET_KINDS
from sidelight.errors import ConfigError, DataError, SidelightWarning, unknown
from sidelight.utils.images import LARGEST

MANY_CLASSES = 30
"""More classes than this, read from whole numbers, are worth a warning."""


@dataclass(frozen=True)
class Target:
    """An encoded target.

    Args:
        values: (N,) int64 codes, (N, K) float32 values, (N, H, W) codes of pixels, or `LabelMaps`.
        labelled: (N,) bool.
        task: one of `TARGET_KINDS`.
        class_names: names of the classes, or of the K values.
    """

    values: Any
    labelled: NDArray
    task: str
    class_names: tuple[str, ...]


def encode_target(raw: Raw, roles: Roles, ids: NDArray, task: str | None, ignore_index: int = 255) -> Target:
    """Encode the target columns.

    Without `task`, (N, H, W) is a segmentation; one column of strings, whole numbers or booleans is a classification;
    numbers with a fraction and several columns are a regression.

    Args:
        raw: the reader's result.
        roles: its columns with a role.
        ids: (N,) ids, for errors.
        task: one of `TARGET_KINDS`; None or "auto": as above.
        ignore_index: the value of pixels without a class, beside −1.

    Returns:
        The encoded target.

    Raises:
        ConfigError: an unknown task.
        DataError: names row and value.
    """
    if task in ("", "auto"):
        task = None
    if task not in (None, *TARGET_KINDS):
        raise ConfigError(unknown("task", task, ("auto", *TARGET_KINDS)))
    dense = [t for t in roles.target if raw.columns[t].ndim == 3]
    if dense and (task not in (None, "segmentation") or len(roles.target) > 1):
        raise DataError(
            f"{raw.name}: target {dense[0]!r} has a class per pixel, which makes a segmentation with this one target"
        )
    if task == "segmentation" and not dense:
        raise DataError(f"{raw.name}: segmentation needs a target with a class per pixel, (N, H, W) or label files")

    if dense:
        target = _encode_pixels(raw, dense[0], ids, ignore_index)
    else:
        check_class_names(raw)
        columns = _split_columns(raw, roles)
        if task is None:
            task = _guess_task(raw, columns, ids)
        encode = _encode_values if task == "regression" else _encode_classes
        target = encode(raw, columns, ids)
    if raw.labelled is None:
        return target
    # `Dataset` blanks the target of the other rows.
    return replace(target, labelled=target.labelled & raw.labelled)


def _split_columns(raw: Raw, roles: Roles) -> dict[str, NDArray]:
    """Name -> (N,) values; a column (N, K) becomes K columns."""
    columns: dict[str, NDArray] = {}
    for t in roles.target:
        column = raw.columns[t]
        if column.ndim == 1:
            columns[t] = column
            continue
        flat = column.reshape(raw.n, -1)
        for k in range(column.shape[1]):
            columns[f"{t}.{k}"] = flat[:, k]
    return columns


def _guess_task(raw: Raw, columns: Mapping[str, NDArray], ids: NDArray) -> str:
    if raw.class_names:
        return "classification"
    if len(columns) > 1:
        check_not_one_hot(raw, columns)
        return "regression"

    ((name, values),) = columns.items()
    cells = values[~is_empty(values)].tolist()
    numbers = parse_numbers(values)
    if numbers is None:
        check_mixed_words(raw, name, values, ids)
        return "classification"
    not_bool = [v for v in cells if not isinstance(v, bool | np.bool_)]
    if not not_bool:
        return "classification"

    known = numbers[~np.isnan(numbers)]
    whole = bool(np.all(known == np.round(known)))
    # 3.0 and 1e3 are written as quantities even where every value is whole.
    fraction = values.dtype.kind == "f" or any("." in str(v) or "e" in str(v).lower() for v in not_bool)
    n_classes = len(np.unique(known))
    if whole and not fraction:
        if n_classes > MANY_CLASSES:
            _warn_quantity(f"{raw.name}: the target's whole numbers are read as {n_classes} classes.")
        return "classification"
    # pandas stores a column of integers with empty cells as floating point.
    if whole and len(known) < len(values) and n_classes <= 20:
        _warn_quantity(f"{raw.name}: the target holds whole numbers and gaps; it is read as {n_classes} classes.")
        return "classification"
    return "regression"


def _warn_quantity(reading: str) -> None:
    warnings.warn(f"{reading} If it is a quantity, set task='regression'.", SidelightWarning, stacklevel=3)


def _encode_values(raw: Raw, columns: Mapping[str, NDArray], ids: NDArray) -> Target:
    """(N, K) float32 of a regression; a row without any value is unlabelled."""
    converted = []
    for name, values in columns.items():
        numbers = parse_numbers(values)
        if numbers is None:
            i = next(i for i in range(len(values)) if parse_numbers(values[i : i + 1]) is None)
            comma = is_decimal_comma(values[i])
            needed = "with a decimal point" if comma else "(or an empty cell: unlabelled)"
            raise DataError(
                f"{raw.name}: {name_row(i, ids)}: target {name!r} is {values[i]!r}; regression needs a number {needed}"
            )
        converted.append(numbers)
    row_names = [name_row(i, ids) for i in range(raw.n)]
    array = to_float32(np.stack(converted, 1), f"{raw.name}: target {', '.join(columns)!r}", row_names)
    return Target(array, np.asarray(~np.isnan(array).all(1)), "regression", tuple(columns))


def _encode_classes(raw: Raw, columns: Mapping[str, NDArray], ids: NDArray) -> Target:
    """(N,) codes of a classification, in the order of the numbers or else of the words."""
    if len(columns) != 1:
        raise DataError(f"{raw.name}: classification needs one target column, but got {len(columns)}: {list(columns)}")
    ((name, values),) = columns.items()
    numbers = parse_numbers(values)
    if raw.class_names:
        return _encode_named_classes(raw, name, numbers, values, ids)

    labelled = ~is_empty(values) if raw.labelled is None else ~is_empty(values) & raw.labelled
    words = to_text(values)
    if numbers is None:
        names = sorted(set(words[labelled].tolist()))
    else:
        for i in np.flatnonzero(np.isinf(numbers)):
            raise DataError(f"{raw.name}: {name_row(int(i), ids)}: target {name!r} is {values[i]}; expected a class")
        known = numbers[labelled]
        if (known == np.floor(known)).all():
            # "1.0" is class "1", but "01" stays "01".
            words = np.array([w.split(".")[0] if "." in w else w for w in words])
            labelled = unlabel_minus_one(raw, name, numbers, labelled)
        value_of = {words[i]: numbers[i] for i in np.flatnonzero(labelled)}
        names = sorted(value_of, key=lambda word: (value_of[word], word))
    names = list(map(str, names))
    warn_similar_names(raw.name, f"target {name!r}", names, "class", "")
    code_of = {word: code for code, word in enumerate(names)}
    codes = np.array([code_of.get(word, -1) for word in words.tolist()])
    return Target(codes, labelled, "classification", tuple(names))


def _encode_named_classes(raw: Raw, name: str, numbers: NDArray | None, values: NDArray, ids: NDArray) -> Target:
    """Codes that point into `class_names`, or the names themselves; −1 and empty cells are unlabelled."""
    names = raw.class_names
    if numbers is None:
        code_of: dict[str, float] = dict(zip(names, range(len(names))))
        code_of[""] = np.nan
        words = to_text(values)
        for row, word in enumerate(words):
            if word not in code_of:
                raise DataError(f"{raw.name}: {name_row(row, ids)}, target {name!r}: {unknown('class', word, names)}")
        numbers = np.array([code_of[word] for word in words])
    labelled = ~np.isnan(numbers) & (numbers != -1)
    valid = np.isin(numbers, np.arange(len(names))) | ~labelled
    for i in np.flatnonzero(~valid):
        raise DataError(
            f"{raw.name}: {name_row(int(i), ids)}: target {name!r} is {values[i]}, but class_names has "
            f"{len(names)} names; expected 0–{len(names) - 1}, or −1 for a row without a label"
        )
    return Target(np.where(labelled, numbers, -1).astype(np.int64), labelled, "classification", names)


def _encode_pixels(raw: Raw, name: str, ids: NDArray, ignore_index: int) -> Target:
    """(N, H, W) codes of the class values that occur, or of `class_names`; −1 for −1 and ignore_index.

    `class_names` names the values 0, 1, …; the name of the ignored value, if there is one, is left out.
    """
    values = raw.columns[name]
    if is_lazy(values):
        # Label files were checked when they were scanned.
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

    # counts[v + 1] is the number of pixels of value v, so that −1 has a place.
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
                    f"{len(raw.class_names)} names; if it is no class, set ignore_index={v}"
                )
        known = [v for v in range(len(raw.class_names)) if v != ignore_index]

    code_of = np.full(len(counts), -1, np.int8 if len(known) < 128 else np.int16)
    for code, v in enumerate(known):
        if v + 1 < len(code_of):
            code_of[v + 1] = code
    # Row by row, since the indices take eight times the memory of the values.
    target = np.stack([code_of[row.astype(np.int64) + 1] for row in values])
    names = tuple(raw.class_names[v] if raw.class_names else str(v) for v in known)
    labelled = np.asarray((target >= 0).reshape(raw.n, -1).any(1))
    return Target(target, labelled, "segmentation", names)
