"""How a text table is written: separator, decimal sign, encoding, lines before its header, a line of units.

What a file shows without doubt is found. Where two readings fit, the error names both and the option that decides.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sidelight.errors import ConfigError, DataError, listed, shown, unknown
from sidelight.utils.text_files import find_encoding, open_text
from sidelight.utils.units import is_unit

SEPARATORS = {",": "`,`", ";": "`;`", "\t": "tab", "|": "`|`", " ": "blanks"}
"""Separators that are looked for -> their names; blanks only where nothing else separates cells."""
WORDS = {
    "comma": ",",
    "semicolon": ";",
    "tab": "\t",
    "\\t": "\t",
    "pipe": "|",
    "blanks": " ",
    "space": " ",
    "point": ".",
}
"""Words that a user may write for a sign, which shells keep for themselves."""
OPTIONS = ("separator", "decimal", "encoding", "header")
"""Settings of `Dialect` that a user may give."""
COMMENTS = ("#", "%", "//", "sep=")
"""Signs of comments before a header; spreadsheets write `sep=;`."""
HEAD = 2**15
"""Characters by which a table is recognised."""
MOST_LINES = 100
"""Lines by which a table is recognised, at most."""
PROOF = 3
"""Numbers below a text, at least, that make the text a name or a unit."""
MOST_HEAD = 2**24
"""Characters that are read at most where the first lines are longer."""
LAST_LINE = 2**31
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """How a text table is written. Empty settings are found in the file.

    Args:
        separator: the character between cells; " ": any number of blanks.
        decimal: the decimal sign, "." or ",".
        encoding: a name that Python knows, such as "latin-1".
        header: number of the line that names the columns, counted from 1; 0: none does, and they are called "1", "2", …
        comment: the sign before the names, if their line is a comment.
        units: column -> unit, if the line below the header holds units.
    """

    separator: str = ""
    decimal: str = ""
    encoding: str = ""
    header: int | None = None
    comment: str = field(default="", repr=False)
    units: Mapping[str, str] | None = field(default=None, repr=False)

    def describe(self, suffix: str = ".csv") -> str:
        """What differs from the usual table with this suffix, in words; "" if nothing does."""
        parts = []
        if self.separator != ("\t" if suffix == ".tsv" else ","):
            parts.append(SEPARATORS.get(self.separator, repr(self.separator)))
        if self.decimal == ",":
            parts.append("decimal comma")
        if self.encoding not in ("utf-8", "utf-8-sig"):
            parts.append(self.encoding)
        if self.header == 0:
            parts.append("no header")
        elif (self.header or 1) > 1 or self.comment:
            parts.append(f"names in line {self.header}")
        if self.units is not None:
            parts.append("a line of units")
        return ", ".join(parts)


def build_dialect(given: Mapping[str, Any], where: str = "table") -> Dialect:
    """A dialect from the settings that a user gives; raises ConfigError that names the setting."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where} is {shown(given)}; expected settings such as {{'separator': ';', 'decimal': ','}}")
    for name, value in given.items():
        if name not in OPTIONS:
            raise ConfigError(unknown(f"setting of {where}", name, OPTIONS))
        if name == "header":
            value = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 20 else value
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LAST_LINE:
                raise ConfigError(
                    f"{where}: header is {shown(value)}; expected the number of the line that names the columns, or 0 "
                    "for a file without one"
                )
        elif not isinstance(value, str):
            raise ConfigError(f"{where}: {name} is {shown(value)}; expected a text")
    signs = {name: WORDS.get(given[name], given[name]) for name in ("separator", "decimal") if name in given}
    header = {"header": int(given["header"])} if "header" in given else {}
    made = Dialect(**{**given, **signs, **header})
    if len(made.separator) > 1 or made.separator in tuple('"\r\n\0') or made.separator.isalnum():
        words = "comma, semicolon, tab, pipe or blanks"
        why = "; letters, digits, quotes and line ends stand in cells" if len(made.separator) == 1 else ""
        raise ConfigError(f"{where}: separator {made.separator!r}; expected one character, or {words}{why}")
    if made.decimal not in ("", ".", ","):
        raise ConfigError(f"{where}: decimal {made.decimal!r}; expected '.' or ',' (point or comma)")
    if made.encoding:
        try:
            # Python keeps conversions such as base64 among its encodings, which only this refuses.
            io.TextIOWrapper(io.BytesIO(), made.encoding)
        except (LookupError, ValueError):
            known = ("utf-8", "latin-1", "cp1252", "cp1251", "shift_jis", "gbk", "utf-16")
            raise ConfigError(f"{where}: {unknown('encoding', made.encoding, known)}") from None
    return made


def is_number(cell: str) -> bool:
    """Whether a cell is a number, with a decimal point or comma."""
    return NUMBER.fullmatch(cell.strip()) is not None


def split_lines(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    """The cells of each record, without blanks before them."""
    if separator == " ":
        return (line.split() for line in lines)
    return csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)


def find_dialect(path: str | Path, given: Dialect | None = None) -> Dialect:
    """Find how a text table is written, from its first lines.

    Args:
        path: the file.
        given: what is known already.

    Raises:
        DataError: the file cannot be read, or can be read in two ways; the message names both, and the option.
    """
    path, given = Path(path), given or Dialect()
    made = replace(given, encoding=given.encoding or find_encoding(path))
    sample = _read_sample(path, made.encoding)
    # A sign that is nowhere separates nothing; `;` then stands for a table of one column with decimal commas.
    tried = [s for s in SEPARATORS if s in ",;" or any(s in line for line in sample)]
    readings = [_read(sample, s, given) for s in ([given.separator] if given.separator else tried)]
    found = _choose(path, [r for r in readings if r is not None], given)
    if found is None:  # no lines, or none that a separator splits soundly: reading them says why
        usual = given.separator or ("\t" if path.name.lower().endswith((".tsv", ".tsv.gz")) else ",")
        return replace(made, separator=usual, header=1 if given.header is None else given.header)
    if given.header is None and found.is_numbered:
        raise DataError(
            f"{path}: the header is a number ({listed(found.names, 3)}); expected the names of the columns. If the "
            "file has none, say --table header=0 (header=0): the columns are then called 1, 2, …. An Empatica E4 file, "
            "which begins with its start and rate, is read by sidelight.formats.read_recordings and `sidelight windows`"
        )
    if found.rival:
        raise DataError(
            f"{path}: both line {found.header} ({listed(found.names, 3)}) and the comment above it "
            f"({listed(found.rival, 3)}) may name the columns; say which: --table header={found.header - 1} for the "
            f"comment, or header={found.header}"
        )
    return replace(made, separator=found.separator, header=found.header, comment=found.comment, units=found.units)


def _read_sample(path: Path, encoding: str) -> list[str]:
    """The first lines, whole ones, and at least as many as show whether columns hold numbers."""
    with open_text(path, encoding) as file:
        head = file.read(HEAD)
        while (more := file.read(len(head))) and len(head) < MOST_HEAD and head.count("\n") + head.count("\r") <= PROOF:
            head += more
            more = ""
        rest = more or file.read(1)
    lines = list(io.StringIO(head, newline=""))
    return (lines[:-1] if rest and len(lines) > 1 else lines)[:MOST_LINES]


@dataclass
class _Reading:
    """The first lines of a file, read with one separator.

    `rows` are those below the names. `rival`: a comment above that may as well hold the names.
    """

    separator: str
    header: int
    names: list[str]
    rows: list[list[str]]
    comment: str = ""
    units: dict[str, str] | None = None
    rival: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether every line is as wide as the header."""
        return all(_fits(row, self.names) for row in self.rows)

    @property
    def is_numbered(self) -> bool:
        """Whether the names are numbers, and not those that count columns."""
        count = [str(i) for i in range(len(self.names) + 1)]
        return all(map(is_number, self.names)) and self.names not in (count[:-1], count[1:])


def _read(lines: Sequence[str], separator: str, given: Dialect) -> _Reading | None:
    """Read the first lines; None if there are none, or quotes do not fit the separator."""
    first = given.header - 1 if given.header else _count_comments(lines)
    numbers, rows = [], []
    try:
        reader = split_lines(lines[first:], separator)
        line = first + 1
        for row in reader:
            if any(cell.strip() for cell in row):
                numbers.append(line)
                rows.append(row)
            line = first + 1 + getattr(reader, "line_num", line - first)
    except csv.Error:
        if len(rows) < PROOF:  # the sample may end inside of quotes
            return None
    if not rows:
        return None
    names = _strip(rows[0])
    if given.header is not None:
        if given.header == 0:
            return _Reading(separator, 0, [str(c + 1) for c in range(len(names))], rows)
        if sign := _find_sign(lines[first]):
            names = _split_comment(lines[first], separator)
        return _with_units(_Reading(separator, numbers[0], names, rows[1:], sign))
    above: list[str] = []
    if first and (sign := _find_sign(lines[first - 1])):
        above = _split_comment(lines[first - 1], separator)
        if len(above) != len(names) or not _are_names(above):
            above = []
        elif any(map(is_number, names)):
            return _Reading(separator, first, above, rows, sign)
    k = _find_header(rows)
    found = _with_units(_Reading(separator, numbers[k], _strip(rows[k]), rows[k + 1 :]))
    if not any(_number_columns(found.rows, len(found.names))):  # nothing shows that a row of texts is the header
        found.rival = above
    return found


def _find_sign(line: str) -> str:
    """The sign of a comment that may hold names; "" for other lines."""
    return next((sign for sign in COMMENTS if sign != "sep=" and line.lstrip().startswith(sign)), "")


def _split_comment(line: str, separator: str) -> list[str]:
    return _strip(next(iter(split_lines([strip_comment(line, _find_sign(line))], separator)), []))


def strip_comment(line: str, sign: str) -> str:
    """A line without the sign of its comment."""
    return line.lstrip().removeprefix(sign).lstrip(sign[0]).lstrip()


def _count_comments(lines: Sequence[str]) -> int:
    """The number of lines before the first that is neither blank nor a comment."""
    for i, line in enumerate(lines):
        if line.strip().lstrip("\ufeff") and not line.lstrip().startswith(COMMENTS):
            return i
    return 0


def _find_header(rows: Sequence[list[str]]) -> int:
    """The row of the names: the first, unless all later rows are wider and one of them names columns of numbers.

    A header that only lacks a name has numbers below it in its second row, which is no row of names.
    """
    for k in range(1, len(rows) - PROOF):
        names, below = _strip(rows[k]), rows[k + 1 :]
        if any(len(_strip(row)) >= len(names) for row in rows[:k]):
            continue
        if not _are_names(names) or not all(_fits(row, names) for row in below):
            continue
        of_units = all(is_unit(cell) for cell in below[0] if cell.strip("- "))
        if any(_number_columns(below[of_units:], len(names))):
            return k
    return 0


def _with_units(reading: _Reading) -> _Reading:
    """Take the first row for units, if it is nothing else and one of them stands over numbers alone."""
    row, below = [cell.strip() for cell in reading.rows[0]] if reading.rows else [], reading.rows[1:]
    filled = [c for c, cell in enumerate(row[: len(reading.names)]) if cell.strip("-")]
    if len(below) < PROOF or not filled or not all(is_unit(row[c]) for c in filled):
        return reading
    over = _number_columns(below, len(reading.names))
    if not any(over[c] for c in filled):
        return reading
    reading.units, reading.rows = {reading.names[c]: row[c].strip("[]() ") for c in filled}, below
    return reading


def _number_columns(rows: Sequence[list[str]], width: int) -> list[bool]:
    """Which columns hold numbers, and empty cells at most."""
    columns = [[row[c].strip() for row in rows if c < len(row)] for c in range(width)]
    return [any(cells) and all(is_number(cell) for cell in cells if cell) for cells in columns]


def _are_names(cells: Sequence[str]) -> bool:
    return len(set(cells)) == len(cells) > 1 and all(cells) and not any(map(is_number, cells))


def _strip(row: Sequence[str]) -> list[str]:
    """The cells up to the last that is not empty."""
    cells = [cell.strip() for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _fits(row: Sequence[str], names: Sequence[str]) -> bool:
    return len(_strip(row)) <= len(names) <= len(row)


def _choose(path: Path, readings: Sequence[_Reading], given: Dialect) -> _Reading | None:
    """The reading that splits every line alike; raises DataError if two do."""
    if given.separator or not readings:
        return readings[0] if readings else None
    blanks = [r for r in readings if r.separator == " "]
    others = [r for r in readings if r.separator not in (" ", given.decimal)]
    split = [r for r in others if len(r.names) > 1]
    sound = [r for r in split if r.is_sound]
    if path.name.lower().endswith((".tsv", ".tsv.gz")):
        sound = [r for r in sound if r.separator == "\t"] or sound
    if len(sound) > 1:
        both = " and ".join(f"{SEPARATORS[r.separator]} ({len(r.names)} columns)" for r in sound[:2])
        raise DataError(
            f"{path}: both {both} split every line alike; say which stands between cells: --table separator=comma, "
            "semicolon, tab or pipe (in Python: separator=)"
        )
    if sound:
        return sound[0]
    if split:  # reading names the line that does not fit
        return max(split, key=lambda r: len(r.names))
    for r in blanks:
        if len(r.names) > 1 and r.is_sound and any(_number_columns(r.rows, len(r.names))):
            return r
    whole = next((r for r in others if r.is_sound), None)
    if whole is None or whole.separator == "," or "," in "".join(whole.names):
        return whole if whole and whole.separator == "," else None
    if given.decimal == ",":
        return whole
    commas = [cell for row in whole.rows for cell in row if "," in cell]
    if commas and all(map(is_number, commas)):
        raise DataError(
            f"{path}: the header names one column, {whole.names[0]!r}, but its cells hold a comma ({commas[0]!r}): is "
            "it a decimal one (--table decimal=comma), or does the header lack a name?"
        )
    return None
