"""Conversion and checks of the arrays that make a `Dataset`; each error names what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.rows import is_lazy, name_row, to_float32
from sidelight.errors import ConfigError, DataError, unknown
from sidelight.utils.images import compact

SPLITS = ("train", "select", "test")


def convert_input(x: Any, what: str) -> Any:
    """A modality's array with the dtype that a `Dataset` holds; `what` is its name in errors."""
    if is_lazy(x):
        return x
    if np.ndim(x) >= 4:
        # Images keep their stored dtype: in float32 they would take four times the memory.
        return compact(np.asarray(x))
    return np.ascontiguousarray(to_float32(np.asarray(x), what))


def convert_target(target: Any, task: str, what: str, n_names: int) -> Any:
    """A target with the dtype and shape that a `Dataset` holds for its task.

    Args:
        target: (N,) codes, (N,) or (N, K) values, or (N, H, W) codes of pixels.
        task: one of `TARGET_KINDS`; another one is treated as a regression and refused by `check_target`.
        what: name of the target in errors.
        n_names: K, for a regression without rows.

    Returns:
        (N,) int64, (N, K) float32, or (N, H, W) integers.
    """
    if task == "segmentation":
        if is_lazy(target):
            return target
        # −1 has to fit, so unsigned codes become signed.
        codes = np.asarray(target)
        return codes.astype(np.int32) if codes.dtype.kind == "u" else codes
    if task == "classification":
        return np.asarray(target, np.int64)
    values = to_float32(np.asarray(target), what)
    return values.reshape(len(values), -1) if len(values) else values.reshape(0, n_names)


def check_row_counts(name: str, n: int, per_row: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """Raise DataError for the first array that does not have one entry per row.

    Args:
        name: name of the data set.
        n: number of rows, that of the target.
        per_row: what errors call it -> (N,) array; None entries are skipped.
        inputs: modality -> (N, …) array or `LazyRows`.
    """
    for what, x in per_row.items():
        if x is not None and x.ndim != 1:
            raise DataError(f"{name}: {what} has shape {x.shape}; expected ({n},), one value per row")
    arrays = dict(per_row)
    for m, x in inputs.items():
        arrays[f"modality {m!r}"] = x
    for what, x in arrays.items():
        if x is not None and len(x) != n:
            raise DataError(f"{name}: {what} has {len(x)} rows, but the target has {n}; rows must be paired")


def check_times(name: str, time: NDArray | None, ids: NDArray) -> None:
    """Raise DataError for the first time that is not finite.

    Args:
        name: name of the data set.
        time: (N,) times; None: there are none.
        ids: (N,) ids, for errors.
    """
    if time is None:
        return
    for i in np.flatnonzero(~np.isfinite(time)):
        raise DataError(f"{name}: the time of {name_row(int(i), ids)} is {time[i]}; expected a number")


def check_ids(name: str, ids: NDArray) -> None:
    """Raise DataError for the first of (N,) ids that occurs twice."""
    values, counts = np.unique(ids, return_counts=True)
    if len(values) == len(ids):
        return
    # The first id in alphabetical order that is repeated, with its first rows.
    worst = int(np.argmax(counts > 1))
    rows = np.flatnonzero(ids == values[worst])[:4].tolist()
    raise DataError(f"{name}: id {str(values[worst])!r} occurs {counts[worst]} times (rows {rows}); ids must be unique")


def check_split(name: str, split: NDArray | None, ids: NDArray) -> None:
    """Raise DataError for the first entry that is none of `SPLITS`.

    Args:
        name: name of the data set.
        split: (N,) str; None: there is no official split.
        ids: (N,) ids, for errors.
    """
    if split is None:
        return
    for i in np.flatnonzero(~np.isin(split, SPLITS)):
        raise DataError(f"{name}: {name_row(int(i), ids)}: {unknown('split', split[i], SPLITS)}")


def check_image_sizes(name: str, inputs: Mapping[str, Any], size: tuple[int, ...]) -> None:
    """Raise DataError for images that do not have the pixels of a target with a class per pixel.

    Args:
        name: name of the data set.
        inputs: modality -> (N, …) array or `LazyRows`.
        size: (H, W) of the target.
    """
    for m, x in inputs.items():
        if x.ndim == 4 and x.shape[2:] != size:
            raise DataError(
                f"{name}: images of {m!r} are {x.shape[2]} × {x.shape[3]}, but the target has "
                f"{size[0]} × {size[1]} pixels; images are not resized: bring them to one size first, or say the size "
                f"to read files in: modalities: {{{m}: {{size: [{size[0]}, {size[1]}]}}}}"
            )


def check_columns(name: str, columns: Mapping[str, Sequence[str]], inputs: Mapping[str, Any]) -> None:
    """Raise DataError where column names do not fit the vectors of their modality.

    Args:
        name: name of the data set.
        columns: modality -> names of its columns.
        inputs: modality -> (N, …) array.
    """
    for m, names in columns.items():
        shape = inputs[m].shape
        if len(shape) != 2 or len(names) != shape[1]:
            raise DataError(f"{name}: {len(names)} column names for rows of {m!r} of shape {tuple(shape[1:])}")


def check_longest(modality: str, steps: int, shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless a signal's rows can be cut to so many time steps.

    Args:
        modality: its name.
        steps: time steps to keep.
        shape: shape of one row.
    """
    if steps < 1:
        raise ConfigError(f"longest: {modality!r} is to have {steps} time steps; expected at least 1")
    if len(shape) != 2:
        raise ConfigError(f"longest: rows of {modality!r} have shape {shape}; only signals (T, C) have time steps")


def resolve_modalities(
    name: str,
    inputs: Iterable[str],
    defaults: Mapping[str, Any],
    available: Iterable[str],
    privileged: Iterable[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The available and the privileged modalities; an empty list is taken from the data set's defaults.

    Args:
        name: name of the data set.
        inputs: the modalities that it has.
        defaults: its `default_modalities`.
        available: names of the modalities at deployment.
        privileged: names of the modalities in training only.

    Returns:
        (available, privileged).

    Raises:
        ConfigError: an empty list, a misspelt name, a name that occurs twice or in both lists.
    """
    known = list(inputs)
    purposes = {"available": "remain at deployment", "privileged": "teach in training only"}
    chosen: dict[str, list[str]] = {}
    for kind, given in (("available", list(available)), ("privileged", list(privileged))):
        for m in given:
            if m not in known:
                raise ConfigError(f"{kind}: {unknown('modality', m, known)}")
            if given.count(m) > 1:
                raise ConfigError(f"{kind}: modality {m!r} is given {given.count(m)} times")
        chosen[kind] = given or list(defaults.get(kind, []))

    for kind, names in chosen.items():
        if not names:
            raise ConfigError(
                f"no {kind} modality: name at least one that will {purposes[kind]}. {name} has: {', '.join(known)}"
            )
    for m in chosen["available"]:
        if m in chosen["privileged"]:
            raise ConfigError(f"{m!r} is in both lists; a modality is either available or privileged")
    return tuple(chosen["available"]), tuple(chosen["privileged"])
