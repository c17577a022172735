"""openSMILE: low-level descriptors over time, as CSV or ARFF, by SMILExtract or the Python package."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.formats.content import Content
from sidelight.formats.tables import Table, parse_table, read_head, read_lines
from sidelight.signals.stamps import usual_rate

NOT_FEATURES = ("name", "frameIndex", "frameTime", "file", "start", "end", "class", "emotion", "label")


def matches(path: Path) -> bool:
    head = read_head(path)
    if path.suffix.lower() == ".arff":
        return True
    if path.suffix.lower() != ".csv" or not head:
        return False
    names = [name.strip() for name in head[0].replace(";", ",").split(",")]
    return (names[:1] == ["name"] and "frameTime" in names) or names[:3] == ["file", "start", "end"]


def read(content: Content) -> None:
    lines = read_lines(content.path)
    table = (
        _read_arff(content.path, lines) if content.path.suffix.lower() == ".arff" else _read_csv(content.path, lines)
    )
    if "frameTime" in table:
        times, who = table.numbers("frameTime"), table.text("name") if "name" in table else [""] * len(table)
    elif "start" in table:
        times, who = _seconds(table, "start"), table.text("file") if "file" in table else [""] * len(table)
    else:
        raise DataError(
            f"{content.path} has neither 'frameTime' nor 'start': its rows have no time. Columns: {table.names}"
        )
    features = [name for name in table.names if name not in NOT_FEATURES]
    values = table.numbers(*features).reshape(len(table), -1)
    for name in dict.fromkeys(who):
        rows = np.array([w == name for w in who])
        if rows.sum() < 2 or np.ptp(times[rows]) == 0:
            raise DataError(
                f"{content.path}: {name or 'the file'!r} has one row: functionals of a whole recording, not a series "
                "over time; such a table is read as a manifest"
            )
        key = Path(name.strip("'\"")).stem if len(set(who)) > 1 else "features"
        content.add(key, values[rows], rate=usual_rate(times[rows]), times=times[rows], channels=features)


def _read_csv(path: Path, lines: list[str]) -> Table:
    separator = ";" if lines[0].count(";") > lines[0].count(",") else ","
    names = [name.strip().strip("'\"") for name in lines[0].split(separator)]
    return parse_table(path, lines, names, 1, separator)


def _read_arff(path: Path, lines: list[str]) -> Table:
    names: list[str] = []
    for number, line in enumerate(lines):
        words = line.strip()
        if words.lower().startswith("@attribute"):
            names.append(
                next(csv.reader([words.split(None, 1)[1]], delimiter=" ", quotechar="'", skipinitialspace=True))[0]
            )
        elif words.lower().startswith("@data"):
            first = number + 1
            while first < len(lines) and (not lines[first].strip() or lines[first].startswith("%")):
                first += 1
            if first < len(lines) and lines[first].startswith("{"):
                raise DataError(f"{path}: line {first + 1}: sparse ARFF rows are not read; write dense ones")
            return parse_table(path, [line.replace("'", '"') for line in lines], names, first, ",")
    raise DataError(f"{path} is no ARFF file, or is cut off: it has no line @data")


def _seconds(table: Table, name: str) -> NDArray[np.float64]:
    """A column of numbers of seconds, or of times as pandas writes them ("0 days 00:00:00.010000")."""
    import pandas as pd

    cells = table.text(name)
    try:
        return np.array(cells, np.float64)
    except ValueError:
        pass
    try:
        # One unit everywhere: pandas takes another one by how many digits the text has.
        return np.asarray(pd.to_timedelta(pd.Series(cells)).dt.as_unit("ns").dt.total_seconds(), np.float64)
    except ValueError:
        raise DataError(f"{table.path}: column {name!r} begins with {cells[0]!r}; expected seconds or a time") from None
