"""The contract of a reader, and how a reader makes a prepared folder."""

from __future__ import annotations

import csv
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from sidelight.config.io import arguments_help
from sidelight.data.sources.checked_files import END, FILE, START, spread
from sidelight.data.sources.prepared import DatasetInfo, check_units, write_prepared
from sidelight.errors import DataError
from sidelight.recordings.base import RecordingType, Segment, Size
from sidelight.utils.files import check_file, check_place, exists

Row = dict[str, Any]
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Wraps an iterable, given its length and a description: `progress.progress_bar`."""
SKIPPED_FILE = "skipped.csv"
"""Lists the rows that --on-error skip left out, with the reason; lies beside the table."""
MAX_LISTED = 5


@dataclass
class Contents:
    """The rows that a reader found.

    Args:
        rows: as `write_prepared` takes them. A file in the source is a Path; a file that `files` writes is a str,
            relative to the prepared folder.
        modalities: modality -> its recording type.
        facts: metadata of the data set; `prepare` fills in source, citation and licence.
        files: writes the files that the source does not hold in this form, given the new folder.
        aligned: modalities whose images must have one height and width within a row, such as RGB and depth.
    """

    rows: list[Row]
    modalities: Mapping[str, RecordingType]
    facts: DatasetInfo
    files: Callable[[Path], None] | None = None
    aligned: Sequence[str] = ()


@dataclass
class RowErrors:
    """Errors of single rows: raised at once, or collected so that the rows are skipped.

    Args:
        skip: collect errors instead of raising them.
        found: (row id, message) of each error collected.
    """

    skip: bool = False
    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, row: str, message: object, others: Callable[[], bool] = lambda: True) -> None:
        """Collect an error of a row; raises it as DataError unless rows are skipped.

        others: asked whether any other row is sound; where none is, skipping is no way out and is not named.
        """
        if not self.skip:
            hint = "; --on-error skip leaves such rows out and lists them" if others() else ""
            raise DataError(f"{message} (row {row!r}{hint})")
        self.found.append((row, str(message)))

    @contextmanager
    def catch(self, row: str) -> Iterator[None]:
        """Add every DataError raised inside the block to the errors of that row."""
        try:
            yield
        except DataError as error:
            self.add(row, error)


@dataclass(frozen=True, kw_only=True)
class Reader(ABC):
    """Reads one public data set. Its options are the dataclass fields, each with a default and a line in `Args:`.

    Class attributes:
        name: name of the reader; the file that holds the class has this name, with "_" for "-".
        summary: one line on the data set.
        obtain: how to get the data.
        citation: what users of the data set cite.
        licence: terms of the data set.
        version: raised when the prepared folder changes.
        accepts_file: the source may be a file instead of a folder.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    obtain: ClassVar[str]
    citation: ClassVar[str]
    licence: ClassVar[str]
    version: ClassVar[int] = 1
    accepts_file: ClassVar[bool] = False

    @abstractmethod
    def find_missing(self, source: Path) -> list[str]:
        """List what the source lacks, one line each, by reading folder listings and tables only; [] if complete."""

    def describe(self, source: Path) -> list[str]:
        """Lines that say what the reader found in a source that is not laid out by a publisher; [] by default."""
        return []

    @abstractmethod
    def read(self, source: Path, errors: RowErrors) -> Contents:
        """Read the rows. An error of one row goes to `errors`; an error of the whole source raises DataError."""

    @abstractmethod
    def synthesize(self, out: Path, seed: int = 0) -> None:
        """Write a tiny data set of noise in the official layout into the empty folder `out`.

        The same seed gives the same data.
        """

    @classmethod
    def describe_options(cls) -> list[tuple[str, Any, str]]:
        """(name, default, description) of each option."""
        descriptions: dict[str, str] = {}
        # Base classes first, so that a subclass can describe an inherited option anew.
        for base in reversed(cls.__mro__):
            descriptions |= arguments_help(base)
        return [(f.name, f.default, descriptions.get(f.name, "")) for f in fields(cls)]


def check(reader: Reader, source: str | Path) -> list[str]:
    """List what the source lacks, before any work; raises DataError if there is no such folder."""
    source = check_place(source)
    if not os.path.isdir(source) and not (reader.accepts_file and exists(source)):
        raise DataError(f"{source} is not a folder; expected the unpacked {reader.name} data. {reader.obtain}")
    return reader.find_missing(source if os.path.isdir(source) else check_file(source))


def prepare(
    reader: Reader,
    source: str | Path,
    out: str | Path,
    *,
    skip: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    tell: Callable[[str], object] | None = None,
) -> tuple[Path, list[tuple[str, str]]]:
    """Write the prepared folder of a data set.

    `RecordingType.probe` opens every file of every row before anything is written.

    Args:
        reader: reads the data set.
        source: folder (or file) of the data set.
        out: the new folder.
        skip: leave out the rows with errors and list them in skipped.csv; otherwise the first error is raised.
        overwrite: replace an existing prepared folder.
        progress: wraps an iterable, given its length and a description.
        tell: gets the lines of `Reader.describe`, before any file is opened.

    Returns:
        The prepared folder, and (row id, message) of each skipped row.

    Raises:
        DataError: something is missing, damaged, out of order, duplicated, or not as declared; names file and row.
    """
    source, out = check_place(source).resolve(), check_place(out)
    missing = check(reader, source)
    if missing and not skip:
        raise DataError(
            f"{source}: {len(missing)} things are missing: {'; '.join(missing[:MAX_LISTED])}"
            f"{' …' * (len(missing) > MAX_LISTED)} "
            f"(--check lists all, --on-error skip leaves their rows out). {reader.obtain}"
        )

    if tell is not None and not missing:
        for line in reader.describe(source):
            tell(line)
    errors = RowErrors(skip)
    found = reader.read(source, errors)
    check_units(str(source), found.modalities)
    rows = _drop_duplicates(found.rows, list(found.modalities), errors)
    rows = _probe_rows(rows, found, errors, progress)
    if not rows:
        first = f", the first: {errors.found[0][1]}" if errors.found else ""
        raise DataError(f"{source}: no row of {reader.name} is left; {len(errors.found)} were skipped{first}")

    facts = replace(
        found.facts,
        source=f"{reader.name} {reader.version}",
        citation=found.facts.citation or reader.citation,
        licence=found.facts.licence or reader.licence,
    )

    def write_files(folder: Path) -> None:
        if found.files is not None:
            found.files(folder)
        if errors.found:
            with (folder / SKIPPED_FILE).open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("id", "error"), *errors.found])

    table = [{c: str(v) if isinstance(v, Path) else v for c, v in row.items()} for row in rows]
    return write_prepared(out, table, found.modalities, facts, files=write_files, overwrite=overwrite), errors.found


def _drop_duplicates(rows: Iterable[Row], modalities: Sequence[str], errors: RowErrors) -> list[Row]:
    """Keep the first row of each id; every further one is an error that names the files of both."""
    first: dict[str, Row] = {}
    for row in rows:
        row_id = str(row["id"])
        if row_id not in first:
            first[row_id] = row
            continue
        files = [str(r[m + FILE]) for r in (first[row_id], row) for m in modalities if r.get(m + FILE)]
        # Both rows may name the same file for one modality; each file is named once.
        errors.add(row_id, f"id {row_id!r} occurs twice: {', '.join(dict.fromkeys(files))}")
    return list(first.values())


def _probe_rows(rows: Sequence[Row], found: Contents, errors: RowErrors, progress: Progress | None) -> list[Row]:
    """Keep the rows whose files can all be read."""
    kept = []
    # Probing waits for the disk most of the time, so threads help; `map` returns results in the order of the rows.
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        messages: Iterable[str] = pool.map(lambda row: _find_row_error(row, found), rows)
        if progress is not None:
            messages = progress(messages, len(rows), "looking at files")
        for i, (row, message) in enumerate(zip(rows, messages)):
            if message:
                errors.add(str(row["id"]), message, partial(_others_are_sound, rows, i, found))
            else:
                kept.append(row)
    finally:
        # Without this, the first error would wait until the files of all other rows had been probed.
        pool.shutdown(cancel_futures=True)
    return kept


def _others_are_sound(rows: Sequence[Row], bad: int, found: Contents) -> bool:
    """Whether any of a few other rows can be read."""
    return any(not _find_row_error(row, found) for row in spread([*rows[:bad], *rows[bad + 1 :]]))


def _find_row_error(row: Row, found: Contents) -> str:
    """Probe the files of a row; returns an error message, or "" if they are sound."""
    sizes: dict[str, Size | None] = {}
    for m, recording_type in found.modalities.items():
        try:
            sizes[m] = _probe_file(row, m, recording_type)
        except DataError as error:
            return f"{m!r}: {error}"

    aligned = {m: size for m in found.aligned if (size := sizes[m]) is not None}
    if len(set(aligned.values())) > 1:
        listed = ", ".join(f"{row[m + FILE]} is {height} x {width}" for m, (height, width) in aligned.items())
        return f"{listed} pixels; {' and '.join(aligned)} of a row must have one size"
    return ""


def _probe_file(row: Row, modality: str, recording_type: RecordingType) -> Size | None:
    """Probe a file of the source; a file that the reader writes itself does not exist yet."""
    path = row.get(modality + FILE)
    if not isinstance(path, Path):
        return None
    start, end = (
        None if row.get(modality + suffix) in (None, "") else row[modality + suffix] for suffix in (START, END)
    )
    return recording_type.probe(Segment(path, start, end))


def synthesize(reader: Reader, out: str | Path, seed: int = 0) -> Path:
    """Write a reader's tiny synthetic data set.

    Args:
        reader: its `synthesize` writes the files.
        out: a new or empty folder.
        seed: the same seed gives the same data.

    Returns:
        The folder.

    Raises:
        DataError: the folder is not empty.
    """
    out = check_place(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not empty; choose another name")
    out.mkdir(parents=True, exist_ok=True)
    reader.synthesize(out, seed)
    return out
