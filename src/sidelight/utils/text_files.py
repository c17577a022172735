"""Open text files whatever their encoding and packing, and find the encoding."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from sidelight.errors import DataError
from sidelight.utils.files import check_file, describe_content

CHUNK = 2**20
WESTERN = frozenset(b"\x80\x85\x8a\x8c\x8e\x91\x92\x93\x94\x95\x96\x97\x99\x9a\x9c\x9e\x9f")
"""Bytes below 0xa0 that western text in Windows-1252 holds (€, …, quotes, dashes, Š, œ). Latin-1 has none there."""
LONGEST_RUN = 3
"""Letters beyond ASCII that may follow each other in a western word. Cyrillic or Chinese words have no others."""


def is_packed(path: Path) -> bool:
    """Whether a file is compressed, by its name."""
    return path.suffix.lower() == ".gz"


def table_suffix(path: Path) -> str:
    """The suffix of a table in lower case, without that of its packing: .csv of rows.csv.gz."""
    return Path(path.stem).suffix.lower() if is_packed(path) else path.suffix.lower()


def table_stem(path: Path) -> str:
    """The name of a table without suffixes: rows of rows.csv.gz."""
    return Path(path.stem).stem if is_packed(path) else path.stem


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked if it is called .gz; what the system or the packing raises becomes a DataError."""
    check_file(path)
    expected = ".gz" if is_packed(path) else path.suffix
    if path.stat().st_size and (told := describe_content(path, expected, of_text=not is_packed(path))):
        raise DataError(f"cannot read {path}: {told}")
    try:
        with gzip.open(path, "rb") if is_packed(path) else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"cannot read {path}: truncated or not a .gz file ({error})") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


@contextmanager
def open_text(path: Path, encoding: str) -> Iterator[TextIO]:
    """Open a text file in an encoding, with its line ends as they are."""
    with open_bytes(path) as file:
        try:
            yield io.TextIOWrapper(file, encoding, newline="")
        except UnicodeError as error:
            reason = getattr(error, "reason", error)
            raise DataError(f"cannot read {path}: it is not {encoding} text ({reason}); {OTHER_ENCODING}") from None


OTHER_ENCODING = "name its encoding (--table encoding=cp1251, shift_jis, …), or save it as UTF-8"


def find_encoding(path: Path) -> str:
    """UTF-8, UTF-16 or UTF-32 with its mark, or Latin-1 or Windows-1252 where the text looks like a western language.

    Raises:
        DataError: the text is none of these, or only some of its lines are UTF-8; names the option.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    neither = f"cannot read {path}: it is neither UTF-8 text nor western text in Latin-1; {OTHER_ENCODING}"
    with open_bytes(path) as file:
        chunk = head = file.read(CHUNK)
        if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # the first begins as UTF-16 does
            return "utf-32"
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        if b"\0" in head:
            raise DataError(neither)
        try:
            while chunk:
                decoder.decode(chunk)
                chunk = file.read(CHUNK)
            decoder.decode(b"", final=True)
            return "utf-8-sig"
        except UnicodeDecodeError:
            pass
    high: set[int] = set()
    longest, some_utf8 = 0, b""
    with open_bytes(path) as file:
        while chunk := file.read(CHUNK):
            runs = re.findall(rb"[\x80-\xff]+", chunk)
            longest = max(longest, *map(len, runs), 0)
            high.update(*runs)
            some_utf8 = some_utf8 or next(filter(_is_utf8, runs), b"")
    if some_utf8:
        raise DataError(
            f"cannot read {path}: some of it is UTF-8 text ({some_utf8.decode()!r}), and some is not: was it put "
            "together from files in two encodings? Save it in one, or name that of the whole file "
            "(--table encoding=latin-1)"
        )
    odd = {byte for byte in high if byte < 0xA0}
    if longest > LONGEST_RUN or not odd <= WESTERN:
        raise DataError(neither)
    return "cp1252" if odd else "latin-1"


def _is_utf8(run: bytes) -> bool:
    """Whether bytes beyond ASCII that follow each other are UTF-8, which two letters in Latin-1 never are."""
    try:
        return bool(run.decode())
    except UnicodeDecodeError:
        return False
