"""Columns and modalities whose values reveal the label or the group of a row, or mean "no value", for `inspect`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.rows import iterate_slices, read_into_memory
from sidelight.inspection.strength import Strength

PERFECT = 0.9995
"""A score that is printed as 1.000."""
NAMED = 5
"""Columns that are named in a sentence."""
SHOWN = 3
"""Values that are shown in a sentence."""
FAR = 10
"""A value that is more than this many standard deviations from the mean of the others is no measurement."""
OFTEN = 0.2
"""More than this share of the rows would not share a value that is none."""
ENOUGH = 10
"""Rows that have to show what a sentence says."""


def find_leaks(dataset: Dataset, decoded: Dataset, strengths: tuple[Strength, ...]) -> list[str]:
    """Find everything that may give the answer away.

    Args:
        dataset: all rows.
        decoded: the same, or some of its rows, decoded.
        strengths: the scores from `compute_strengths`.

    Returns:
        A sentence for each finding.
    """
    out = [*_check_target(dataset), *_check_groups(dataset)]
    for m in dataset.modalities:
        # A sample of files cannot show that a value is the same in all rows.
        if m not in dataset.lazy:
            out += _check_modality(dataset, m)
        elif len(decoded) == len(dataset):
            out += _check_modality(decoded, m)
    for s in strengths:
        if len(s.modalities) == 1 and s.mean >= PERFECT:
            out.append(
                f"{s.modalities[0]} alone predicts the target without an error (1.000): check that it does not hold "
                "the target, or something that is only known with it"
            )
    return out


def _check_target(dataset: Dataset) -> list[str]:
    """Targets with a single value, in all rows or in a part of the official split."""
    out = []
    if dataset.task == "regression":
        for k, name in enumerate(dataset.class_names):
            known = dataset.target[:, k][np.isfinite(dataset.target[:, k])]
            if len(known) and not np.ptp(known):
                out.append(f"target {name!r} is {known[0]:g} in every row that has one: nothing can be learnt")
    parts = [] if dataset.split is None else np.unique(dataset.split).tolist()
    for part in parts:
        rows = np.flatnonzero((dataset.split == part) & dataset.labelled)
        if len(rows) and len(classes := dataset.classes(rows)) == 1:
            out.append(
                f"every {part!r} row is of class {dataset.class_names[classes.pop()]!r}: a score there means nothing"
            )
    return out


def _check_groups(dataset: Dataset) -> list[str]:
    """Groups with rows of one class each."""
    if dataset.group is None or dataset.task != "classification":
        return []
    group, target = dataset.group[dataset.labelled], dataset.target[dataset.labelled]
    names, of_row = np.unique(group, return_inverse=True)
    # With a single row in most groups, constancy within groups means nothing.
    if len(group) < 2 * len(names):
        return []
    constant, distinct = _find_constant_columns(target[:, None], np.arange(len(target)), of_row)
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


def _check_modality(dataset: Dataset, m: str) -> list[str]:
    """Columns of a modality, or whole signals and images, with one value per class or per group."""
    out = []
    x = read_into_memory(dataset.inputs[m])
    usable = np.flatnonzero(dataset.present[m] & dataset.labelled)
    if dataset.task == "classification" and len(usable):
        classes = np.unique(dataset.target[usable], return_inverse=True)[1]
        why = "it may be the target itself, or be made from it"
        out += _describe_leaks(dataset, m, x, usable, classes, "class", why)
    if dataset.task == "regression" and x.ndim == 2:
        for k, name in enumerate(dataset.class_names):
            hit = _find_same_order(x, usable, dataset.target[usable, k])
            if hit.any():
                columns = _name_columns(dataset, m, hit)
                out.append(f"{m}: {columns} in the very order of target {name!r}: it may be the target itself")
    if x.ndim == 2:
        out += _check_values(dataset, m, x)
    if dataset.group is not None:
        present = np.flatnonzero(dataset.present[m])
        groups = np.unique(dataset.group[present], return_inverse=True)[1]
        why = "a network may learn whose row it is instead of what it shows"
        out += _describe_leaks(dataset, m, x, present, groups, "group", why)
    return out


def _check_values(dataset: Dataset, m: str, x: NDArray) -> list[str]:
    """Columns of vectors that count the rows, or hold one far value again and again."""
    counts = _find_counters(dataset, m, x)
    far, examples, present = np.zeros(x.shape[1], bool), [], dataset.present[m]
    for k in range(x.shape[1]):
        # One column at a time: a copy of all of them may not fit into memory.
        if found := _find_far_value(x[:, k] if present.all() else x[present, k]):
            far[k] = True
            examples.append("{:g} in {} rows, the others {:.3g} to {:.3g}".format(*found))
    out = []
    if counts.any():
        where = "" if dataset.group is None else " of a group"
        out.append(
            f"{m}: {_name_columns(dataset, m, counts)} rising or falling from each row{where} to the next: it may be a "
            "time or a counter, and predict what changes with time"
        )
    if far.any():
        out.append(
            f"{m}: {_name_columns(dataset, m, far)} far from the other values in several rows alike "
            f"({'; '.join(examples[:SHOWN])}{'; …' * (len(examples) > SHOWN)}): if that means 'no value', leave these "
            "cells empty"
        )
    return out


def _find_counters(dataset: Dataset, m: str, x: NDArray) -> NDArray:
    """(D,) bool: columns of (N, D) that rise, or fall, from each row to the next of the same group."""
    present, group = dataset.present[m], dataset.group
    following = present[1:] & present[:-1]
    if group is not None:
        following &= group[1:] == group[:-1]
    rising, falling = np.ones((2, x.shape[1]), bool)
    # Rows of other groups between those of one group leave few pairs, which show nothing.
    if following.sum() <= max(ENOUGH, present.sum() // 2):
        return ~rising
    for some in iterate_slices(x):
        part = x[some.start : some.stop + 1]
        steps = np.diff(part, axis=0)[following[some.start : some.start + len(part) - 1]]
        rising &= (steps > 0).all(0)
        falling &= (steps < 0).all(0)
        if not (rising | falling).any():
            break
    return rising | falling


def _find_far_value(column: NDArray) -> tuple[float, int, float, float] | None:
    """The lowest or highest value of (n,), where several rows but not many have it, and it is far from all others.

    Returns:
        The value, the number of its rows, and the lowest and highest of the others.
    """
    known = column[np.isfinite(column)]
    for value in map(float, (known.min(), known.max()) if len(known) > ENOUGH else ()):
        times = int(np.count_nonzero(known == value))
        if not 2 <= times <= OFTEN * len(known) or len(known) - times <= ENOUGH:
            continue
        others = known[known != value]
        low, high = float(others.min()), float(others.max())
        apart = low - value if value < low else value - high
        if apart > high - low > 0 and abs(value - others.mean(dtype=float)) > FAR * others.std(dtype=float):
            return value, times, low, high
    return None


def _describe_leaks(
    dataset: Dataset, m: str, x: NDArray, rows: NDArray, codes: NDArray, what: str, why: str
) -> list[str]:
    """Sentences about the `rows` (n,) of x (N, …), whose class or group has the number in `codes` (n,)."""
    if len(rows) < 2 * (codes.max(initial=0) + 1) or not codes.any():
        return []
    if x.ndim > 2:
        same, first = _find_same_columns(x, rows, codes)
        varies = bool((x[first] != x[first[:1]]).any())
        return [f"{m}: all rows of a {what} are the same: {why}"] if same.all() and varies else []
    constant, distinct = _find_constant_columns(x, rows, codes)
    out = []
    for hit, how in ((constant & distinct, f"one-to-one with the {what}"), (constant & ~distinct, "")):
        if hit.any():
            names = _name_columns(dataset, m, hit)
            out.append(f"{m}: {names} {how or f'constant within every {what}'}: {why}")
    return out


def _find_constant_columns(x: NDArray, rows: NDArray, codes: NDArray) -> tuple[NDArray, NDArray]:
    """(D,) bool: columns that vary but have one value in all rows of a code; and those that also differ for all codes.

    Args:
        x: (N, D).
        rows: (n,) the rows that count.
        codes: (n,) their codes.
    """
    same, first = _find_same_columns(x, rows, codes)
    constant, distinct = np.zeros((2, len(same)), bool)
    for k in np.flatnonzero(same):
        values = np.unique(x[first, k])
        constant[k], distinct[k] = len(values) > 1, len(values) == len(first)
    return constant, distinct


def _find_same_columns(x: NDArray, rows: NDArray, codes: NDArray) -> tuple[NDArray, NDArray]:
    """(D,) bool, the columns with one value in all rows of a code, and the first row of each code.

    Of signals and images every value of a row is a column. Arguments are those of `_find_constant_columns`.
    """
    first = rows[np.unique(codes, return_index=True)[1]]
    same = np.ones(int(np.prod(x.shape[1:])), bool)
    for some in iterate_slices(x):
        at = rows[some]
        # Most columns differ soon, and are not looked at again.
        if len(at) and same.any():
            own, other = (x[i].reshape(len(at), -1)[:, same] for i in (at, first[codes[some]]))
            same[same] = (own == other).all(0)
    return same, first


def _find_same_order(x: NDArray, rows: NDArray, y: NDArray) -> NDArray:
    """(D,) bool: columns in the order of the target (or the reverse), with equal ties, or a linear function of it.

    Args:
        x: (N, D).
        rows: (n,) the rows that count.
        y: (n,) their target.
    """
    known = np.isfinite(y)
    rows, y = rows[known], y[known].astype(np.float64)
    found = np.zeros(x.shape[1], bool)
    if len(y) < 10 or not np.ptp(y):
        return found
    order = np.argsort(y, kind="stable")
    rises, standard = np.sign(np.diff(y[order])), (y - y.mean()) / y.std()
    for k in range(x.shape[1]):
        column = x[rows, k].astype(np.float64)
        steps = np.sign(np.diff(column[order]))
        with np.errstate(all="ignore"):
            line = np.abs(((column - column.mean()) / column.std() * standard).mean()) > 1 - 1e-9
        found[k] = (steps == rises).all() or (steps == -rises).all() or line
    return found


def _name_columns(dataset: Dataset, m: str, hit: NDArray) -> str:
    """`column 3 is`, `columns 'age', 'site' are`, or `every column is`."""
    at = np.flatnonzero(hit)
    if len(at) == len(hit) > 1:
        return "every column is"
    named = dataset.columns.get(m)
    names = [repr(named[i]) if named else str(i) for i in at[:NAMED]]
    more = f", … ({len(at)})" if len(at) > NAMED else ""
    return f"column{'s' * (len(at) > 1)} {', '.join(names)}{more} {'are' if len(at) > 1 else 'is'}"
