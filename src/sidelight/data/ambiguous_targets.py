"""Targets that probably mean something else than they seem: refused where no reading is right, otherwise a warning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sidelight.data.conversion import is_decimal_comma
from sidelight.data.raw import Raw, is_empty
from sidelight.data.rows import name_row
from sidelight.data.similar_names import warn_similar_names
from sidelight.errors import DataError, SidelightWarning

MOSTLY = 0.5
"""The share of numbers from which on the words in a target are examined."""
MANY_NUMBERS = 30
"""More different numbers than this are a quantity, not classes."""


def check_class_names(raw: Raw) -> None:
    """Raise DataError for an empty or repeated class name; warn of similar ones."""
    for code, name in enumerate(raw.class_names):
        if not name.strip():
            raise DataError(f"{raw.name}: class {code} has an empty name in class_names; every class needs one")
        count = raw.class_names.count(name)
        if count > 1:
            raise DataError(
                f"{raw.name}: class name {name!r} occurs {count} times in class_names; every class needs its own"
            )
    warn_similar_names(raw.name, "class_names", raw.class_names, "class", "")


def parse_numbers(values: NDArray) -> NDArray | None:
    """(N,) float64 with NaN for empty values; None if a value is not a number."""
    filled = ~is_empty(values)
    numbers = np.full(len(values), np.nan)
    try:
        numbers[filled] = np.asarray(values[filled]).astype(np.float64)
    except (TypeError, ValueError):
        return None
    return numbers


def check_not_one_hot(raw: Raw, columns: Mapping[str, NDArray]) -> None:
    """Raise DataError for several target columns that are one-hot classes; warn of columns of 0 and 1."""
    numbers = list(map(parse_numbers, columns.values()))
    if any(x is None for x in numbers):
        return  # the conversion to values names the cell
    x = np.stack(numbers, 1)  # type: ignore[arg-type]
    x = x[~np.isnan(x).any(1)]
    if not len(x) or not np.isin(x, (0, 1)).all():
        return

    if (x.sum(1) == 1).all():
        raise DataError(
            f"{raw.name}: the targets {', '.join(columns)} are one-hot, a single 1 in each row; give one column of "
            "class codes or names, for example y.argmax(1). If they are quantities, set task='regression'"
        )
    warnings.warn(
        f"{raw.name}: the targets {', '.join(columns)} hold only 0 and 1 and are read as quantities (regression); "
        "several classes at once are not supported.",
        SidelightWarning,
        stacklevel=2,
    )


def check_mixed_words(raw: Raw, name: str, values: NDArray, ids: NDArray) -> None:
    """Examine a target of numbers and a few words before it is read as classes.

    Numbers with a fraction are no classes: an error. Whole numbers beside a word ("0", "1", "other") may be: a warning.

    Args:
        raw: the reader's result.
        name: the target column.
        values: (N,) its cells.
        ids: (N,) ids, for errors.

    Raises:
        DataError: most cells are numbers with a fraction.
    """
    known = np.flatnonzero(~is_empty(values))
    # A column of classes has few different cells, so each different cell is parsed once.
    keys = [(type(values[i]), str(values[i]).strip()) for i in known]
    first_row: dict[tuple[type, str], int] = {}
    for key, i in zip(keys, known.tolist()):
        first_row.setdefault(key, i)
    parsed = {key: parse_numbers(values[i : i + 1]) for key, i in first_row.items()}

    is_comma = np.array([is_decimal_comma(text) for _, text in keys])
    is_number = np.array([parsed[key] is not None for key in keys]) | is_comma
    is_bool = np.array([kind in (bool, np.bool_) for kind, _ in keys])
    share = float((is_number & ~is_bool).mean())
    odd = known[~is_number | is_comma]
    if share < MOSTLY or not len(odd):
        return

    numbers = np.array([float(x[0]) for x in parsed.values() if x is not None])
    finite = numbers[np.isfinite(numbers)]
    fraction = is_comma.any() or bool((finite != np.round(finite)).any()) or len(set(numbers.tolist())) > MANY_NUMBERS
    first = int(odd[0])
    cell = f"{raw.name}: {name_row(first, ids)}: target {name!r} is {values[first]!r}"
    if fraction:
        comma = is_decimal_comma(values[first])
        advice = (
            "write decimals with a point, or say --table decimal=comma"
            if comma
            else "leave the cell empty if it has no value"
        )
        raise DataError(
            f"{cell}, but {share:.0%} of its cells are numbers; {advice}. If all of them are classes, set "
            "task='classification'"
        )
    warnings.warn(
        f"{cell} and is read as a class, but {share:.0%} of its cells are whole numbers. If it means 'no label', "
        "leave the cell empty.",
        SidelightWarning,
        stacklevel=2,
    )


def unlabel_minus_one(raw: Raw, name: str, numbers: NDArray, labelled: NDArray) -> NDArray:
    """Read −1 as "no label" where it stands beside the class codes 0, 1, … without a gap.

    `Dataset`, `signals.cut` and targets with `class_names` read −1 in the same way. `Raw.labelled` overrides it. Warns
    of every −1, except in the two classes −1 and 1.

    Args:
        raw: the reader's result.
        name: the target column.
        numbers: (N,) its values.
        labelled: (N,) bool, rows with a value.

    Returns:
        (N,) bool, `labelled` without the rows of −1 where −1 means no label.
    """
    codes = np.unique(numbers[labelled])
    if raw.labelled is not None or -1 not in codes or codes[0] < -1 or codes.tolist() == [-1, 1]:
        return labelled

    others = codes[1:]
    n = int((numbers[labelled] == -1).sum())
    no_label = len(others) > 1 and np.array_equal(others, np.arange(len(others)))
    if no_label:
        reading = "'no label'"
        advice = "If it is a class, write names in the place of numbers, or give labelled=all True beside the arrays."
    else:
        reading = "a class"
        advice = "If it means 'no label', leave the cell empty."
    beside = ", ".join(f"{c:g}" for c in others[:8])
    warnings.warn(
        f"{raw.name}: target {name!r}: −1 is read as {reading} in {n} rows, beside {beside}. {advice}",
        SidelightWarning,
        stacklevel=2,
    )
    return labelled & (numbers != -1) if no_label else labelled
