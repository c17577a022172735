"""Columns and arrays as numbers, vectors or names, whatever a table or a dict holds; what is neither is refused."""

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
NO_DATES = "a number is expected: leave it out, or give seconds, for example (t - t.min()).dt.total_seconds()"


def is_time(value: Any) -> bool:
    """Whether a cell is a date, a time, a span of time or an interval."""
    import pandas as pd

    return isinstance(
        value,
        datetime.date | datetime.time | datetime.timedelta | np.datetime64 | np.timedelta64 | pd.Period | pd.Interval,
    )


def find_first_value(column: Any) -> Any:
    """The first cell that is not missing; None where all are."""
    import pandas as pd

    return next((v for v in column if isinstance(v, NOT_ONE_VALUE) or not pd.isna(v)), None)


def has_lists(column: pd.Series) -> bool:
    """Whether some cell of a column is a list or an array."""
    import pandas as pd

    dtype = column.dtype
    if not isinstance(dtype, pd.ArrowDtype) and dtype.kind != "O":
        return False
    return any(issubclass(t, list | tuple | np.ndarray) for t in set(map(type, column)))


# features ------------------------------------------------------------------------------------------------------------


def numeric_column(column: pd.Series, where: str, rows: Sequence[str], named: str = "") -> NDArray[np.float64]:
    """(N,) float64 of a feature column, NaN where a cell has no value.

    Args:
        column: numbers, truth values or text.
        where: how errors call the modality.
        rows: (N,) how they call each row.
        named: how they call the column; left out: by its name.

    Raises:
        DataError: the column holds dates or times, or a cell is no number.
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
    try:
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    except OverflowError:  # a whole number of hundreds of digits
        values = np.array([_float(v) for v in column])
    for i in np.flatnonzero(np.isnan(values) & ~missing(column))[:1].tolist():
        raise DataError(f"{where}, {rows[i]}, {named}: {describe_non_number(column.iloc[i])}")
    for i in np.flatnonzero(np.isinf(values)).tolist():
        if "inf" not in str(column.iloc[i]).lower():
            raise DataError(f"{where}, {rows[i]}, {named}: {str(column.iloc[i])[:40]} is too large for float32")
    return values


def describe_non_number(cell: object) -> str:
    """The sentence for a cell that should be a number."""
    shown = repr(cell) if len(repr(cell)) <= 60 else repr(cell)[:57] + "…"
    if is_decimal_comma(cell):
        return f"{shown} has a decimal comma; write {str(cell).strip().replace(',', '.')}"
    return f"{shown} is not a number (leave the cell empty where there is no value)"


def is_decimal_comma(cell: object) -> bool:
    """Whether a cell is a number but for a comma in the place of its point."""
    whole, comma, fraction = str(cell).strip().lstrip("+-").partition(",")
    return bool(comma) and whole.isdecimal() and fraction.isdecimal()


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError):
        return np.nan


def check_scalars(values: NDArray, where: str, named: str, rows: Sequence[str]) -> None:
    """Raises DataError for the first cell that is neither text, a real number nor missing."""
    import pandas as pd

    plain = (str, int, float, np.integer, np.floating, np.bool_, Decimal, type(None), type(pd.NA), type(pd.NaT))
    odd = {t for t in set(map(type, values)) if not issubclass(t, plain)}
    for i in (i for i, v in enumerate(values if odd else ()) if type(v) in odd):
        if is_time(values[i]):
            raise DataError(f"{where}, {rows[i]}, {named} holds a date or time, {values[i]}; {NO_DATES}")
        what = type(values[i]).__name__
        alone = "; lists are read as a vector where they are the modality's only column" if what != "dict" else ""
        raise DataError(f"{where}, {rows[i]}, {named} holds a {what}; expected a number{alone}")


def vector_column(column: Any, where: str, rows: Sequence[str]) -> list[NDArray | None]:
    """The list in each cell as an array, None where there is none.

    Args:
        column: (N,) lists or arrays of numbers of one length, or nested lists, (T, C) with one C.
        where: how errors call the modality.
        rows: (N,) how they call each row.

    Raises:
        DataError: a cell is no list of numbers, or vectors differ in length; it names the row and both lengths.
    """
    import pandas as pd

    arrays: list[NDArray | None] = []
    first = -1
    for i, cell in enumerate(column):
        if not isinstance(cell, NOT_ONE_VALUE) and pd.isna(cell):
            arrays.append(None)
            continue
        x = _vector(cell, f"{where}, {rows[i]}")
        arrays.append(x)
        if first < 0 and x.size:
            first = i
        one = arrays[first]
        if x.size and one is not None and x.ndim == one.ndim == 1 and len(x) != len(one):
            raise DataError(
                f"{where}, {rows[i]} holds {len(x)} numbers, but {rows[first]} holds {len(one)}; lists in cells have "
                "one length (a signal that varies in length is stored as lists of lists, time steps by channels)"
            )
    return arrays


def _vector(cell: Any, where: str) -> NDArray:
    if not isinstance(cell, list | tuple | np.ndarray):
        raise DataError(f"{where}: {cell!r} is not a list of numbers, which other rows have")
    try:
        x = np.asarray(cell)
        if x.dtype == object:  # lists with gaps; Parquet gives nested lists as arrays of arrays
            rows = [np.asarray(v, np.float64) if not is_time(v) else None for v in x]
            x = np.array(rows)
    except (TypeError, ValueError):
        x = np.zeros(0, object)
    if x.dtype.kind not in "fiub":
        raise DataError(f"{where}: a list of {len(cell)} values that are no numbers, or of different lengths")
    return x


# columns with a role -------------------------------------------------------------------------------------------------


def convert_role_column(values: NDArray, where: str, target: bool = False) -> NDArray:
    """(N, …) the values of a target, group, split or id column as numbers, text or objects with missing ones.

    Bytes are read as UTF-8 text.

    Raises:
        DataError: cells that hold several values each; dates or times as a target.
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
    for t in set(map(type, flat)):
        if issubclass(t, bytes):
            decoded = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in flat]
            flat = np.array(decoded, object)
            objects = flat.reshape(values.shape)
        elif issubclass(t, NOT_ONE_VALUE):
            i = next(i for i, v in enumerate(flat) if type(v) is t)
            raise DataError(f"{where} holds a {t.__name__} in row {i}; expected one value per row, a number or text")
        elif target and t is not type(pd.NaT) and is_time(v := next(v for v in flat if type(v) is t)):
            raise DataError(
                f"{where} holds dates or times ({v}); expected numbers or the names of classes. A time to predict is "
                "given as a number, for example in seconds"
            )
    return objects


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


# arrays --------------------------------------------------------------------------------------------------------------


def to_numpy(value: Any, where: str) -> NDArray:
    """numpy of an array, a tensor, a pandas column or nested lists; what is masked becomes NaN or None.

    Raises:
        DataError: no array of real numbers or text: ragged lists, a sparse matrix, a tensor with a gradient, complex
            numbers, fields.
    """
    import pandas as pd

    if hasattr(value, "detach"):
        return _tensor(value, where)
    if hasattr(value, "toarray"):
        raise DataError(f"{where} is a sparse matrix; give its .toarray()")
    if isinstance(value, np.ma.MaskedArray):
        value, mask = value.data, np.ma.getmaskarray(value)
        if mask.any() and not mask.dtype.names:
            number = value.dtype.kind in "fiub"
            value = np.where(mask, np.nan if number else None, value if number else value.astype(object))
    if isinstance(value, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        value = series_to_numpy(pd.Series(value))
    elif isinstance(value, pd.DataFrame) and all(map(pd.api.types.is_numeric_dtype, value.dtypes)):
        value = value.to_numpy(np.float64, na_value=np.nan)
    try:
        array = np.asarray(value)
        if array.dtype.kind in "US" and array.ndim == 1 and not all(isinstance(v, str | bytes) for v in value):
            array = np.array(list(value), object)  # numpy would write numbers and gaps as text
    except (ValueError, TypeError, OverflowError, RuntimeError) as e:  # rows of different lengths, odd tensors
        raise DataError(f"{where} is no array: {e}") from None
    if array.dtype.kind == "c":
        raise DataError(f"{where} holds {array.dtype}; expected real numbers")
    if array.dtype.names:
        raise DataError(f"{where} has the fields {', '.join(array.dtype.names)}; give one array for each of them")
    return array


def _tensor(x: Any, where: str) -> NDArray:
    if x.requires_grad:
        raise DataError(f"{where} is a tensor with a gradient, which data do not have; give its .detach()")
    if x.layout.__str__() != "torch.strided" or x.is_quantized:
        raise DataError(f"{where} is a sparse or quantized tensor; give its .to_dense() or .dequantize()")
    if x.is_complex():
        raise DataError(f"{where} holds {x.dtype}; expected real numbers")
    try:
        x = x.detach().cpu().resolve_neg()
        return np.asarray((x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy())
    except (RuntimeError, TypeError) as e:  # a tensor without storage, or of a type that numpy has not
        raise DataError(f"{where} is a tensor that has no values as an array: {e}") from None


def objects_to_float(array: NDArray, where: str) -> NDArray[np.float64]:
    """float64 of an array of Python objects, NaN where one is missing; raises DataError naming the row otherwise."""
    import pandas as pd

    flat = pd.Series(array.ravel(), dtype=object)
    per_row = max(flat.size // max(len(array), 1), 1)
    rows = [f"row {i // per_row}" for i in range(flat.size)]
    return numeric_column(flat, where, rows, "a cell").reshape(array.shape)
