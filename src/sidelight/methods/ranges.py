"""Ranges of methods' settings: outside of them a term is NaN, or silently nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

from sidelight.errors import ConfigError


class Range(NamedTuple):
    """Which values a setting may have: in words, and as a test of a number."""

    words: str
    holds: Callable[[Any], bool]


ABOVE_0 = Range("a number above 0", lambda v: 0 < v < math.inf)
FROM_0 = Range("0 or more", lambda v: 0 <= v < math.inf)
BELOW_1 = Range("at least 0 and below 1", lambda v: 0 <= v < 1)
SOME = Range("a whole number of at least 1", lambda v: v >= 1 and isinstance(v, Integral))
SEVERAL = Range("a whole number of at least 2", lambda v: v >= 2 and isinstance(v, Integral))
COUNT = Range("a whole number of at least 0", lambda v: v >= 0 and isinstance(v, Integral))


def check_ranges(where: str, ranges: Mapping[str, Range], values: Mapping[str, Any]) -> None:
    """Refuse values outside of their ranges; None, and what has no range, passes.

    Raises:
        ConfigError: names the setting below `where`, the range and the value.
    """
    for name, value in values.items():
        if name not in ranges or value is None:
            continue
        if not isinstance(value, Real) or isinstance(value, bool) or not ranges[name].holds(value):
            raise ConfigError(f"{where}.{name}: expected {ranges[name].words}, not {value!r}.")
