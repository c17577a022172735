"""Which columns of `X` are a modality, and the rows that they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import assert_all_finite, check_array

from sidelight.data.raw import Roles
from sidelight.data.rows import Rows, number_rows
from sidelight.data.sources.read import find_present, read_source
from sidelight.data.sources.table_modalities import sort_naturally
from sidelight.errors import ConfigError, DataError, listed, shown, unknown

Columns = dict[str, list[Any]]
"""Modality -> its columns: names in a DataFrame, positions in an array; [its own name] in a dict."""
MARKS = ("_length", "_present")
"""Ends of the names of arrays that describe another array of a dict."""


def is_frame(X: Any) -> bool:
    """Whether `X` is a pandas DataFrame; asks without importing pandas."""
    return hasattr(X, "columns") and hasattr(X, "iloc")


def to_table(X: Any, name: str = "X") -> Any:
    """Check `X` and return it as a dict of arrays, a DataFrame whose columns are texts, or an array (N, D).

    Raises:
        ValueError, TypeError: scikit-learn's errors for what is no array of rows by columns.
    """
    if isinstance(X, Mapping):
        return X
    if is_frame(X):
        return X.rename(columns=str).reset_index(drop=True)
    # Rows without a privileged modality are NaN, so values are checked later, by modality.
    return check_array(X, dtype=np.float64, ensure_all_finite="allow-nan", input_name=name)


def name_columns(table: Any) -> list[Any]:
    """The columns of what `to_table` returns: names, or positions in an array."""
    if isinstance(table, Mapping):
        return [k for k in map(str, table) if not any(k.endswith(e) and k.removesuffix(e) in table for e in MARKS)]
    return list(table.columns) if is_frame(table) else list(range(table.shape[1]))


def choose_modalities(table: Any, available: Any, privileged: Any) -> tuple[Columns, Columns]:
    """Find the columns of the available and of the privileged modalities; None takes the columns that are left.

    Args:
        table: as `to_table` returns it.
        available, privileged: as `PrivilegedClassifier` takes them.

    Raises:
        ConfigError: a column is unknown, in two modalities, or no column is left for one of the two.
    """
    columns = name_columns(table)
    if available is None and privileged is None:
        raise ConfigError(
            "name the columns that exist in training only (privileged=…), or those that remain (available=…). "
            f"X has: {listed(columns)}"
        )
    chosen: dict[str, Columns] = {}
    for kind, given in (("available", available), ("privileged", privileged)):
        if given is not None:
            chosen[kind] = _find(given, kind, table, columns)
    for kind, other in (("available", "privileged"), ("privileged", "available")):
        if kind not in chosen:
            taken = {c for named in chosen[other].values() for c in named}
            rest = [c for c in columns if c not in taken]
            by_name = {m: [m] for m in rest} if isinstance(table, Mapping) else {kind: rest}
            chosen[kind] = by_name if rest else {}
    owner: dict[Any, str] = {}
    for kind, modalities in chosen.items():
        if not any(modalities.values()):
            raise ConfigError(
                f"no {kind} column: X has {len(columns)} feature(s), {listed(columns)}, and a student needs at least "
                "one that remains and one that exists in training only."
            )
        for m, named in modalities.items():
            for c in named:
                if c in owner:
                    raise ConfigError(f"column {c!r} is in {owner[c]} and in {kind} {m!r}; it can be in one modality.")
                owner[c] = f"{kind} {m!r}"
    if both := [m for m in chosen["available"] if m in chosen["privileged"]]:
        raise ConfigError(f"{both[0]!r} is the name of an available and of a privileged modality; rename one of them.")
    return chosen["available"], chosen["privileged"]


def _find(given: Any, kind: str, table: Any, columns: list[Any]) -> Columns:
    """The columns of the modalities that a user gives."""
    if isinstance(given, Mapping):
        found: Columns = {}
        for m, how in given.items():
            found.update({str(m): _expand(how, f"{kind} {m!r}", columns)})
        return found
    items = [given] if isinstance(given, str | int | np.integer) else given
    if not isinstance(items, Sequence | np.ndarray | range):
        raise ConfigError(
            f"{kind}: expected columns, prefixes, or a mapping from modalities to them, not {shown(given)}"
        )
    if isinstance(table, Mapping):
        return {str(m): _expand([str(m)], kind, columns) for m in items}
    found, single = {}, []
    for item in items:
        if item in columns or not isinstance(item, str):
            single += _expand([item], kind, columns)
        else:
            found[item.strip(" ._-") or item] = _expand(item, kind, columns)
    return {**({kind: single} if single else {}), **found}


def _expand(how: Any, where: str, columns: list[Any]) -> list[Any]:
    """The columns that a prefix or a list names, each of which must exist."""
    if isinstance(how, str):
        named = sort_naturally(c for c in columns if isinstance(c, str) and c.startswith(how))
        if not named:
            raise ConfigError(f"{where}: no column starts with {how!r}: {unknown('column', how, columns)}")
        return named
    if not isinstance(how, Sequence | np.ndarray | range):
        raise ConfigError(f"{where}: expected a prefix or a list of columns, not {shown(how)}")
    texts = bool(columns) and isinstance(columns[0], str)  # a DataFrame may have numbers as names
    listed_columns = [str(c) if texts else int(c) if isinstance(c, np.integer) else c for c in how]
    for c in listed_columns:
        if c not in columns:
            by = "" if texts else f" X is an array with {len(columns)} feature(s), which are named by position."
            raise ConfigError(f"{where}: {unknown('column', c, columns)}{by}")
    return listed_columns


def check_filled(table: Any, modalities: Columns) -> None:
    """Raise scikit-learn's ValueError if an array has NaN in these columns; `Dataset` checks the other forms."""
    if not isinstance(table, Mapping) and not is_frame(table):
        assert_all_finite(table[:, [c for named in modalities.values() for c in named]], input_name="X")


def read_rows(table: Any, modalities: Columns, impute: str, name: str = "X") -> Rows:
    """Read and check the rows of some modalities.

    Args:
        table: as `to_table` returns it.
        modalities: the modalities and their columns.
        impute: "no": NaN is an error, except in rows that lack a whole modality. "mean": NaN is kept.
        name: name of the table in errors.

    Raises:
        DataError: names modality, row and value.
    """
    source, wanted = table, modalities if is_frame(table) else list(modalities)
    if isinstance(table, Mapping):
        if lacking := [m for m in modalities if m not in table]:
            raise DataError(f"{name} lacks {lacking[0]!r}; it has: {listed(list(table))}.")
    elif not is_frame(table):
        source = {m: table[:, columns] for m, columns in modalities.items()}
    raw, _ = read_source(source, name, lambda _: Roles(), wanted, None)
    present = {m: np.ones(raw.n, bool) for m in raw.inputs} | find_present(raw)
    rows = Rows(
        name=name,
        inputs=raw.inputs,
        present={m: present[m] for m in raw.inputs},
        lengths=raw.lengths,
        group=None,
        ids=number_rows(raw.n),
    )
    rows.check(impute)
    return rows
