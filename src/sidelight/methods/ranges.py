"""Ranges of methods' settings: outside of them a loss is NaN, or has no effect without an error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

from sidelight.errors import ConfigError


class Range(NamedTuple):
    """The values that a setting may have.

    Attributes:
        description: the range in words, for the error.
        contains: whether a number lies in the range.
    """

    description: str
    contains: Callable[[Any], bool]


POSITIVE = Range("a number above 0", lambda v: 0 < v < math.inf)
NON_NEGATIVE = Range("0 or more", lambda v: 0 <= v < math.inf)
BELOW_ONE = Range("at least 0 and below 1", lambda v: 0 <= v < 1)
POSITIVE_INT = Range("a whole number of at least 1", lambda v: v >= 1 and isinstance(v, Integral))
INT_FROM_2 = Range("a whole number of at least 2", lambda v: v >= 2 and isinstance(v, Integral))
NON_NEGATIVE_INT = Range("a whole number of at least 0", lambda v: v >= 0 and isinstance(v, Integral))


def check_ranges(where: str, ranges: Mapping[str, Range], values: Mapping[str, Any]) -> None:
    """Check settings against their ranges. None passes, and so does a setting without a range.

    Args:
        where: the section of the settings, for the error.
        ranges: setting -> its range.
        values: setting -> its value.

    Raises:
        ConfigError: names the setting, the range and the value.
    """
    for name, value in values.items():
        if name not in ranges or value is None:
            continue
        # bool is a Real in Python, but "weight: true" is a mistake.
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not ranges[name].contains(value):
            raise ConfigError(f"{where}.{name}: expected {ranges[name].description}, not {value!r}.")
