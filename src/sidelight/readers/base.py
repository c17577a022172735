"""The contract of a reader, and how one makes a prepared folder."""

from __future__ import annotations

import csv
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from sidelight.config.io import arguments_help
from sidelight.data.sources.prepared import END, FILE, START, DatasetInfo, write_prepared
from sidelight.errors import DataError
from sidelight.recordings.recording_type import RecordingType, Segment, Size
from sidelight.utils.files import check_file, check_place, exists

Row = dict[str, Any]
SKIPPED = "skipped.csv"
"""Rows that --on-error skip left out, and why; beside the table."""
SHOWN = 5


@dataclass
class Contents:
    """What a reader found.

    Args:
        rows: as `write_prepared` takes them; a file in the source is a Path, one that `files` writes a text.
        modalities: the kind of each.
        facts: of the set; source, citation and licence are filled in by `prepare`.
        files: writes into the new folder what is not in the source as it is.
        aligned: modalities whose pictures of one row must have the same height and width, as RGB and depth.
    """

    rows: list[Row]
    modalities: Mapping[str, RecordingType]
    facts: DatasetInfo
    files: Callable[[Path], None] | None = None
    aligned: Sequence[str] = ()


@dataclass
class Faults:
    """What is wrong with single rows: an error (skip=False), or a list of them and the rows go.

    found: (row's id, what is wrong with it).
    """

    skip: bool = False
    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, row: str, message: object) -> None:
        """Raises DataError, unless rows are skipped."""
        if not self.skip:
            raise DataError(f"{message} (row {row!r}; --on-error skip leaves such rows out and lists them)")
        self.found.append((row, str(message)))

    @contextmanager
    def of(self, row: str) -> Iterator[None]:
        """What raises DataError inside is that row's fault."""
        try:
            yield
        except DataError as error:
            self.add(row, error)


@dataclass(frozen=True, kw_only=True)
class Reader(ABC):
    """One public data set. Its options are the dataclass fields, each with a default and a line in `Args:`.

    Class attributes: name: of the reader. summary: what the set is, in a line. obtain: how to get it. citation,
    licence: for whoever uses it. version: raised when what it writes changes. takes_file: the source may be a file.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    obtain: ClassVar[str]
    citation: ClassVar[str]
    licence: ClassVar[str]
    version: ClassVar[int] = 1
    takes_file: ClassVar[bool] = False

    @abstractmethod
    def missing(self, source: Path) -> list[str]:
        """What is absent from the source, a line each, from listings and tables alone; [] where nothing is."""

    @abstractmethod
    def read(self, source: Path, faults: Faults) -> Contents:
        """The rows; what is wrong with one goes to `faults`, what is wrong with the source raises DataError."""

    @abstractmethod
    def synthesize(self, out: Path, seed: int = 0) -> None:
        """Write a tiny set of noise in the official layout into the empty folder `out`; the same of the same seed."""

    @classmethod
    def options(cls) -> list[tuple[str, Any, str]]:
        """(name, default, what it says) of each option."""
        about = {name: text for part in reversed(cls.__mro__) for name, text in arguments_help(part).items()}
        return [(f.name, f.default, about.get(f.name, "")) for f in fields(cls)]


def check(reader: Reader, source: str | Path) -> list[str]:
    """What is missing in the source, before any work; raises DataError where there is no such folder."""
    source = check_place(source)
    if not os.path.isdir(source) and not (reader.takes_file and exists(source)):
        raise DataError(f"{source} is no folder; expected the unpacked {reader.name} data. {reader.obtain}")
    return reader.missing(source if os.path.isdir(source) else check_file(source))


def prepare(
    reader: Reader,
    source: str | Path,
    out: str | Path,
    *,
    skip: bool = False,
    overwrite: bool = False,
    progress: Callable[[Iterable[Any], int, str], Iterable[Any]] | None = None,
) -> tuple[Path, list[tuple[str, str]]]:
    """Write the prepared folder of a source; returns it and the rows that were skipped, each with its fault.

    Every file of every row is looked at first (`RecordingType.probe`). skip: leave rows with faults out and list them in
    skipped.csv; otherwise the first is an error. progress: wraps an iterable, given its length and what it is.

    Raises DataError naming file and row: something is missing, damaged, out of order, twice, or not as declared.
    """
    source, out = check_place(source).resolve(), check_place(out)
    absent = check(reader, source)
    if absent and not skip:
        raise DataError(
            f"{source}: {len(absent)} things are missing: {'; '.join(absent[:SHOWN])}{' …' * (len(absent) > SHOWN)} "
            f"(--check lists all, --on-error skip leaves their rows out). {reader.obtain}"
        )
    faults = Faults(skip)
    found = reader.read(source, faults)
    rows = _without_doubles(found.rows, list(found.modalities), faults)
    rows = _probed(rows, found, faults, progress)
    if not rows:
        first = f", the first: {faults.found[0][1]}" if faults.found else ""
        raise DataError(f"{source}: no row of {reader.name} is left; {len(faults.found)} were skipped{first}")
    facts = replace(
        found.facts,
        source=f"{reader.name} {reader.version}",
        citation=found.facts.citation or reader.citation,
        licence=found.facts.licence or reader.licence,
    )

    def files(folder: Path) -> None:
        if found.files is not None:
            found.files(folder)
        if faults.found:
            with (folder / SKIPPED).open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("id", "error"), *faults.found])

    table = [{c: str(v) if isinstance(v, Path) else v for c, v in row.items()} for row in rows]
    return write_prepared(out, table, found.modalities, facts, files=files, overwrite=overwrite), faults.found


def _without_doubles(rows: Iterable[Row], modalities: Sequence[str], faults: Faults) -> list[Row]:
    kept: dict[str, Row] = {}
    for row in rows:
        name = str(row["id"])
        if name in kept:
            files = [str(r[m + FILE]) for r in (kept[name], row) for m in modalities if r.get(m + FILE)]
            faults.add(name, f"id {name!r} occurs twice: {', '.join(dict.fromkeys(files))}")
        else:
            kept[name] = row
    return list(kept.values())


def _probed(
    rows: Sequence[Row],
    found: Contents,
    faults: Faults,
    progress: Callable[[Iterable[Any], int, str], Iterable[Any]] | None,
) -> list[Row]:
    """The rows all of whose files are sound."""

    def fault(row: Row) -> str:
        sizes: dict[str, Size | None] = {}
        for m, kind in found.modalities.items():
            try:
                sizes[m] = _probe(row, m, kind)
            except DataError as error:
                return f"{m!r}: {error}"
        seen = {m: sizes[m] for m in found.aligned if sizes[m] is not None}
        if len(set(seen.values())) > 1:
            said = ", ".join(f"{row[m + FILE]} is {size[0]} x {size[1]}" for m, size in seen.items() if size)
            return f"{said} pixels; {' and '.join(seen)} of a row must have one size"
        return ""

    kept = []
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        said: Iterable[str] = pool.map(fault, rows)
        if progress is not None:
            said = progress(said, len(rows), "looking at files")
        for row, message in zip(rows, said):
            if message:
                faults.add(str(row["id"]), message)
            else:
                kept.append(row)
    finally:
        pool.shutdown(cancel_futures=True)
    return kept


def _probe(row: Row, modality: str, kind: RecordingType) -> Size | None:
    """Of a file in the source; what the reader writes itself is not there yet."""
    path = row.get(modality + FILE)
    if not isinstance(path, Path):
        return None
    start, end = (row.get(modality + suffix) for suffix in (START, END))
    return kind.probe(Segment(path, None if start in (None, "") else start, None if end in (None, "") else end))


def synthesize(reader: Reader, out: str | Path, seed: int = 0) -> Path:
    """Write the reader's tiny synthetic copy into a new or empty folder; raises DataError where something is."""
    out = check_place(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not empty; choose another name")
    out.mkdir(parents=True, exist_ok=True)
    reader.synthesize(out, seed)
    return out
