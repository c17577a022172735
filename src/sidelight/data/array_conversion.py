"""Conversion of arrays, tensors and nested lists to numpy; everything else is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.conversion import numeric_column, series_to_numpy
from sidelight.errors import DataError


def to_numpy(value: Any, where: str) -> NDArray:
    """Convert an array, a tensor, a pandas column or nested lists to numpy; masked values become NaN or None.

    Raises:
        DataError: the value is no array of real numbers or text, such as ragged lists, a sparse matrix, a tensor with
            a gradient, complex numbers, or an array with fields.
    """
    import pandas as pd

    # Tensors are recognised without importing torch.
    if hasattr(value, "detach"):
        return _tensor_to_numpy(value, where)
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
        raise DataError(f"{where} is not an array: {e}") from None
    if array.dtype.kind == "c":
        raise DataError(f"{where} holds {array.dtype}; expected real numbers")
    if array.dtype.names:
        raise DataError(f"{where} has the fields {', '.join(array.dtype.names)}; give one array for each of them")
    return array


def _tensor_to_numpy(x: Any, where: str) -> NDArray:
    if x.requires_grad:
        raise DataError(f"{where} is a tensor with a gradient, which data do not have; give its .detach()")
    if x.layout.__str__() != "torch.strided" or x.is_quantized:
        raise DataError(f"{where} is a sparse or quantized tensor; give its .to_dense() or .dequantize()")
    if x.is_complex():
        raise DataError(f"{where} holds {x.dtype}; expected real numbers")
    try:
        x = x.detach().cpu().resolve_neg()
        return np.asarray((x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy())
    except (RuntimeError, TypeError) as e:  # a tensor without storage, or of a dtype unknown to numpy
        raise DataError(f"{where} is a tensor without values for an array: {e}") from None


def objects_to_float(array: NDArray, where: str) -> NDArray[np.float64]:
    """An array of Python objects as float64 with NaN for missing values; raises DataError naming any other row."""
    import pandas as pd

    flat = pd.Series(array.ravel(), dtype=object)
    per_row = max(flat.size // max(len(array), 1), 1)
    rows = [f"row {i // per_row}" for i in range(flat.size)]
    return numeric_column(flat, where, rows, "a cell").reshape(array.shape)
