"""Conversion of table columns to numbers, vectors or text; everything else is refused."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.utils.delimited import missing

if TYPE_CHECKING:
    import pandas as pd

NOT_ONE_VALUE = (list, tuple, dict, set, frozenset, np.ndarray)
"""Types of cells that hold several values."""
NO_DATES = "expected a number: leave it out, or give seconds, for example (t - t.min()).dt.total_seconds()"
SCALARS = (str, int, float, np.integer, np.floating, np.bool_, Decimal, type(None))


def is_time(value: Any) -> bool:
    """Whether a cell is a date, a time, a span of time or an interval."""
    import pandas as pd

    return isinstance(
        value,
        datetime.date | datetime.time | datetime.timedelta | np.datetime64 | np.timedelta64 | pd.Period | pd.Interval,
    )


def find_first_value(column: Any) -> Any:
    """The first cell that is not missing; None if all are."""
    import pandas as pd

    for value in column:
        # pandas.isna of a list would look inside it.
        if isinstance(value, NOT_ONE_VALUE) or not pd.isna(value):
            return value
    return None


def has_lists(column: pd.Series) -> bool:
    """Whether some cell of a column is a list or an array."""
    import pandas as pd

    dtype = column.dtype
    if not isinstance(dtype, pd.ArrowDtype) and dtype.kind != "O":
        return False
    # Types are few, so they are looked at instead of every cell.
    return any(issubclass(t, list | tuple | np.ndarray) for t in set(map(type, column)))


# features ------------------------------------------------------------------------------------------------------------


def numeric_column(column: pd.Series, where: str, rows: Sequence[str], named: str = "") -> NDArray[np.float64]:
    """Convert a feature column to numbers.

    Args:
        column: (N,) numbers, truth values or text.
        where: name of the modality in errors.
        rows: (N,) names of the rows in errors.
        named: name of the column in errors; by default its own.

    Returns:
        (N,) float64 with NaN for cells without a value.

    Raises:
        DataError: the column holds dates or times, or a cell is not a number.
    """
    import pandas as pd

    named, dtype = named or f"column {str(column.name)!r}", column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        column = column.astype(object)
    elif dtype.kind in "mM" or isinstance(dtype, pd.PeriodDtype | pd.IntervalDtype):
        raise DataError(f"{where}, {named} holds dates or times ({dtype}); {NO_DATES}")
    elif pd.api.types.is_numeric_dtype(dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)

    check_scalars(column.to_numpy(object), where, named, rows)
    if pd.api.types.infer_dtype(column, skipna=True).startswith("mixed"):
        cells = column[~missing(column)]
        truths = cells.map(lambda cell: isinstance(cell, bool | np.bool_)).to_numpy(bool)
        if truths.any() and not truths.all():
            i = int(np.flatnonzero(~missing(column))[truths.argmax()])
            raise DataError(f"{where}, {rows[i]}, {named}: {column.iloc[i]} among numbers; expected a number")
    try:
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    except OverflowError:  # a whole number of hundreds of digits
        values = np.array(list(map(_parse_float, column)))
    for i in np.flatnonzero(np.isnan(values) & ~missing(column))[:1].tolist():
        raise DataError(f"{where}, {rows[i]}, {named}: {describe_non_number(column.iloc[i])}")
    for i in np.flatnonzero(np.isinf(values)).tolist():
        # A written infinity is reported later; here a finite number became infinite.
        if "inf" not in str(column.iloc[i]).lower():
            raise DataError(f"{where}, {rows[i]}, {named}: {str(column.iloc[i])[:40]} is too large for float32")
    return values


def describe_non_number(cell: object) -> str:
    """The sentence of an error about a cell that should be a number."""
    shown = repr(cell) if len(repr(cell)) <= 60 else repr(cell)[:57] + "…"
    if is_decimal_comma(cell):
        point = str(cell).strip().replace(",", ".")
        return f"{shown} has a decimal comma; write {point}, or, if all have one, say --table decimal=comma"
    return f"{shown} is not a number (leave the cell empty where there is no value)"


def is_decimal_comma(cell: object) -> bool:
    """Whether a cell is a number with a comma in place of the point."""
    whole, comma, fraction = str(cell).strip().lstrip("+-").partition(",")
    return bool(comma) and whole.isdecimal() and fraction.isdecimal()


def _parse_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError):
        return np.nan


def check_scalars(values: NDArray, where: str, named: str, rows: Sequence[str]) -> None:
    """Raise DataError for the first cell that is neither text, a real number nor missing.

    Args:
        values: (N,) cells as Python objects.
        where: name of the modality in errors.
        named: name of the column in errors.
        rows: (N,) names of the rows in errors.
    """
    import pandas as pd

    allowed = (*SCALARS, type(pd.NA), type(pd.NaT))
    odd = {t for t in set(map(type, values)) if not issubclass(t, allowed)}
    if not odd:
        return
    for row, value in zip(rows, values):
        if type(value) not in odd:
            continue
        if is_time(value):
            raise DataError(f"{where}, {row}, {named} holds a date or time, {value}; {NO_DATES}")
        what = type(value).__name__
        hint = "; lists are read as a vector where they are the modality's only column" if what != "dict" else ""
        raise DataError(f"{where}, {row}, {named} holds a {what}; expected a number{hint}")


def vector_column(column: Any, where: str, rows: Sequence[str]) -> list[NDArray | None]:
    """Convert a column of lists to arrays.

    Args:
        column: (N,) lists or arrays of numbers with one length, or nested lists (T, C) with one C.
        where: name of the modality in errors.
        rows: (N,) names of the rows in errors.

    Returns:
        An array per row; None for a missing cell.

    Raises:
        DataError: a cell is no list of numbers, or vectors differ in length; names the row and both lengths.
    """
    import pandas as pd

    arrays: list[NDArray | None] = []
    first: NDArray | None = None
    first_row = ""
    for row, cell in zip(rows, column):
        if not isinstance(cell, NOT_ONE_VALUE) and pd.isna(cell):
            arrays.append(None)
            continue
        x = _to_vector(cell, f"{where}, {row}")
        arrays.append(x)
        if not x.size:
            continue
        if first is None:
            first, first_row = x, row
        if x.ndim == first.ndim == 1 and len(x) != len(first):
            raise DataError(
                f"{where}, {row} holds {len(x)} numbers, but {first_row} holds {len(first)}; lists in cells have "
                "one length (a signal that varies in length is stored as lists of lists, time steps by channels)"
            )
    return arrays


def _to_vector(cell: Any, where: str) -> NDArray:
    if not isinstance(cell, list | tuple | np.ndarray):
        raise DataError(f"{where}: {cell!r} is not a list of numbers, which other rows have")
    try:
        x = np.asarray(cell)
        if x.dtype == object:
            # Lists with gaps. Parquet gives nested lists as arrays of arrays.
            x = np.array([None if is_time(v) else np.asarray(v, np.float64) for v in x])
    except (TypeError, ValueError):
        x = np.zeros(0, object)
    if x.dtype.kind not in "fiub":
        raise DataError(f"{where}: a list of {len(cell)} values that are not numbers, or that differ in length")
    return x


# columns with a role -------------------------------------------------------------------------------------------------


def convert_role_column(values: NDArray, where: str, target: bool = False) -> NDArray:
    """Convert a target, group, split or id column to numbers, text or objects.

    Bytes are read as UTF-8 text.

    Args:
        values: (N, …) cells.
        where: name of the column in errors.
        target: whether it is a target, which may not hold dates.

    Returns:
        (N, …) numbers, text, or objects with missing values.

    Raises:
        DataError: cells with several values each, or dates or times as a target.
    """
    import pandas as pd

    if values.dtype.kind in "fiubU":
        return values
    if values.dtype.kind not in "mMSOT":
        raise DataError(f"{where} holds {values.dtype}; expected one value per row, a number or text")
    if values.dtype.kind in "mM":
        objects = pd.Series(values.ravel()).to_numpy(object).reshape(values.shape)
    else:
        objects = values.astype(object)
    flat = objects.ravel()
    # Cells are checked by type: there are few types and many cells.
    for t in set(map(type, flat)):
        if issubclass(t, bytes):
            decoded = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in flat]
            flat = np.array(decoded, object)
            objects = flat.reshape(values.shape)
        elif issubclass(t, NOT_ONE_VALUE):
            i = _find_type(flat, t)
            raise DataError(f"{where} holds a {t.__name__} in row {i}; expected one value per row, a number or text")
        elif target and t is not type(pd.NaT) and is_time(flat[_find_type(flat, t)]):
            raise DataError(
                f"{where} holds dates or times ({flat[_find_type(flat, t)]}); expected numbers or the names of "
                "classes. Give a time to predict as a number, for example in seconds"
            )
    return objects


def _find_type(values: NDArray, kind: type) -> int:
    """The position of the first value of this type."""
    return next(i for i, v in enumerate(values) if type(v) is kind)


def series_to_numpy(column: pd.Series) -> NDArray:
    """A pandas column as numpy; pandas' own missing values become None or NaN."""
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        column = column.astype(dtype.categories.dtype if not column.isna().any() else object)
        dtype = column.dtype
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_integer_dtype(dtype):
        kind = bool if pd.api.types.is_bool_dtype(dtype) else np.int64
        return column.to_numpy(object) if column.isna().any() else column.to_numpy(kind)
    if pd.api.types.is_float_dtype(dtype):
        return column.to_numpy(np.float64, na_value=np.nan)
    return column.to_numpy(object)
