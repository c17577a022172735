"""Targets that are probably not what they would be read as: refused where that can only be wrong, otherwise said."""

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
"""The share of numbers from which on words in a target are looked at."""


def check_class_names(raw: Raw) -> None:
    """Raises DataError for a name that is empty or occurs twice; warns of those that are nearly the same."""
    for code, c in enumerate(raw.class_names):
        if not c.strip():
            raise DataError(f"{raw.name}: class {code} has an empty name in class_names; every class needs one")
        if (n := raw.class_names.count(c)) > 1:
            raise DataError(f"{raw.name}: class name {c!r} occurs {n} times in class_names; every class needs its own")
    warn_similar_names(raw.name, "class_names", raw.class_names, "class", "")


def parse_numbers(values: NDArray) -> NDArray | None:
    """The non-empty values as float64, NaN elsewhere; None if one is not a number."""
    missing = is_empty(values)
    out = np.full(len(values), np.nan)
    try:
        out[~missing] = np.asarray(values[~missing]).astype(np.float64)
    except (TypeError, ValueError):
        return None
    return out


def check_not_one_hot(raw: Raw, columns: Mapping[str, NDArray]) -> None:
    """Several targets of zeros and a single one per row are classes, and no quantities to predict."""
    numbers = [parse_numbers(values) for values in columns.values()]
    if any(x is None for x in numbers):
        return  # which `_values` names
    x = np.stack(numbers, 1)  # type: ignore[arg-type]
    x = x[~np.isnan(x).any(1)]
    if len(x) and np.isin(x, (0, 1)).all():
        if (x.sum(1) == 1).all():
            raise DataError(
                f"{raw.name}: the targets {', '.join(columns)} are one-hot, a single 1 in each row; give one column of "
                "class codes or names, for example y.argmax(1). If they are quantities, say task='regression'"
            )
        warnings.warn(
            f"{raw.name}: the targets {', '.join(columns)} hold only 0 and 1 and are read as quantities (regression); "
            "several classes at once are not supported.",
            SidelightWarning,
            stacklevel=2,
        )


def check_mixed_words(raw: Raw, name: str, values: NDArray, ids: NDArray) -> None:
    """A target of numbers with a few words is no list of classes: refused where numbers have a fraction.

    Whole numbers beside a word ("0", "1", "other") may be classes; that is said.
    """
    known = np.flatnonzero(~is_empty(values))
    # a column of classes holds few different cells: each is read once, not once a row
    keys = [(type(values[i]), str(values[i]).strip()) for i in known]
    firsts = dict(zip(reversed(keys), reversed(known.tolist())))
    parsed = {key: parse_numbers(values[i : i + 1]) for key, i in firsts.items()}
    commas = np.array([is_decimal_comma(text) for _, text in keys])
    is_number = np.array([parsed[key] is not None for key in keys]) | commas
    truth = np.array([kind in (bool, np.bool_) for kind, _ in keys])
    share = float((is_number & ~truth).mean())
    first = int(known[np.flatnonzero(~is_number | commas)[0]]) if (~is_number | commas).any() else -1
    if share < MOSTLY or first < 0:
        return
    numeric = [float(x[0]) for x in parsed.values() if x is not None]
    fraction = commas.any() or any(v != round(v) for v in numeric if np.isfinite(v)) or len(set(numeric)) > 30
    cell = f"{raw.name}: {name_row(first, ids)}: target {name!r} is {values[first]!r}"
    if fraction:
        mend = (
            "write decimals with a point" if is_decimal_comma(values[first]) else "leave the cell empty if it has none"
        )
        raise DataError(
            f"{cell}, but {share:.0%} of its cells are numbers; {mend}. If all of them are classes, say "
            "task='classification'"
        )
    warnings.warn(
        f"{cell} and is read as a class, but {share:.0%} of its cells are whole numbers. If it says that there is no "
        "label, leave the cell empty.",
        SidelightWarning,
        stacklevel=2,
    )


def unlabel_minus_one(raw: Raw, name: str, numbers: NDArray, labelled: NDArray) -> NDArray:
    """`labelled` less the rows of −1 where −1 is the code of no label: beside the class codes 0, 1, … without a gap.

    As in `Dataset`, `signals.cut` and beside `class_names`. `Raw.labelled` says otherwise. Warns whenever −1 is seen,
    but for the two classes −1 and 1.
    """
    codes = np.unique(numbers[labelled])
    if raw.labelled is not None or -1 not in codes or codes[0] < -1 or codes.tolist() == [-1, 1]:
        return labelled
    rest, n = codes[1:], int((numbers[labelled] == -1).sum())
    none = len(rest) > 1 and np.array_equal(rest, np.arange(len(rest)))
    warnings.warn(
        f"{raw.name}: target {name!r}: −1 is read as "
        + ("'no label'" if none else "a class")
        + f" in {n} rows, beside {', '.join(f'{c:g}' for c in rest[:8])}. "
        + (
            "If it is a class, write names in the place of numbers, or say labelled=all True beside the arrays."
            if none
            else "If it means 'no label', leave the cell empty."
        ),
        SidelightWarning,
        stacklevel=2,
    )
    return labelled & (numbers != -1) if none else labelled
