"""What every reader hands over, and how its columns become a target, groups, splits and ids."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sidelight.data.rows import name_row
from sidelight.errors import ConfigError, DataError, SidelightWarning, unknown

DEFAULT_NAMES = {
    "target": ("target", "y", "label"),
    "group": ("group", "subject"),
    "split": ("split",),
    "ids": ("id", "ids"),
}
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("select", "val", "valid", "validation", "dev"), "select"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


@dataclass(frozen=True)
class Roles:
    """Which column is what. `target` may be several columns (regression)."""

    target: tuple[str, ...] = ()
    group: str | None = None
    split: str | None = None
    ids: str | None = None

    @property
    def names(self) -> set[str]:
        """All columns that are no feature."""
        return {*self.target, *(c for c in (self.group, self.split, self.ids) if c)}


@dataclass
class Raw:
    """A reader's result: arrays per modality, and the role columns as they were found.

    inputs: modality -> (N, D) or (N, T, C). present, lengths: as in Dataset, possibly fewer modalities.
    columns: role column -> (N,) values. class_names: names of integer class codes, if the source has them.
    """

    name: str
    n: int
    inputs: dict[str, NDArray]
    present: dict[str, NDArray] = field(default_factory=dict)
    lengths: dict[str, NDArray] = field(default_factory=dict)
    columns: dict[str, NDArray] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    labelled: NDArray | None = None

    def __post_init__(self) -> None:
        if not self.n:
            raise DataError(f"{self.name}: there are no rows")

    def per_row(self, key: str, values: NDArray, kinds: str) -> NDArray:
        """The same (N,) flags (kinds: "b") or whole numbers ("iu"); raises DataError for anything else."""
        if values.shape != (self.n,):
            raise DataError(f"{self.name}: {key!r} has shape {values.shape}; expected ({self.n},), one value per row")
        if values.dtype.kind not in kinds:
            expected = "true or false" if kinds == "b" else "whole numbers"
            raise DataError(f"{self.name}: {key!r} holds {values.dtype}; expected {expected}")
        return values


def find_roles(
    source: str,
    columns: Iterable[str],
    target: str | Sequence[str] | None,
    group: str | None,
    split: str | None,
    ids: str | None,
    target_needed: bool = True,
) -> Roles:
    """The columns asked for, or those with the usual names; raises DataError where one does not exist."""
    columns = list(columns)

    def find(role: str, given: str | None) -> str | None:
        if given:
            if given not in columns:
                raise DataError(f"{source}: {role}: {unknown('column', given, columns)}")
            return given
        return next((c for c in DEFAULT_NAMES[role] if c in columns), None)

    targets = [target] if isinstance(target, str) else list(target or [])
    found = [find("target", t) for t in targets if t] or [find("target", None)]
    names = tuple(t for t in found if t)
    if not names and target_needed:
        usual = ", ".join(DEFAULT_NAMES["target"])
        raise DataError(
            f"{source}: which column is the target? None is called {usual}; say --target (target=…). "
            f"There are: {', '.join(columns[:30])}"
        )
    roles = Roles(names, find("group", group), find("split", split), find("ids", ids))
    for role in ("group", "split", "ids"):
        if getattr(roles, role) in roles.target:
            raise ConfigError(f"{source}: column {getattr(roles, role)!r} is the target and cannot be the {role} too")
    return roles


def empty(values: NDArray) -> NDArray:
    """(N,) bool: None, NaN, NA or an empty string."""
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values), bool)
    if values.dtype.kind in "iub":
        return np.zeros(len(values), bool)
    import pandas as pd

    blank = np.array([isinstance(v, str) and not v.strip() for v in values], bool)
    return np.asarray(np.asarray(pd.isna(values), bool) | blank)


def text(values: NDArray) -> NDArray:
    """Values as strings, whole numbers without a point: 3.0 -> '3'. Empty ones become ''."""
    missing = empty(values)
    out = [
        "" if e else str(int(v)) if isinstance(v, float | np.floating) and float(v).is_integer() else str(v).strip()
        for v, e in zip(values.tolist(), missing)
    ]
    return np.array(out, dtype=str) if out else np.zeros(0, dtype="<U1")


def row_ids(raw: Raw, roles: Roles) -> NDArray:
    """(N,) str; the row numbers where there is no such column. Raises DataError for an empty one."""
    if not roles.ids:
        return np.arange(raw.n).astype(str)
    ids = text(raw.columns[roles.ids])
    for i in np.flatnonzero(ids == ""):
        raise DataError(f"{raw.name}: row {i} has no id in column {roles.ids!r}")
    return ids


def groups(raw: Raw, roles: Roles, ids: NDArray) -> NDArray | None:
    """(N,) str or None; raises DataError for a row without one."""
    if not roles.group:
        return None
    values = text(raw.columns[roles.group])
    for i in np.flatnonzero(values == ""):
        raise DataError(
            f"{raw.name}: {name_row(int(i), ids)} has no value in the group column {roles.group!r}; "
            "every row needs to say whose it is"
        )
    return values


def splits(raw: Raw, roles: Roles, ids: NDArray) -> NDArray | None:
    """(N,) "train" | "select" | "test" or None; val, valid, dev, … are understood. Raises DataError for another."""
    if not roles.split:
        return None
    values = text(raw.columns[roles.split])
    for i, v in enumerate(values):
        if v.lower() not in SPLIT_NAMES:
            raise DataError(
                f"{raw.name}: {name_row(i, ids)}, column {roles.split!r}: {unknown('split', v, SPLIT_NAMES)}"
            )
    return np.array([SPLIT_NAMES[v.lower()] for v in values])


@dataclass(frozen=True)
class Target:
    """`values` (N,) int64 codes or (N, K) float32; `labelled` (N,) bool; `labels` class or target names."""

    values: NDArray
    labelled: NDArray
    task: str
    labels: tuple[str, ...]


def encode_target(raw: Raw, roles: Roles, ids: NDArray, task: str | None) -> Target:
    """The target columns as class codes or values.

    Without `task`: one column of strings, whole numbers or booleans is classification, numbers with a fraction and
    several columns are regression. Raises DataError naming row and value.
    """
    if task in ("", "auto"):
        task = None
    if task not in (None, "classification", "regression"):
        raise ConfigError(unknown("task", task, ("auto", "classification", "regression")))
    columns: dict[str, NDArray] = {}
    for t in roles.target:
        column = raw.columns[t]
        names = [t] if column.ndim == 1 else [f"{t}.{k}" for k in range(column.shape[1])]
        columns |= dict(zip(names, column.reshape(raw.n, -1).T))
    if task is None:
        task = _guess_task(raw, columns)
    target = _values(raw, columns, ids) if task == "regression" else _classes(raw, columns, ids)
    if raw.labelled is None:
        return target
    return replace(target, labelled=target.labelled & raw.labelled)  # Dataset blanks the others' target


def _numbers(values: NDArray) -> NDArray | None:
    """The non-empty values as float64, NaN elsewhere; None if one is not a number."""
    missing = empty(values)
    out = np.full(len(values), np.nan)
    try:
        out[~missing] = np.asarray(values[~missing]).astype(np.float64)
    except (TypeError, ValueError):
        return None
    return out


def _guess_task(raw: Raw, columns: Mapping[str, NDArray]) -> str:
    if raw.class_names:
        return "classification"
    if len(columns) > 1:
        return "regression"
    (values,) = columns.values()
    kept = values[~empty(values)]
    numbers = _numbers(values)
    if numbers is None or all(isinstance(v, bool | np.bool_) for v in kept.tolist()):
        return "classification"
    known = numbers[~np.isnan(numbers)]
    whole = bool(np.all(known == np.round(known)))
    fraction = values.dtype.kind == "f" or any("." in str(v) or "e" in str(v).lower() for v in kept.tolist())
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
        numbers = _numbers(values)
        if numbers is None:
            i = next(i for i, v in enumerate(values) if _numbers(values[i : i + 1]) is None)
            raise DataError(
                f"{raw.name}: {name_row(i, ids)}: target {name!r} is {values[i]!r}; regression needs a number "
                "(or an empty cell: unlabelled)"
            )
        out.append(numbers)
    array = np.stack(out, 1).astype(np.float32)
    return Target(array, np.asarray(~np.isnan(array).all(1)), "regression", tuple(columns))


def _classes(raw: Raw, columns: Mapping[str, NDArray], ids: NDArray) -> Target:
    if len(columns) != 1:
        raise DataError(f"{raw.name}: classification needs one target column, but got {len(columns)}: {list(columns)}")
    ((name, values),) = columns.items()
    numbers = _numbers(values)
    if raw.class_names:
        return _named_codes(raw, name, numbers, values, ids)
    labelled = ~empty(values)
    words = text(values)
    if numbers is not None:
        for i in np.flatnonzero(np.isinf(numbers)):
            raise DataError(f"{raw.name}: {name_row(int(i), ids)}: target {name!r} is {values[i]}; expected a class")
        if all(float(v).is_integer() for v in numbers[labelled]):  # "1.0" is class "1"; "01" stays "01"
            words = np.array([w.split(".")[0] if "." in w else w for w in words])
        order = {words[i]: numbers[i] for i in np.flatnonzero(labelled)}
        labels = sorted(order, key=lambda w: (order[w], w))
    else:
        labels = sorted(set(words[labelled].tolist()))
    codes = {w: c for c, w in enumerate(labels)}
    return Target(np.array([codes.get(w, -1) for w in words]), labelled, "classification", tuple(map(str, labels)))


def _named_codes(raw: Raw, name: str, numbers: NDArray | None, values: NDArray, ids: NDArray) -> Target:
    """Codes that point into class_names, −1 or empty meaning unlabelled; or the names themselves."""
    names = raw.class_names
    if numbers is None:
        index: dict[str, float] = {c: i for i, c in enumerate(names)}
        index[""] = np.nan
        words = text(values)
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
