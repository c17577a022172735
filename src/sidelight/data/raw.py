"""`Raw`: what every reader returns, and how its columns become groups, splits, times and ids."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.rows import name_row, number_rows
from sidelight.data.similar_names import warn_similar_names
from sidelight.errors import ConfigError, DataError, SidelightWarning, unknown
from sidelight.utils.delimited import MISSING

MODALITIES_FILE, TABLE_FILE = "modalities.json", "metadata.csv"
"""The file that makes a folder a prepared one, and its table."""
DEFAULT_NAMES = {
    "target": ("target", "y", "label", "target_file_name", "label_file_name", "mask_file_name"),
    "group": ("group", "subject"),
    "split": ("split",),
    "ids": ("id", "ids"),
}
ORDER = "order"
"""Given in place of a time column: rows stand in their order in time."""
TIME_NAMES = ("time", "timestamp", "datetime", "date_time", "date", "onset", "start")
"""Usual names of time columns; none is used as one unless the user names it."""
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("select", "val", "valid", "validation", "dev"), "select"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


@dataclass(frozen=True)
class Roles:
    """The columns with a role; `target` may be several columns (regression)."""

    target: tuple[str, ...] = ()
    group: str | None = None
    split: str | None = None
    ids: str | None = None
    time: str | None = None

    @property
    def names(self) -> set[str]:
        """All columns that are no feature."""
        others = (self.group, self.split, self.ids, self.time)
        return {*self.target, *filter(None, others)}


@dataclass
class Raw:
    """A reader's result: arrays per modality, and the unconverted columns with a role.

    Args:
        name: file or name of the source in errors.
        n: number of rows.
        inputs: modality -> (N, D), (N, T, C), (N, C, H, W), (N, C, T, H, W) or `LazyRows`.
        present: modality -> (N,) bool, possibly for fewer modalities.
        lengths: modality -> (N,) valid time steps, possibly for fewer modalities.
        columns: column with a role -> (N,) values, (N, H, W) class values of pixels, or `LabelMaps`.
        features: modality -> names of its feature columns.
        class_names: names of integer class codes, if the source has them.
        labelled: (N,) bool; None: rows with a target are labelled.
        standard: as `Dataset.standard`.
        skipped: as `Dataset.skipped`.
        schema: as `Dataset.schema`.
        recordings: as `Dataset.recordings`.
        longest: modality -> time steps to keep of longer rows.
        read_as: how its table is written, where it is not the usual way.
        not_read: columns without a role and without a modality.
        recipes: as `Dataset.recipes`.
        numbers: (N,) number of each row in its source, where rows were skipped; None: they are counted.
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
    read_as: str = ""
    not_read: tuple[str, ...] = ()
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    numbers: NDArray | None = None
    recordings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.n:
            raise DataError(f"{self.name} has no rows")

    def check_per_row(self, key: str, values: NDArray, kinds: str) -> NDArray:
        """Check an array with one flag or whole number per row.

        Args:
            key: name of the array in errors.
            values: the array.
            kinds: "b" for flags, "iu" for whole numbers.

        Returns:
            The same (N,) array.

        Raises:
            DataError: another shape or dtype.
        """
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
    """Find the column of each role: the one that the user names, or one with a usual name.

    Args:
        source: name of the source in errors.
        columns: the columns that it has.
        target: column or columns to predict; None: a usual name. So for `group`, `split` and `ids`.
        group: column of groups.
        split: column of the official split.
        ids: column of row names.
        target_needed: whether a source without a target is an error.
        time: column of times, or `ORDER`; None: no times.

    Returns:
        The columns found.

    Raises:
        DataError: a named column does not exist, or the target is missing.
        ConfigError: a column has two roles.
    """
    columns = list(columns)

    def find(role: str, given: str | None) -> str | None:
        if not given:
            return next((c for c in DEFAULT_NAMES[role] if c in columns), None)
        if given not in columns:
            raise DataError(f"{source}: {role}: {unknown('column', given, columns)}")
        return given

    targets = [target] if isinstance(target, str) else list(target or [])
    found = [find("target", t) for t in targets if t] or [find("target", None)]
    names = tuple(filter(None, found))
    if not names and target_needed:
        usual = ", ".join(DEFAULT_NAMES["target"])
        raise DataError(
            f"{source}: which column is the target? None is called {usual}; name it with --target (target=…). "
            f"Columns: {', '.join(columns[:30])}"
        )
    in_order = time == ORDER and ORDER not in columns
    time_column = find("time", time) if time and not in_order else None
    roles = Roles(names, find("group", group), find("split", split), find("ids", ids), time_column)
    for role in ("group", "split", "ids", "time"):
        if getattr(roles, role) in roles.target:
            raise ConfigError(f"{source}: column {getattr(roles, role)!r} is the target and cannot be the {role} too")
    return roles


def blank_missing(raw: Raw, roles: Roles) -> None:
    """Empty the cells of role columns that hold a word for "no value", which are the same as in feature columns.

    `none` and `null` mean it only among numbers: a class of words may be called so, as in none, low, high. Warns where
    a target loses a name by it.
    """
    for name in roles.names & raw.columns.keys():
        values = raw.columns[name]
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "UO":
            continue
        words = {v for v in values.ravel().tolist() if isinstance(v, str) and v.strip().lower() in MISSING}
        words -= {*raw.class_names}
        plain = {w for w in words if w.strip().lower() not in NAMES_TOO}
        if words != plain:
            others = [v for v in values.ravel().tolist() if v is not None and v not in words]
            words = words if others and all(map(_is_number, others)) else plain
        named = sorted(w for w in words if w.strip())
        if not named:
            continue
        blank = np.isin(values.astype(str), named)
        raw.columns[name] = np.where(blank, "", values.astype(object))
        if name in roles.target:
            warnings.warn(
                f"{raw.name}: target {name!r}: {', '.join(map(repr, named))} means 'no value', and {int(blank.sum())} "
                "rows have no label for it. If it is a class, give it another name.",
                SidelightWarning,
                stacklevel=3,
            )


NAMES_TOO = ("none", "null")
"""Words for "no value" that may also be names."""


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def is_empty(values: NDArray) -> NDArray:
    """(N,) bool: None, NaN, NA or a blank string."""
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values), bool)
    if values.dtype.kind in "iub":
        return np.zeros(len(values), bool)
    import pandas as pd

    blank = np.array([isinstance(v, str) and not v.strip() for v in values], bool)
    return np.asarray(np.asarray(pd.isna(values), bool) | blank)


def to_text(values: NDArray) -> NDArray:
    """(N,) strings, whole numbers without a point (3.0 -> '3'); empty values become ''."""
    if values.dtype.kind in "iubU":
        # Few distinct values, as groups and classes have, are converted once each.
        distinct, which = np.unique(values, return_inverse=True)
        if len(distinct) < len(values):
            return to_text(distinct)[which.reshape(-1)]
    texts = []
    for value, empty in zip(values.tolist(), is_empty(values)):
        if empty:
            texts.append("")
        elif isinstance(value, float | np.floating) and float(value).is_integer():
            texts.append(str(int(value)))
        else:
            texts.append(str(value).strip())
    return np.array(texts, dtype=str) if texts else np.zeros(0, dtype="<U1")


def build_ids(raw: Raw, roles: Roles) -> NDArray:
    """(N,) str ids, or row numbers without an id column; raises DataError for an empty id."""
    if not roles.ids:
        return number_rows(raw.n) if raw.numbers is None else raw.numbers.astype(str)
    ids = to_text(raw.columns[roles.ids])
    for i in np.flatnonzero(ids == ""):
        raise DataError(f"{raw.name}: row {i} has no id in column {roles.ids!r}")
    return ids


def build_groups(raw: Raw, roles: Roles, ids: NDArray) -> NDArray | None:
    """(N,) str groups, or None without a group column; warns of similar names.

    Args:
        raw: the reader's result.
        roles: its columns with a role.
        ids: (N,) ids, for errors.

    Raises:
        DataError: a row has no group.
    """
    if not roles.group:
        return None
    # Groups are text from here on: "1" in one file and 1 in another are the same person.
    values = to_text(raw.columns[roles.group])
    for i in np.flatnonzero(values == ""):
        raise DataError(
            f"{raw.name}: {name_row(int(i), ids)} has no value in the group column {roles.group!r} "
            "(an empty cell, or a word such as n/a); every row needs a group"
        )
    what = f"group column {roles.group!r}"
    then = ", so that one person may be on both sides of a fold"
    warn_similar_names(raw.name, what, values.tolist(), "group", then)
    return values


def build_splits(raw: Raw, roles: Roles, ids: NDArray) -> NDArray | None:
    """(N,) "train" | "select" | "test", or None without a split column; `SPLIT_NAMES` lists the accepted names.

    Args:
        raw: the reader's result.
        roles: its columns with a role.
        ids: (N,) ids, for errors.

    Raises:
        DataError: an unknown name.
    """
    if not roles.split:
        return None
    values = to_text(raw.columns[roles.split])
    splits = []
    for i, v in enumerate(values):
        if v.lower() not in SPLIT_NAMES:
            raise DataError(
                f"{raw.name}: {name_row(i, ids)}, column {roles.split!r}: {unknown('split', v, SPLIT_NAMES)}"
            )
        splits.append(SPLIT_NAMES[v.lower()])
    return np.array(splits)


def build_times(raw: Raw, roles: Roles, ids: NDArray) -> NDArray | None:
    """(N,) float64 times, or None without a time column: numbers unchanged, dates and times in seconds.

    Args:
        raw: the reader's result.
        roles: its columns with a role.
        ids: (N,) ids, for errors.

    Raises:
        DataError: an empty cell, or one that is neither a number nor a date.
    """
    if not roles.time:
        return None
    import pandas as pd

    values = np.asarray(raw.columns[roles.time])
    if values.shape != (raw.n,):
        raise DataError(f"{raw.name}: time {roles.time!r} has shape {values.shape}; expected ({raw.n},), one per row")

    def where(i: int | np.integer) -> str:
        return f"{raw.name}: {name_row(int(i), ids)}, column {roles.time!r}"

    for i in np.flatnonzero(is_empty(values)):
        raise DataError(f"{where(i)} is empty; every row needs its time")

    column, kind = pd.Series(values), pd.api.types.infer_dtype(values)
    if kind.startswith("timedelta"):
        times = pd.to_timedelta(column).dt.total_seconds().to_numpy(dtype=np.float64)
    else:
        # Numbers first: a column of text may hold either, and "2024" is a number.
        dates = kind.startswith("date")
        numbers = pd.Series(np.nan, column.index) if dates else pd.to_numeric(column, errors="coerce")
        times = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        if dates or np.isnan(times).any():
            parsed = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
            for i in np.flatnonzero(parsed.isna()):
                raise DataError(
                    f"{where(i)} is {str(values[i])!r}; expected numbers, or dates and "
                    "times as in 2024-05-31T14:00:00, in every row"
                )
            times = (parsed - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(dtype=np.float64)
    for i in np.flatnonzero(~np.isfinite(times)):
        raise DataError(f"{where(i)} is {times[i]}; expected a finite time")
    return np.asarray(times)
