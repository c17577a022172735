"""Reads the text files of data sets: lines and tables. Errors name file and row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sidelight.errors import DataError, unknown
from sidelight.utils.delimited import read_delimited
from sidelight.utils.files import check_file


def read_lines(path: Path, encoding: str = "utf-8-sig") -> list[str]:
    """Read the lines of a text file, without trailing blank lines; raises DataError that names the file.

    The default encoding drops the byte order mark that spreadsheets and Windows editors write.
    """
    check_file(path)
    try:
        lines = path.read_text(encoding).splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}: it is not text ({error.reason} at byte {error.start})") from None
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{path} is empty")
    return lines


def read_cells(path: Path, columns: Sequence[str], separator: str = ",") -> list[tuple[int, dict[str, str]]]:
    """Read a table with a header.

    Args:
        path: the file.
        columns: columns that must exist, once each; the table may have more.
        separator: between cells.

    Returns:
        (row, column -> cell without surrounding blanks) of each line; the header is row 1.

    Raises:
        DataError: a missing column, a line of another width than the header, no rows; names file, row and column.
    """
    table = read_delimited(path, separator)
    for name in columns:
        if name not in table.names:
            raise DataError(f"{path}: {unknown('column', name, table.names)}")
        table.check_once(name)
    if not len(table):
        raise DataError(f"{path} has a header and no rows")
    rows = zip(*(column.str.strip() for _, column in table.cells.items()))
    return [(int(line), dict(zip(table.names, cells))) for line, cells in zip(table.lines, rows)]


def parse_number(text: str, where: str) -> float:
    """Parse a finite number; raises DataError that begins with `where`, which names file, row and column."""
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{where} is {text!r}; expected a number") from None
    if value - value != 0:  # infinities and NaN
        raise DataError(f"{where} is {text!r}; expected a finite number")
    return value
