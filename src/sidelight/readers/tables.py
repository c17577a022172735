"""The text files of data sets: lines and tables, with the file and row of whatever is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sidelight.errors import DataError, unknown
from sidelight.files import check_file


def read_lines(path: Path, encoding: str = "utf-8-sig") -> list[str]:
    """The lines of a text file, without trailing blank ones; raises DataError naming it."""
    check_file(path)
    try:
        lines = path.read_text(encoding).splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}: it is no text ({error.reason} at byte {error.start})") from None
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{path} is empty")
    return lines


def read_cells(path: Path, columns: Sequence[str], separator: str = ",") -> list[tuple[int, dict[str, str]]]:
    """(row, cells by column) of a table with a header, which is row 1; raises DataError naming file, row and column."""
    lines = read_lines(path)
    header = [name.strip() for name in lines[0].split(separator)]
    for name in columns:
        if name not in header:
            raise DataError(f"{path}: {unknown('column', name, header)}")
    if len(lines) == 1:
        raise DataError(f"{path} has a header and no rows")
    out = []
    for i, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(separator)]
        if len(cells) != len(header):
            raise DataError(f"{path}: row {i} has {len(cells)} cells; expected {len(header)}: {', '.join(header)}")
        out.append((i, dict(zip(header, cells))))
    return out


def number(text: str, where: str) -> float:
    """A finite number; raises DataError, `where` saying file, row and column."""
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{where} is {text!r}; expected a number") from None
    if value - value != 0:
        raise DataError(f"{where} is {text!r}; expected a finite number")
    return value
