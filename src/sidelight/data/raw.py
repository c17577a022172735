"""What every reader hands over, and how its columns become groups, splits and ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.rows import name_row
from sidelight.data.similar_names import warn_similar_names
from sidelight.errors import ConfigError, DataError, unknown

MODALITIES_FILE, TABLE_FILE = "modalities.json", "metadata.csv"
"""What makes a folder a prepared one, and its table."""
DEFAULT_NAMES = {
    "target": ("target", "y", "label", "target_file_name", "label_file_name", "mask_file_name"),
    "group": ("group", "subject"),
    "split": ("split",),
    "ids": ("id", "ids"),
}
ORDER = "order"
"""Instead of a time column: rows stand in their order in time."""
TIME_NAMES = ("time", "timestamp", "datetime", "date_time", "date", "onset", "start")
"""What columns of times are often called; none is read as one unless it is named."""
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
    time: str | None = None

    @property
    def names(self) -> set[str]:
        """All columns that are no feature."""
        return {*self.target, *(c for c in (self.group, self.split, self.ids, self.time) if c)}


@dataclass
class Raw:
    """A reader's result: arrays per modality, and the role columns as they were found.

    inputs: modality -> (N, D), (N, T, C) or (N, C, H, W). present, lengths: as in Dataset, possibly fewer modalities.
    columns: role column -> (N,) values, (N, H, W) class values of pixels, or `LabelMaps`.
    features: modality -> names of its feature columns.
    class_names: names of integer class codes, if the source has them.
    longest: modality -> time steps that are kept of a longer row of a signal.
    """

    name: str
    n: int
    inputs: dict[str, Any]
    present: dict[str, NDArray] = field(default_factory=dict)
    lengths: dict[str, NDArray] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    features: dict[str, tuple[str, ...]] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    labelled: NDArray | None = None
    standard: dict[str, str] = field(default_factory=dict)
    skipped: tuple[dict[str, str], ...] = ()
    schema: dict[str, dict[str, Any]] = field(default_factory=dict)
    longest: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.n:
            raise DataError(f"{self.name}: there are no rows")

    def check_per_row(self, key: str, values: NDArray, kinds: str) -> NDArray:
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
    time: str | None = None,
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
    in_order = time == ORDER and ORDER not in columns
    timed = find("time", time) if time and not in_order else None
    roles = Roles(names, find("group", group), find("split", split), find("ids", ids), timed)
    for role in ("group", "split", "ids", "time"):
        if getattr(roles, role) in roles.target:
            raise ConfigError(f"{source}: column {getattr(roles, role)!r} is the target and cannot be the {role} too")
    return roles


def is_empty(values: NDArray) -> NDArray:
    """(N,) bool: None, NaN, NA or an empty string."""
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values), bool)
    if values.dtype.kind in "iub":
        return np.zeros(len(values), bool)
    import pandas as pd

    blank = np.array([isinstance(v, str) and not v.strip() for v in values], bool)
    return np.asarray(np.asarray(pd.isna(values), bool) | blank)


def to_text(values: NDArray) -> NDArray:
    """Values as strings, whole numbers without a point: 3.0 -> '3'. Empty ones become ''."""
    missing = is_empty(values)
    out = [
        "" if e else str(int(v)) if isinstance(v, float | np.floating) and float(v).is_integer() else str(v).strip()
        for v, e in zip(values.tolist(), missing)
    ]
    return np.array(out, dtype=str) if out else np.zeros(0, dtype="<U1")


def build_ids(raw: Raw, roles: Roles) -> NDArray:
    """(N,) str; the row numbers where there is no such column. Raises DataError for an empty one."""
    if not roles.ids:
        return np.arange(raw.n).astype(str)
    ids = to_text(raw.columns[roles.ids])
    for i in np.flatnonzero(ids == ""):
        raise DataError(f"{raw.name}: row {i} has no id in column {roles.ids!r}")
    return ids


def build_groups(raw: Raw, roles: Roles, ids: NDArray) -> NDArray | None:
    """(N,) str or None; raises DataError for a row without one."""
    if not roles.group:
        return None
    values = to_text(raw.columns[roles.group])
    for i in np.flatnonzero(values == ""):
        raise DataError(
            f"{raw.name}: {name_row(int(i), ids)} has no value in the group column {roles.group!r}; "
            "every row needs to say whose it is"
        )
    what = f"group column {roles.group!r}"
    warn_similar_names(raw.name, what, values.tolist(), "group", ", so that one person may be on both sides of a fold")
    return values


def build_splits(raw: Raw, roles: Roles, ids: NDArray) -> NDArray | None:
    """(N,) "train" | "select" | "test" or None; val, valid, dev, … are understood. Raises DataError for another."""
    if not roles.split:
        return None
    values = to_text(raw.columns[roles.split])
    for i, v in enumerate(values):
        if v.lower() not in SPLIT_NAMES:
            raise DataError(
                f"{raw.name}: {name_row(i, ids)}, column {roles.split!r}: {unknown('split', v, SPLIT_NAMES)}"
            )
    return np.array([SPLIT_NAMES[v.lower()] for v in values])


def build_times(raw: Raw, roles: Roles, ids: NDArray) -> NDArray | None:
    """(N,) float64 or None: numbers as they are, dates and times in seconds. Raises DataError for anything else."""
    if not roles.time:
        return None
    import pandas as pd

    values = np.asarray(raw.columns[roles.time])
    where = f"{raw.name}: {{}}, column {roles.time!r}"
    if values.shape != (raw.n,):
        raise DataError(f"{raw.name}: time {roles.time!r} has shape {values.shape}; expected ({raw.n},), one per row")
    for i in np.flatnonzero(is_empty(values)):
        raise DataError(f"{where.format(name_row(int(i), ids))} is empty; every row needs its time")
    column, kind = pd.Series(values), pd.api.types.infer_dtype(values)
    if kind.startswith("timedelta"):
        out = pd.to_timedelta(column).dt.total_seconds().to_numpy(dtype=np.float64)
    else:
        dates = kind.startswith("date")
        numbers = pd.Series(np.nan, column.index) if dates else pd.to_numeric(column, errors="coerce")
        out = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        if dates or np.isnan(out).any():
            parsed = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
            for i in np.flatnonzero(parsed.isna()):
                raise DataError(
                    f"{where.format(name_row(int(i), ids))} is {str(values[i])!r}; expected numbers, or dates and "
                    "times as in 2024-05-31T14:00:00, in every row"
                )
            out = (parsed - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(dtype=np.float64)
    for i in np.flatnonzero(~np.isfinite(out)):
        raise DataError(f"{where.format(name_row(int(i), ids))} is {out[i]}; expected a finite time")
    return np.asarray(out)
