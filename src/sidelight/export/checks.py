"""Check the rows that a student is asked to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.modality_plan import ModalityPlan
from sidelight.data.preprocess import Preprocessor
from sidelight.data.rows import check_finite, name_row
from sidelight.errors import DataError, unknown

Arrays = dict[str, NDArray]


def check_inputs(
    inputs: Mapping[str, Any],
    lengths: Mapping[str, Any] | None,
    group: Any,
    preprocessor: Preprocessor,
    privileged: Sequence[str],
    ids: NDArray | None = None,
    completes: bool = False,
) -> tuple[Arrays, Arrays, Arrays, NDArray | None]:
    """Check the inputs of `Student.predict`.

    Args:
        inputs: modality -> array of rows.
        lengths: modality -> (N,) valid time steps.
        group: (N,) group of each row.
        preprocessor: the student's.
        privileged: names of modalities that must not be given.
        ids: (N,) names of the rows in errors.
        completes: whether modalities may be missing, and rows be NaN throughout, as long as each row has a modality.

    Returns:
        Inputs as float32 (images as they are stored), lengths of variable-length modalities as int64, (N,) masks of
        present rows for modalities that some rows lack, and groups as str (None if they are not needed).

    Raises:
        DataError: a privileged, unknown or missing modality, a wrong shape, rows that are not paired, NaN or infinity,
            impossible lengths, or missing groups.
    """
    plans = {m: preprocessor.plans[m] for m in preprocessor.modalities}
    if not isinstance(inputs, Mapping):
        raise DataError(
            f"predict needs an array per modality, {{{next(iter(plans))!r}: x}}, not a {type(inputs).__name__}"
        )
    _check_names(inputs, tuple(plans), privileged, completes)
    plans = {m: plan for m, plan in plans.items() if m in inputs}
    arrays = {m: _array(m, inputs[m], plan) for m, plan in plans.items()}
    n = len(next(iter(arrays.values())))
    for m, x in arrays.items():
        if len(x) != n:
            raise DataError(f"{m!r} has {len(x)} rows, but {next(iter(arrays))!r} has {n}; rows must be paired")
    names = np.arange(n) if ids is None else ids
    steps = _lengths(arrays, lengths or {}, plans, names)
    present = _present(arrays, steps, names) if completes else {}
    for m, x in arrays.items():
        gap = "; this student does not fill gaps (it was not trained with impute=mean)"
        check_finite(repr(m), x, names, preprocessor.impute == "mean", gap, steps.get(m), plans[m].columns)
    return arrays, steps, present, _groups(group, n, preprocessor)


def _check_names(inputs: Mapping[str, Any], reads: Sequence[str], privileged: Sequence[str], completes: bool) -> None:
    for m in inputs:
        if m in privileged:
            raise DataError(privileged_error(m, reads))
        if m not in reads:
            raise DataError(unknown("modality", m, reads))
    for m in reads:
        if m not in inputs and not (completes and inputs):
            raise DataError(
                f"{m!r} is missing: this student reads {', '.join(reads)}; got {', '.join(inputs) or 'nothing'}"
            )


def _present(arrays: Arrays, steps: Arrays, names: NDArray) -> Arrays:
    """Modality -> (N,) bool, for modalities that some rows lack; their rows become zeros in `arrays`."""
    here: Arrays = {}
    for m, x in arrays.items():
        missing = np.isnan(x) if x.dtype.kind == "f" else np.zeros_like(x, bool)
        if m in steps:
            missing |= (np.arange(x.shape[1]) >= steps[m][:, None])[:, :, None]
        nothing = np.asarray(missing.all(axis=tuple(range(1, x.ndim))))
        if nothing.any():
            arrays[m] = np.where(nothing.reshape(-1, *[1] * (x.ndim - 1)), x.dtype.type(0), x)
            here[m] = ~nothing
    bare = np.flatnonzero(~np.any([here.get(m, np.ones(len(x), bool)) for m, x in arrays.items()], axis=0))
    if len(bare):
        raise DataError(
            f"{name_row(int(bare[0]), names)} has none of {', '.join(arrays)} ({len(bare)} such rows): every value is "
            "NaN. Give at least one modality of every row, or leave these rows out"
        )
    return here


def privileged_error(modality: str, reads: Sequence[str]) -> str:
    """The error for a modality that only training uses."""
    return f"{modality!r} is a privileged modality: this student reads only {', '.join(reads)}"


def _image(x: NDArray, plan: ModalityPlan) -> NDArray:
    """Images as the preprocessor reads them, (N, C, H, W), also of (N, H, W, C) and, with one channel, (N, H, W)."""
    if x.ndim == 3 and plan.shape[0] == 1 and x.shape[1:] == plan.shape[1:]:
        return x[:, None]
    if x.ndim >= 4 and x.shape[1:] != plan.shape and x.shape[1:] == (*plan.shape[1:], plan.shape[0]):
        return np.moveaxis(x, -1, 1)
    return x


def _array(m: str, value: Any, plan: ModalityPlan) -> NDArray:
    try:
        with np.errstate(over="ignore"):
            x = _image(np.asarray(value), plan) if plan.image else value
            kept = x.dtype if plan.image and x.dtype in (np.uint8, np.float16) else np.float32
            x = np.require(x, kept, ["C", "W"])  # what torch can share memory with
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{m!r} is not an array of numbers: {error}") from None
    if plan.longest and x.ndim == 3 and not plan.variable and x.shape[1] > plan.shape[0]:
        x = np.ascontiguousarray(x[:, : plan.shape[0]])
    expected = ("rows", "steps" if plan.variable else plan.shape[0], *plan.shape[1:])
    fits = x.ndim == len(expected) and all(e in (s, "rows", "steps") for e, s in zip(expected, x.shape))
    if not fits or (plan.variable and x.shape[1] == 0):
        one = "; one row is x[None]" if x.shape == plan.shape else ""
        raise DataError(f"{m!r} has shape {x.shape}; expected ({', '.join(map(str, expected))}){one}")
    return x


def _lengths(arrays: Arrays, given: Mapping[str, Any], plans: Mapping[str, ModalityPlan], names: NDArray) -> Arrays:
    """The lengths of variable-length modalities; without given ones, rows are full."""
    for m in given:
        if m not in plans:
            raise DataError(f"lengths: {unknown('modality', m, plans)}")
    steps = {}
    for m, plan in plans.items():
        full = arrays[m].shape[1]
        n = np.full(len(arrays[m]), full) if given.get(m) is None else np.asarray(given[m])
        n = np.minimum(n, full) if plan.longest and not plan.variable else n
        if n.shape != arrays[m].shape[:1]:
            raise DataError(f"lengths of {m!r} have shape {n.shape}; expected ({len(arrays[m])},), one per row")
        if plan.variable:
            for i in np.flatnonzero((n < 1) | (n > full)):
                raise DataError(
                    f"{m!r}, {name_row(int(i), names)}: length {n[i]} is not between 1 and {full} time steps"
                )
            steps[m] = n.astype(np.int64)
        else:
            for i in np.flatnonzero(n != full):
                raise DataError(f"{m!r}, {name_row(int(i), names)}: {n[i]} time steps, but every row must have {full}")
    return steps


def _groups(group: Any, n: int, preprocessor: Preprocessor) -> NDArray | None:
    if preprocessor.standardize != "group":
        return None
    if group is None:
        raise DataError(
            "this student standardises each group (person, session) by its own rows: give group=[…], with several rows "
            "of each new group"
        )
    names = np.asarray(group).astype(str)
    if names.shape != (n,):
        raise DataError(f"group has shape {names.shape}; expected ({n},), one name per row")
    return names
