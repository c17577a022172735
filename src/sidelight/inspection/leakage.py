"""Columns and modalities whose bare values say what a row's label is, or whose row it is; for `inspect`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.rows import read_into_memory
from sidelight.inspection.strength import Strength

PERFECT = 0.9995
"""A score that is printed as 1.000."""
NAMED = 5


def find_leaks(dataset: Dataset, seen: Dataset, strengths: tuple[Strength, ...]) -> list[str]:
    """A sentence on everything that may give the answer away.

    Args:
        dataset: all rows.
        seen: the same, or some of its rows, decoded.
        strengths: what `strengths` found.
    """
    out = [*_target(dataset), *_group_and_target(dataset)]
    for m in dataset.modalities:
        if len(seen) == len(dataset) or m not in dataset.lazy:
            out += _modality(dataset if m not in dataset.lazy else seen, m)
    for s in strengths:
        if len(s.modalities) == 1 and s.mean >= PERFECT:
            out.append(
                f"{s.modalities[0]} alone predicts the target without an error (1.000): check that it does not hold "
                "the target, or something that is only known with it"
            )
    return out


def _target(dataset: Dataset) -> list[str]:
    """Targets that have one value, altogether or in a part of the official split."""
    out = []
    if dataset.task == "regression":
        for k, name in enumerate(dataset.class_names):
            known = dataset.target[:, k][np.isfinite(dataset.target[:, k])]
            if len(known) and not np.ptp(known):
                out.append(f"target {name!r} is {known[0]:g} in every row that has one: there is nothing to learn")
    parts = [] if dataset.split is None else np.unique(dataset.split).tolist()
    for part in parts:
        rows = np.flatnonzero((dataset.split == part) & dataset.labelled)
        if len(rows) and len(classes := dataset.classes(rows)) == 1:
            out.append(
                f"every {part!r} row is of class {dataset.class_names[classes.pop()]!r}: nothing can be told there"
            )
    return out


def _group_and_target(dataset: Dataset) -> list[str]:
    """Groups that hold one class each."""
    if dataset.group is None or dataset.task != "classification":
        return []
    group, target = dataset.group[dataset.labelled], dataset.target[dataset.labelled]
    names, of_row = np.unique(group, return_inverse=True)
    if len(group) < 2 * len(names):
        return []
    constant, distinct = _one_value_each(target[:, None].astype(np.float64), of_row)
    if not constant[0]:
        return []
    if distinct[0]:
        return [
            "the group is one-to-one with the class: whole groups cannot be left out; another column names the group"
        ]
    return [
        "every group has rows of one class only: what tells groups apart tells classes apart, and with "
        "leave-one-group-out each test set has one class"
    ]


def _modality(dataset: Dataset, m: str) -> list[str]:
    """Columns of a modality (of signals and images: whole rows) that have one value per class, or per group."""
    out = []
    here = dataset.present[m] & dataset.labelled
    x = read_into_memory(dataset.inputs[m][here])
    target = read_into_memory(dataset.target[here])
    if dataset.task == "classification" and len(x):
        classes = np.unique(target, return_inverse=True)[1]
        out += _said(dataset, m, x, classes, "class", "it may be the target itself, or be made from it")
    if dataset.task == "regression" and x.ndim == 2:
        for k, name in enumerate(dataset.class_names):
            hit = _ordered_alike(x, target[:, k])
            if hit.any():
                columns = _columns(dataset, m, hit)
                out.append(f"{m}: {columns} in the very order of target {name!r}: it may be the target itself")
    if dataset.group is not None:
        here = dataset.present[m]
        groups = np.unique(dataset.group[here], return_inverse=True)[1]
        why = "a network may learn whose row it is instead of what it shows"
        out += _said(dataset, m, read_into_memory(dataset.inputs[m][here]), groups, "group", why)
    return out


def _said(dataset: Dataset, m: str, x: NDArray, codes: NDArray, what: str, why: str) -> list[str]:
    if len(x) < 2 * (codes.max(initial=0) + 1) or not codes.any():
        return []
    if x.ndim > 2:
        first = x[np.unique(codes, return_index=True)[1]]
        if not (x == first[codes]).reshape(len(x), -1).all() or (first == first[:1]).all():
            return []
        return [f"{m}: all rows of a {what} are the same: {why}"]
    constant, distinct = _one_value_each(x.astype(np.float64), codes)
    out = []
    for hit, how in ((constant & distinct, f"one-to-one with the {what}"), (constant & ~distinct, "")):
        if hit.any():
            names = _columns(dataset, m, hit)
            out.append(f"{m}: {names} {how or f'of one value in all rows of a {what}'}: {why}")
    return out


def _one_value_each(x: NDArray, codes: NDArray) -> tuple[NDArray, NDArray]:
    """(D,) bool: columns that vary and have one value in all rows of a code; columns with other ones for all codes."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    low, high = np.minimum.reduceat(x[order], starts), np.maximum.reduceat(x[order], starts)
    constant = (low == high).all(0) & (low.max(0) > low.min(0))
    distinct = np.asarray((np.diff(np.sort(low, 0), axis=0) > 0).all(0))
    return constant, distinct


def _ordered_alike(x: NDArray, y: NDArray) -> NDArray:
    """(D,) bool: columns that rise (or fall) where the target rises and are level where it is, or are a line of it."""
    known = np.isfinite(y)
    x, y = x[known].astype(np.float64), y[known].astype(np.float64)
    if len(y) < 10 or not np.ptp(y):
        return np.zeros(x.shape[1], bool)
    order = np.argsort(y, kind="stable")
    steps, rises = np.sign(np.diff(x[order], axis=0)), np.sign(np.diff(y[order]))[:, None]
    with np.errstate(all="ignore"):
        z = (x - x.mean(0)) / x.std(0)
        line = np.abs((z * ((y - y.mean()) / y.std())[:, None]).mean(0)) > 1 - 1e-9
    return np.asarray((steps == rises).all(0) | (steps == -rises).all(0) | line)


def _columns(dataset: Dataset, m: str, hit: NDArray) -> str:
    """`column 3 is`, `columns "age", "site" are`; of all: `every column is`."""
    at = np.flatnonzero(hit)
    if len(at) == len(hit) > 1:
        return "every column is"
    named = dataset.columns.get(m)
    names = [repr(named[i]) if named else str(i) for i in at[:NAMED]]
    more = f", … ({len(at)})" if len(at) > NAMED else ""
    return f"column{'s' * (len(at) > 1)} {', '.join(names)}{more} {'are' if len(at) > 1 else 'is'}"
