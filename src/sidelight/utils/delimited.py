"""Read text tables (CSV, TSV): manifests, signals and the tables of public data sets.

Each line must have as many cells as the header has names. A parser that fills or cuts lines instead shifts columns
silently: if lines are one cell wider than the header, pandas takes the first column as an index.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError
from sidelight.utils.files import check_file, describe_content

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 5_000
"""Number of lines that are held as Python lists at a time."""
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
    """

    path: Path
    names: list[str]
    cells: pd.DataFrame
    lines: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lines)

    def check_once(self, name: str) -> None:
        """Raise DataError if the header contains this name more than once."""
        if (n := self.names.count(name)) > 1:
            raise DataError(
                f"{self.path}: row 1: column {name!r} occurs {n} times; every column needs a name of its own"
            )


def read_delimited(path: str | Path, separator: str = ",") -> Delimited:
    """Read a text file whose first line names the columns.

    Blank lines, and empty cells after the last named column, are dropped.

    Args:
        path: the file, in UTF-8.
        separator: the character between cells.

    Raises:
        DataError: the file is missing, empty or not UTF-8 text, a quote is never closed, or a line has more or fewer
            cells than the header; the message names the line and both counts.
    """
    import pandas as pd

    path = Path(path)
    parts: list[Any] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    records = _records(path, separator)
    names, width = _header(path, next(records, None))
    for line, record in records:
        if len(record) != width:
            if len(record) < width and not "".join(record).strip():
                continue  # a blank line
            if len(record) < width or any(cell.strip() for cell in record[width:]):
                raise DataError(_width_error(path, separator, line, record, names, next(records, None) is None))
            record = record[:width]
        rows.append(record)
        lines.append(line)
        if len(rows) == CHUNK:
            parts.append(pd.DataFrame(rows, columns=range(width), dtype=str))
            rows = []
    parts.append(pd.DataFrame(rows, columns=range(width), dtype=str))
    cells = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    return Delimited(path, names, cells, np.array(lines, np.int64))


def read_header(path: str | Path, separator: str = ",") -> list[str]:
    """Read the names of a file's columns, as `read_delimited` returns them, without its other lines.

    Args:
        path: the file, in UTF-8.
        separator: the character between cells.
    """
    return _header(Path(path), next(_records(Path(path), separator), None))[0]


def missing(cells: pd.Series) -> NDArray[np.bool_]:
    """(N,) bool: which cells of a column have no value."""
    return np.asarray(cells.isna() | cells.astype(str).str.strip().str.lower().isin(MISSING), bool)


def _records(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of each record, from the header on; a blank line has no cells."""
    if len(separator) != 1:
        raise ConfigError(f"{path}: separator {separator!r}; expected one character")
    check_file(path)
    if path.stat().st_size and (told := describe_content(path, path.suffix, of_text=True)):
        raise DataError(f"cannot read {path}: {told}")
    line, begun = 1, False
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            for record in reader:
                begun = begun or bool("".join(record).strip())  # blank lines may stand before the header
                if begun:
                    yield line, record
                line = reader.line_num + 1
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}: it is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(
            f"cannot read {path}: truncated or not a CSV file (line {line}: {error}; is a quote left open?)"
        ) from None


def _header(path: Path, first: tuple[int, list[str]] | None) -> tuple[list[str], int]:
    """The names of the columns, up to the last one that is not empty, and their number."""
    if first is None:
        raise DataError(f"{path} is empty; expected the names of the columns in its first line, then a line a row")
    names = [name.strip() for name in first[1]]
    while not names[-1]:
        names.pop()
    return names, len(names)


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
