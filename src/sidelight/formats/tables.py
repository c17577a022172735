"""Tables of numbers as text, with lines before the header and a column of text here and there."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError, listed, unknown
from sidelight.utils.delimited import MISSING

if TYPE_CHECKING:
    import pandas as pd

HEAD = 8192
"""Bytes by which a text format is recognised."""


def read_head(path: Path) -> list[str]:
    """The first lines of a text file; none for other files."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return []
    if b"\0" in head:
        return []
    return _decode(head).splitlines()


def read_lines(path: Path) -> list[str]:
    """All lines of a text file, without blank ones at the end."""
    lines = _decode(path.read_bytes()).splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")  # the signs ° and µ of older programs


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of a text table.

    Args:
        path: the file.
        names: of the columns.
        cells: (N, C), numbers where the whole column is, else text.
        first: line of the first row, counted from 1.
    """

    path: Path
    names: list[str]
    cells: pd.DataFrame
    first: int

    def __len__(self) -> int:
        return len(self.cells)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def text(self, name: str) -> list[str]:
        """The cells of a column as text, stripped."""
        return [str(cell).strip() for cell in self.cells[self._column(name)]]

    def whole(self, name: str) -> NDArray[np.int64]:
        """A column of whole numbers, without the rounding of large ones to floating point."""
        column = self.cells[self._column(name)]
        if column.dtype.kind in "iu":
            return np.asarray(column, np.int64)
        return np.asarray(np.rint(self.numbers(name)), np.int64)

    def numbers(self, *names: str) -> NDArray[np.float64]:
        """(N,) of one column or (N, C) of several, NaN in empty cells; raises DataError for other text."""
        import pandas as pd

        out = np.empty((len(self), len(names)))
        for c, name in enumerate(names):
            column = self.cells[self._column(name)]
            out[:, c] = pd.to_numeric(column, errors="coerce")
            if column.dtype.kind in "fiu":
                continue
            text = column.astype(str).str.strip().str.lower()
            bad = np.isnan(out[:, c]) & ~(column.isna() | text.isin(MISSING)).to_numpy()
            for i in np.flatnonzero(bad)[:1]:
                raise DataError(
                    f"{self.path}: line {self.first + i}, column {name!r} is {str(column.iloc[i])!r}; expected a "
                    f"number ({int(bad.sum())} such cells)"
                )
        return out[:, 0] if len(names) == 1 else out

    def _column(self, name: str) -> int:
        if name not in self.names:
            raise DataError(f"{self.path}: {unknown('column', name, self.names)}")
        return self.names.index(name)


def parse_table(path: Path, lines: list[str], names: list[str], first: int, separator: str) -> Table:
    """Read rows under a header.

    Args:
        path: the file, for errors.
        lines: all lines of the file.
        names: of the columns; cells after the last one have to be empty.
        first: line of the first row, counted from 0.
        separator: between cells.

    Raises:
        DataError: no rows, or a line with more or fewer cells than there are names.
    """
    import pandas as pd

    rows = lines[first:]
    if not rows:
        raise DataError(f"{path} has a header and no rows")
    # A quoted cell may hold the separator.
    cut = (len(row) for row in csv.reader(rows, delimiter=separator)) if '"' in rows[0] else None
    widths = np.fromiter(cut or (line.count(separator) + 1 for line in rows), np.int64)
    trailing = widths[0] == len(names) + 1 and rows[0].endswith(separator)
    for i in np.flatnonzero(widths != len(names) + int(trailing))[:1]:
        last = "; it is the last line: is the file truncated?" if i == len(rows) - 1 else ""
        raise DataError(
            f"{path}: line {first + i + 1} has {widths[i]} cells, but {len(names)} columns are named "
            f"({listed(names, 6)}){last}"
        )
    try:
        cells = pd.read_csv(
            io.StringIO("\n".join(rows)),
            sep=separator,
            header=None,
            skipinitialspace=True,
            low_memory=False,
            skip_blank_lines=False,
        )
    except (pd.errors.ParserError, ValueError) as error:
        raise DataError(f"cannot read {path}: {str(error).strip()} (lines are counted from line {first + 1})") from None
    if cells.shape[1] < len(names) or not cells.iloc[:, len(names) :].isna().all(axis=None):
        raise DataError(f"{path} has {cells.shape[1]} columns from line {first + 1} on, but {len(names)} are named")
    return Table(path, names, cells, first + 1)
