"""What the columns of a table of samples are: the times and their unit, and which numbers are measurements."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

TIMES = ("time", "timestamp", "t", "seconds", "sec", "ms")
"""Usual names of a column of times, in lower case, which a unit may follow."""
UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
"""Unit of times -> seconds."""
SECONDS = ("sec", "secs", "seconds")
"""Further words for seconds."""
NO_DATA = ("", "frame", "frame_id", "face_id", "index", "confidence", "success")
"""Columns, in lower case, that say which sample it is, or how sure a program was."""
AU = r"AU\d+_r"
"""OpenFace's strengths of the muscles of a face."""


def find_time(names: Sequence[str]) -> str:
    """The column of times by its name, such as `time_ms` or `Time [s]`, but not `t_skin`; "" if there is none."""
    for name in names:
        first, *rest = _words(name) or [""]
        if first in TIMES and all(word in UNITS or word in SECONDS for word in rest):
            return name
    return ""


def find_time_unit(name: str, units: Mapping[str, str]) -> str:
    """The unit that a table's line of units or the column's name gives; else seconds."""
    return next((word for word in _words(f"{units.get(name, '')} {name}") if word in UNITS), "s")


def choose_measured(numbers: Sequence[str], time: str) -> list[str]:
    """The columns of numbers that are measurements; of an OpenFace table its AU*_r.

    Args:
        numbers: names of the columns of numbers.
        time: the column of times, or "".
    """
    of_face = [name for name in numbers if re.fullmatch(AU, name)]
    return of_face or [name for name in numbers if name != time and name.lower() not in NO_DATA]


def round_rate(rate: float, seconds: float) -> float:
    """The shortest number that times of whole milliseconds over so many seconds cannot tell from the rate."""
    unsure = 1e-3 / seconds
    for digits in range(2, 6):
        rounded = float(f"{rate:.{digits}g}")
        if abs(rounded / rate - 1) <= unsure:
            return rounded
    return rate


def _words(name: str) -> list[str]:
    """time_ms, Time [s] -> its words in lower case."""
    return [word for word in re.split(r"[\s_()\[\]]+", name.lower()) if word]
