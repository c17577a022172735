"""Read text tables: manifests, signals and the tables of public data sets, by one set of rules.

Separator, decimal comma, encoding, comments and other lines before the header, and a line of units below it are found
(`find_dialect`). Each line must have as many cells as the header has names. A parser that fills or cuts lines instead
shifts columns silently: if lines are one cell wider than the header, pandas takes the first column as an index.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError
from sidelight.utils.dialect import Dialect, find_dialect, split_lines, strip_comment
from sidelight.utils.text_files import open_text

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 5_000
"""Number of lines that are held as Python lists at a time."""
COMMA_NUMBER = r"[+-]?\d*,\d+([eE][+-]?\d+)?"
THOUSANDS = r"[+-]?[1-9]\d{0,2},\d{3}"
MISSING = ("", "nan", "-nan", "na", "n/a", "#n/a", "<na>", "null", "none")
"""Texts of cells without a value, in upper or lower case; "n/a" is used by BIDS."""


@dataclass(frozen=True, eq=False)
class Delimited:
    """The cells of a file, as texts.

    Args:
        path: the file.
        names: names of the columns, stripped; "" for a column without a name.
        cells: (N, W) text, its columns numbered 0 to W - 1.
        lines: (N,) line of the file at which each row begins, counted from 1.
        dialect: how the file is written.
    """

    path: Path
    names: list[str]
    cells: pd.DataFrame
    lines: NDArray[np.int64]
    dialect: Dialect

    def __len__(self) -> int:
        return len(self.lines)

    @cached_property
    def _counts(self) -> Counter[str]:
        return Counter(self.names)

    def check_once(self, name: str) -> None:
        """Raise DataError if the header contains this name more than once."""
        if (n := self._counts[name]) > 1:
            raise DataError(
                f"{self.path}: row 1: column {name!r} occurs {n} times; every column needs a name of its own"
            )


def read_delimited(path: str | Path, dialect: Dialect | str = "") -> Delimited:
    """Read a text file with the names of its columns.

    Blank lines, and empty cells after the last named column, are dropped. Numbers with a decimal comma become numbers
    with a point.

    Args:
        path: the file; unpacked if it is called .gz.
        dialect: what is known of how it is written, or its separator alone; the rest is found.

    Raises:
        DataError: the file is missing, empty or not text, can be read in two ways, a quote is never closed, or a line
            has more or fewer cells than the header; the message names the line and both counts.
    """
    import pandas as pd

    path = Path(path)
    dialect = _resolve(path, dialect)
    parts: list[Any] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    names, records = _open(path, dialect)
    width = len(names)
    for line, record in records:
        if len(record) != width:
            if len(record) < width and not "".join(record).strip():
                continue  # a blank line
            if len(record) < width or any(cell.strip() for cell in record[width:]):
                last = next(records, None) is None
                raise DataError(_width_error(path, dialect.separator, line, record, names, last))
            record = record[:width]
        rows.append(record)
        lines.append(line)
        if len(rows) == CHUNK:
            parts.append(pd.DataFrame(rows, columns=range(width), dtype=str))
            rows = []
    parts.append(pd.DataFrame(rows, columns=range(width), dtype=str))
    cells = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    if dialect.decimal != "." and (dialect.decimal or dialect.separator != ","):
        dialect = replace(dialect, decimal=_replace_commas(path, names, cells, dialect.decimal))
    return Delimited(path, names, cells, np.array(lines, np.int64), dialect)


def read_header(path: str | Path, dialect: Dialect | str = "") -> list[str]:
    """Read the names of a file's columns, as `read_delimited` returns them, without its other lines.

    Args:
        path: the file.
        dialect: what is known of how it is written, or its separator alone.
    """
    path = Path(path)
    dialect = _resolve(path, dialect)
    return _open(path, dialect)[0]


def _resolve(path: Path, dialect: Dialect | str) -> Dialect:
    given = Dialect(separator=dialect) if isinstance(dialect, str) else dialect
    if len(given.separator) > 1:
        raise ConfigError(f"{path}: separator {given.separator!r}; expected one character")
    return find_dialect(path, given)


def missing(cells: pd.Series) -> NDArray[np.bool_]:
    """(N,) bool: which cells of a column have no value."""
    return np.asarray(cells.isna() | cells.astype(str).str.strip().str.lower().isin(MISSING), bool)


def _records(path: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of each record, from the header on; a blank line has no cells."""
    before = max(0, (dialect.header or 1) - 1)
    line, begun = before + 1, False
    try:
        with open_text(path, dialect.encoding) as file:
            for _ in islice(iter(file.readline, ""), before):
                pass
            text: Iterator[str] = iter(file)
            if dialect.comment:
                text = chain([strip_comment(file.readline(), dialect.comment)], text)
            for i, record in enumerate(reader := split_lines(text, dialect.separator)):
                begun = begun or bool("".join(record).strip())  # blank lines may stand before the header
                if begun:
                    yield line, record
                line = before + 1 + getattr(reader, "line_num", i + 1)
    except csv.Error as error:
        raise DataError(
            f"cannot read {path}: truncated or not a CSV file (line {line}: {error}; is a quote left open?)"
        ) from None


def _open(path: Path, dialect: Dialect) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The names of the columns, up to the last one that is not empty, and the records of the rows."""
    records = _records(path, dialect)
    first = next(records, None)
    if first is None and (dialect.header or 0) > 1:
        raise DataError(
            f"{path} has no line {dialect.header} with the names of the columns, which header={dialect.header} asks "
            "for; lines count from 1"
        )
    if first is None:
        raise DataError(f"{path} is empty; expected the names of the columns in its first line, then a line a row")
    names = [name.strip().lstrip("\ufeff") for name in first[1]]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise DataError(f"{path}: its first line names no column; expected the names of the columns")
    if dialect.header == 0:
        return [str(c + 1) for c in range(len(names))], chain([first], records)
    if dialect.units is not None:
        next((record for _, record in records if "".join(record).strip()), None)
    return names, records


def _replace_commas(path: Path, names: list[str], cells: pd.DataFrame, decimal: str) -> str:
    """Write decimal commas as points, in the columns of numbers that have them.

    Args:
        path: the file, for errors.
        names: of the columns.
        cells: (N, W) text, which is changed.
        decimal: "," if the user says that commas are decimal; "": as far as the file shows it.

    Returns:
        "," if there are decimal commas, else ".".

    Raises:
        DataError: all commas may separate thousands.
    """
    found: dict[int, tuple[NDArray[np.bool_], str]] = {}
    sure = decimal == ","
    for k, (_, column) in enumerate(cells.items()):
        commas = column.str.contains(",", regex=False).to_numpy(bool)
        if not commas.any():
            continue
        text, others = column[commas].str.strip(), column[~commas]
        if not text.str.fullmatch(COMMA_NUMBER).all():
            continue  # words, lists
        if others.str.contains(".", regex=False).any():
            continue  # both signs: what reads the column names the cell
        thousands = text.str.fullmatch(THOUSANDS)
        sure = sure or not thousands.all()
        found[k] = commas, text.iloc[0]
    if found and not sure:
        k, (_, example) = next(iter(found.items()))
        raise DataError(
            f"{path}: column {names[k]!r}: {example!r} may be {example.replace(',', '.')} or "
            f"{example.replace(',', '')}: if the comma is a decimal one, say --table decimal=comma (decimal=','); else "
            "write numbers without signs between thousands"
        )
    for k, (commas, _) in found.items():
        cells.loc[commas, k] = cells.loc[commas, k].str.replace(",", ".", regex=False)
    return "," if found else "."


def _width_error(path: Path, separator: str, line: int, record: list[str], names: list[str], last: bool) -> str:
    """The error for a line that is wider or narrower than the header."""
    found, width = len(record), len(names)
    while found > width and not record[found - 1].strip():
        found -= 1
    text = f"{path}: line {line} has {_count(found, 'cell')}, but the header names {_count(width, 'column')}"
    if width > 1 and found > width:
        text += f"; name every column ({names[0]!r} to {names[-1]!r} are named), or take the surplus cells out"
    elif last and width > 1:
        text += "; it is the last line: is the file truncated?"
    elif width == 1 or found == 1:
        text += f" ({separator!r} stands between cells: is the separator another one?)"
    else:
        text += "; a cell without a value is left empty, but its separator stays"
    return text


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
