"""MATLAB files: up to v7 by scipy, v7.3 (HDF5) by h5py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError
from sidelight.formats.content import Content
from sidelight.utils.extras import optional
from sidelight.utils.files import check_file

RATE = r"(fs|sr|s_?rate|s_?freq|fsample|samp(le|les|ling)?_?(rate|freq|frequency))"
"""Names of variables that hold a sampling rate, of all that stands beside them."""
SEVERAL = -1.0
"""In place of a rate where variables contradict one another."""
Signals = dict[str, tuple[NDArray, float | None]]
"""Name -> (array, sampling rate in Hz)."""


def load_mat(path: str | Path) -> dict[str, Any]:
    """Load the variables of a MATLAB file.

    Args:
        path: the file, of any version from 4 to 7.3.

    Returns:
        Name -> array in MATLAB's shape; logical arrays are bool, so that they mask; structs are dicts (lists of dicts
        if there are several), cell arrays lists, text str. Objects of classes and functions are left out.

    Raises:
        DataError: the file is missing, truncated or no MATLAB file.
        RunError: h5py is not installed (v7.3).
    """
    path = check_file(path)
    with path.open("rb") as file:
        head = file.read(1024)
    if b"\x89HDF\r\n" in head[:8] or b"\x89HDF\r\n" in head[512:520]:
        h5py = optional("h5py", "recordings", "reading MATLAB files of version 7.3")
        with h5py.File(path, "r") as file:
            return {name: _from_hdf5(h5py, file, file[name]) for name in file if not name.startswith("#")}
    from scipy.io import loadmat

    # With mat_dtype logical arrays are bool; without it they are numbers, and a mask of them takes rows 1, 0, 1.
    found = loadmat(path, mat_dtype=True, struct_as_record=False)
    return {name: _from_scipy(x) for name, x in found.items() if not name.startswith("__")}


def _from_scipy(x: Any) -> Any:
    if hasattr(x, "_fieldnames"):
        return {name: _from_scipy(getattr(x, name)) for name in x._fieldnames}
    if isinstance(x, np.ndarray) and x.dtype.kind == "O":
        items = [_from_scipy(one) for one in x.reshape(-1, order="F")]
        return items[0] if len(items) == 1 and isinstance(items[0], dict) else items
    if isinstance(x, np.ndarray) and x.dtype.kind in "US":
        return str(x.reshape(-1)[0]) if x.size == 1 else [str(one) for one in x.reshape(-1)]
    return x if isinstance(x, np.ndarray) and x.dtype.kind in "fiubc" else None


def _from_hdf5(h5py: Any, file: Any, x: Any) -> Any:
    if isinstance(x, h5py.Group):
        if "MATLAB_sparse" in x.attrs:
            return None
        return {name: _from_hdf5(h5py, file, x[name]) for name in x}
    kind = x.attrs.get("MATLAB_class", b"double").decode()
    if x.attrs.get("MATLAB_empty", 0):
        return "" if kind == "char" else [] if kind == "cell" else np.zeros([int(n) for n in x[()]])
    if x.dtype == h5py.ref_dtype:
        # A cell array, or the elements of a field of several structs.
        return [_from_hdf5(h5py, file, file[ref]) for ref in x[()].T.reshape(-1, order="F")]
    values = x[()].T  # HDF5 counts the last axis first
    if kind == "char":
        return "".join(map(chr, values.reshape(-1, order="C").tolist()))
    if values.dtype.names:  # complex numbers
        return values["real"] + 1j * values["imag"]
    return values.astype(bool) if kind == "logical" else values


def read(content: Content) -> None:
    found = load_mat(content.path)
    signals: Signals = {}
    _collect(found, "", None, signals)
    for name, (x, rate) in signals.items():
        if content.names is not None and name not in content.names:
            content.found.append(name)
            continue
        rate = content.rate or rate
        if rate == SEVERAL:
            raise DataError(
                f"{content.path}: the numbers beside {name!r} name several sampling rates; name the right one (rate=…)"
            )
        if rate is None:
            raise ConfigError(
                f"{content.path}: nothing beside {name!r} says its sampling rate (a variable fs, srate, …); name it "
                "(rate=…)"
            )
        # The longer axis is time; MATLAB users store signals as rows and as columns.
        content.add(name, x.T if x.shape[0] < x.shape[1] else x, rate=rate)
    if not signals:
        raise DataError(f"{content.path} holds no signal; its variables are {sorted(found)}")


def _collect(node: dict[str, Any], prefix: str, rate: float | None, out: Signals) -> None:
    """Collect the signals of a struct: real arrays of two or more samples, with the rate that holds for them."""
    numbers = {n: float(x.reshape(-1)[0]) for n, x in node.items() if _is_real(x) and x.size == 1}
    common = {x for n, x in numbers.items() if re.fullmatch(RATE, n, re.I)}
    if common:
        rate = common.pop() if len(common) == 1 else SEVERAL
    for name, x in node.items():
        if isinstance(x, dict):
            _collect(x, f"{prefix}{name}.", rate, out)
        elif isinstance(x, list):
            _collect({f"{name}{i + 1}": one for i, one in enumerate(x)}, prefix, rate, out)
        elif _is_real(x) and x.ndim == 2 and max(x.shape) > 1 and min(x.shape):
            # A rate that is named after the signal, such as fs_eda or eda_fs, holds for it alone.
            own = rf"{RATE}_?{re.escape(name)}|{re.escape(name)}_?{RATE}"
            out[prefix + name] = x, next((v for n, v in numbers.items() if re.fullmatch(own, n, re.I)), rate)


def _is_real(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind in "fiub"
