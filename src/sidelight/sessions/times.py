"""Times as text: numbers in a unit, times of day, dates with and without a zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.formats.content import UNIX
from sidelight.signals.csv import SECONDS
from sidelight.utils.delimited import MISSING, Delimited

SINCE_1973 = 1e8
"""Seconds from which on a time counts from 1970: a recording of three years is less likely."""
OF_DAY = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)")
"""Hours, minutes and seconds, as subtitles write them too (01:02:03,456)."""


def parse_times(
    cells: pd.Series, where: str, lines: NDArray[np.int64], unit: str = "s", rate: float = 0.0
) -> tuple[NDArray[np.float64], datetime | None]:
    """Read a column of times.

    Args:
        cells: (N,) texts; an empty one is NaN.
        where: file and column, for errors.
        lines: (N,) lines of the file, for errors.
        unit: of numbers: "s", "ms", "us", "ns", or "samples", which `rate` counts.
        rate: samples per second.

    Returns:
        (N,) seconds, NaN where a cell is empty, and the moment of second 0: for dates and for seconds since 1970; None
        for others.

    Raises:
        DataError: a cell that is no time, or cells of different kinds; names the line.
    """
    text = cells.astype(str).str.strip()
    empty = cells.isna().to_numpy() | text.str.lower().isin(MISSING).to_numpy()
    numbers = np.asarray(pd.to_numeric(text.where(~empty), errors="coerce"), np.float64)
    if empty.all():
        return numbers, None
    if (np.isfinite(numbers) | empty).all():
        seconds = numbers / rate if unit == "samples" else numbers * SECONDS[unit]
        since_1970 = unit != "samples" and bool(np.nanmin(seconds) >= SINCE_1973)
        return seconds, UNIX if since_1970 else None
    first = text[~empty].iloc[0]
    if np.isfinite(numbers[~empty][0]):
        _check_all(np.isfinite(numbers) | empty, text, lines, where, "a number")
    if OF_DAY.fullmatch(first):
        found = [OF_DAY.fullmatch(cell) for cell in text]
        _check_all([match is not None for match in found] | empty, text, lines, where, "a time such as 01:02:03,456")
        of_day = [np.nan if m is None else int(m[1] or 0) * 3600 + int(m[2]) * 60 + _number(m[3]) for m in found]
        return np.array(of_day), None
    return _parse_dates(text, empty, lines, where)


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def _parse_dates(
    text: pd.Series, empty: NDArray[np.bool_], lines: NDArray[np.int64], where: str
) -> tuple[NDArray[np.float64], datetime]:
    moments: list[datetime | None] = []
    for cell, nothing in zip(text, empty, strict=True):
        try:
            moments.append(None if nothing else datetime.fromisoformat(cell))
        except ValueError:
            moments.append(None)
    there = np.array([m is not None for m in moments])
    _check_all(
        there | empty, text, lines, where, "numbers, 01:02:03.456, or dates such as 2026-05-31T14:00:00.25+02:00"
    )
    known = [m for m in moments if m is not None]
    zones = {m.tzinfo is None for m in known}
    if len(zones) > 1:
        raise DataError(f"{where}: some times have a time zone and some have none; write them in one way")
    origin = known[0] if known[0].tzinfo is None else known[0].astimezone(UTC)
    # Whole microseconds, so that nothing is rounded.
    seconds = np.array([np.nan if m is None else (m - origin) / timedelta(microseconds=1) / 1e6 for m in moments])
    return seconds, origin


def _check_all(good: NDArray[np.bool_], text: pd.Series, lines: NDArray[np.int64], where: str, expected: str) -> None:
    for i in np.flatnonzero(~np.asarray(good))[:1]:
        raise DataError(f"{where}: line {lines[i]} is {text.iloc[i]!r}; expected {expected}, in every line alike")


def column(table: Delimited, name: str) -> pd.Series:
    """A column by its name, as text; raises DataError for one that is not there or there twice."""
    from sidelight.errors import unknown

    if name not in table.names:
        raise DataError(f"{table.path}: {unknown('column', name, table.names)}")
    table.check_once(name)
    found: pd.Series = table.cells[table.names.index(name)]
    return found
