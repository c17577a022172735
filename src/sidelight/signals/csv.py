"""Reads signals from CSV files, and checks them against the time column and the declared rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError, unknown
from sidelight.signals.recording import Recording, check_rate, check_times
from sidelight.utils.delimited import Delimited, read_delimited
from sidelight.utils.dialect import build_dialect
from sidelight.utils.units import parse_unit

DRIFT = 0.5
"""Sample periods by which the declared rate may put the last sample beside its time stamp."""
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def read_csv(
    path: str | Path,
    columns: Sequence[str],
    *,
    modality: str = "",
    unit: str,
    rate: float | None = None,
    time: str | None = None,
    time_unit: str = "s",
    separator: str = "",
    tolerance: float = 0.01,
    largest_gap: float = 1.5,
    decimal: str = "",
    encoding: str = "",
    header: int | None = None,
) -> Recording:
    """Read columns of a text table as one recording.

    Separator, decimal comma, encoding, lines before the header and a line of units are found in the file, where it
    shows them without doubt. With a time column the rate is that of the time stamps: a declared rate only checks it,
    and stands where it puts every sample within half a period of its time. Errors count rows as an editor counts lines:
    the header is row 1.

    Args:
        path: the file.
        columns: names of the C columns to read.
        modality: what the columns measure; errors name it.
        unit: physical unit of the values.
        rate: declared sampling rate in Hz; optional if there is a time column, which it has to agree with.
        time: column of timestamps; the first one is the start of the recording.
        time_unit: of the timestamps: "s", "ms", "us" or "ns".
        separator: between cells; "": found.
        tolerance: as in `check_times`.
        largest_gap: as in `check_times`.
        decimal: decimal sign, "." or ","; "": found.
        encoding: of the text, such as "latin-1"; "": found.
        header: number of the line that names the columns, counted from 1; 0: none does, and they are called "1", "2",
            …; None: found.

    Returns:
        The recording, with (T, C) values.

    Raises:
        DataError: a missing or empty file, a line with more or fewer cells than the header, a missing column, a cell
            that is empty or not a finite number, times that are out of order, have gaps or contradict the declared
            rate, or a unit that contradicts that of the file; names file, row, column and value.
        ConfigError: no column, neither rate nor time, or an argument out of range.
    """
    path = Path(path)
    if time_unit not in SECONDS:
        raise ConfigError(unknown("unit of time", time_unit, SECONDS))
    if not columns:
        raise ConfigError(f"{path}: name at least one column (columns=…)")
    options = {"separator": separator, "decimal": decimal, "encoding": encoding}
    dialect = build_dialect(options | ({} if header is None else {"header": header}), str(path))
    if rate is not None:
        check_rate(rate, str(path))
    for name, value in (("tolerance", tolerance), ("largest_gap", largest_gap)):
        if not 0 <= value < math.inf:
            raise ConfigError(f"{path}: {name} is {value}; expected a number from 0 on")
    if rate is None and time is None:
        raise ConfigError(f"{path}: name the sampling rate (rate=…) or the column of timestamps (time=…)")

    wanted = [*columns, *([time] if time else [])]
    what = f"modality {modality!r}, " if modality else ""
    table = read_delimited(path, dialect)
    if not len(table):
        raise DataError(f"{path} has a header and no rows")
    for name in wanted:
        if name not in table.names:
            raise DataError(f"{path}: {what}{unknown('column', name, table.names)}")
        table.check_once(name)
    for name in columns:
        _check_unit(table, name, unit)
    # The table reader skips blank lines; in a signal, one is a missing sample.
    for i in np.flatnonzero(np.diff(table.lines) != 1)[:1]:
        raise DataError(f"{path}: {what}row {table.lines[i] + 1} is empty; expected a number in {wanted[0]!r}")
    numbers = {name: _parse_column(table, what, name) for name in wanted}
    start = 0.0
    if time:
        times = numbers[time] * SECONDS[time_unit]
        found = check_times(
            times,
            rate,
            f"{path}: {modality or time!r}",
            tolerance=tolerance,
            largest_gap=largest_gap,
            first_row=int(table.lines[0]),
        )
        start = float(times[0])
        # A declared rate that is 0.6 % off puts an event after 500 s 3 s beside its time stamp.
        if rate is None or abs(found / rate - 1) * (len(times) - 1) > DRIFT:
            rate = found
    assert rate is not None
    values = np.stack([numbers[name] for name in columns], 1)
    return Recording(values, rate, unit, start, tuple(columns), modality or "signal", str(path))


def _check_unit(table: Delimited, column: str, unit: str) -> None:
    """Raise DataError if the file's line of units gives a column another known unit."""
    written = (table.dialect.units or {}).get(column, "")
    try:
        known = parse_unit(written)
    except ConfigError:
        return  # an empty cell, or words that no unit is compared with
    if unit != "1" and parse_unit(unit) != known:
        raise DataError(
            f"{table.path}: column {column!r} is in {written!r} by its line of units, but {unit!r} is given"
        )


def _parse_column(table: Delimited, what: str, column: str) -> NDArray[np.float64]:
    """Parse a column; raises DataError that names the first cell that is not a finite number."""
    import pandas as pd

    # By position, since the cells of the table are read without their header.
    cells = table.cells[table.names.index(column)]
    numbers = np.asarray(pd.to_numeric(cells, errors="coerce"), np.float64)
    bad = ~np.isfinite(numbers)
    for i in np.flatnonzero(bad)[:1]:
        cell = cells.iloc[i].strip()
        found = f"is {cell!r}" if cell else "is empty"
        end = "; it is the last row: is the file truncated?" if i == len(cells) - 1 else ""
        raise DataError(
            f"{table.path}: row {table.lines[i]}, {what}column {column!r} {found}; expected a number "
            f"({int(bad.sum())} such cells){end}"
        )
    return numbers
