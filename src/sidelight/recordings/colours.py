"""Colour annotations: a table of classes and colours turns coloured pixels into class values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError, listed, shown
from sidelight.utils.delimited import read_delimited
from sidelight.utils.images import read_colours

NAMES = (("class", "name", "label"), ("r", "red"), ("g", "green"), ("b", "blue"))
"""Usual names of the columns of a table of colours."""
MOST = 255
"""Most classes of colours, so that their values fit beside `Labels.ignore`."""

Colours = dict[str, list[Any]]
"""Class -> its colour, or its colours, as `[r, g, b]`; the class "" is that of pixels without a class."""


def read_colour_table(path: Path) -> Colours:
    """Read a table of colours: .csv with the columns class, r, g and b, in any order; a class may have several colours.

    Returns:
        Class -> colours, in the order of the table; "" for colours of pixels without a class.

    Raises:
        DataError: a missing column, or a cell that is no whole number from 0 to 255; names file and line.
    """
    table = read_delimited(path, ",")
    low = [name.strip().lower() for name in table.names]
    places = []
    for names in NAMES:
        found = [low.index(name) for name in names if name in low]
        if not found:
            raise DataError(
                f"{path}: there is no column {' or '.join(map(repr, names))} in this table of colours; expected "
                f"class, r, g, b. Columns: {', '.join(table.names)}"
            )
        places.append(found[0])
    colours: Colours = {}
    for line, cells in zip(table.lines.tolist(), zip(*(table.cells[k].str.strip() for k in places))):
        name, *values = cells
        if not all(re.fullmatch(r"[0-9]{1,3}", v) and int(v) <= MOST for v in values):
            raise DataError(f"{path}: line {line} has the colour {', '.join(values)}; expected numbers from 0 to 255")
        colours.setdefault(name, []).append([int(v) for v in values])
    if not colours:
        raise DataError(f"{path} has a header and no colours")
    return colours


def parse_colours(given: Mapping[str, Any], where: str) -> dict[int, str]:
    """Colour number (`read_colours`) -> class; raises ConfigError for what is no colour, and for one of two classes."""
    numbers: dict[int, str] = {}
    for name, value in given.items():
        several = isinstance(value, Sequence) and not isinstance(value, str) and not _is_triple(value)
        for colour in value if several else [value]:
            number = _parse_colour(colour, f"{where}: class {name!r}")
            if numbers.setdefault(number, str(name)) != str(name):
                raise ConfigError(f"{where}: {to_text(number)} is the colour of {numbers[number]!r} and of {name!r}")
    if len(dict.fromkeys(filter(None, numbers.values()))) > MOST:
        raise ConfigError(f"{where}: more than {MOST} classes; a class per pixel has at most {MOST} by colours")
    return numbers


def _is_triple(value: Sequence[Any]) -> bool:
    return len(value) == 3 and all(isinstance(v, int) and not isinstance(v, bool) for v in value)


def _parse_colour(value: Any, where: str) -> int:
    if isinstance(value, Sequence) and not isinstance(value, str) and _is_triple(value):
        red, green, blue = value
        if all(0 <= v <= MOST for v in value):
            return int(red << 16 | green << 8 | blue)
    raise ConfigError(f"{where} has the colour {shown(value)}; expected [red, green, blue], each from 0 to 255")


def to_text(number: int) -> str:
    """65536 red + 256 green + blue as "[r, g, b]"."""
    return str([number >> shift & 255 for shift in (16, 8, 0)])


def read_coloured_labels(
    path: Path, numbers: Mapping[int, str], classes: Sequence[str], ignore: int
) -> NDArray[np.int32]:
    """Read a coloured label map as class values.

    Args:
        path: a .png with a colour per class.
        numbers: from `parse_colours`.
        classes: names of the values 0, 1, …
        ignore: the value of pixels without a class.

    Returns:
        (H, W) int32.

    Raises:
        DataError: a pixel of another colour; names file, pixel, colour and the nearest colours of the table.
    """
    x = read_colours(path)
    known = np.array(sorted(numbers), np.int32)
    values = np.array([classes.index(numbers[c]) if numbers[c] else ignore for c in known.tolist()], np.int32)
    at = np.searchsorted(known, x).clip(max=len(known) - 1)
    bad = np.argwhere(known[at] != x)
    if len(bad):
        y, column = bad[0].tolist()
        found = int(x[y, column])
        near = sorted(numbers, key=lambda c: _distance(c, found))[:2]
        raise DataError(
            f"{path}: pixel ({y}, {column}) is {to_text(found)}, which is no colour of the table ({len(bad)} such "
            f"pixels); the nearest are {listed([f'{to_text(c)} {numbers[c]!r}' for c in near])}. Add it to the table "
            "(an empty class: none), or take files whose colours were not blended (.png, not resized)"
        )
    return np.asarray(values[at], np.int32)


def _distance(a: int, b: int) -> int:
    """Squared distance of two colours."""
    return sum(((a >> shift & 255) - (b >> shift & 255)) ** 2 for shift in (0, 8, 16))
