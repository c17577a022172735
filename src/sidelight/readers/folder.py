"""Your own folder: a folder of files for each modality, and a table of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from sidelight.data.raw import DEFAULT_NAMES
from sidelight.data.sources.prepared import DECLARED_TASKS, DatasetInfo
from sidelight.data.sources.tables import read_frame
from sidelight.errors import ConfigError, DataError, listed, unknown
from sidelight.readers.base import Contents, Reader, Row, RowErrors
from sidelight.readers.tables_of_files import guess_signal
from sidelight.readers.voices import write_voices
from sidelight.recordings.by_id import KNOWN, SUFFIXES, find_folders, name_files, names_repeat, same_text
from sidelight.recordings.raster import Raster, describe_raster
from sidelight.recordings.registry import Array, Audio, Image, RecordingType, Signal, Video
from sidelight.signals.spectrogram import PRESETS

TABLES = ("labels.csv", "labels.tsv", "labels.parquet", "metadata.csv", "metadata.tsv", "metadata.parquet")
SHOWN = 8
"""Names that a line lists before it ends in …"""


@dataclass(frozen=True)
class Matches:
    """What belongs to what.

    Args:
        table: the labels, with their `id`.
        said: the table's file and the column of its ids.
        files: modality -> id -> file.
        unused: modality -> files of rows that the table does not have.
    """

    table: pd.DataFrame
    said: str
    files: dict[str, dict[str, Path]]
    unused: dict[str, list[Path]]


@dataclass(frozen=True, kw_only=True)
class Folder(Reader):
    """Reads <modality>/<id>.wav (.csv, .mp4, .png, .npy, …) and labels.csv, paired by the id.

    Sound becomes the frames of the spectrogram `speech`, as long as its recording.

    Args:
        labels: the table; default: labels.csv, or the only table there.
        ids: its column with the ids; default: id, or the column that most files are named by.
        target: the column to predict; default: target, label or y, or the only other column.
        group: column of the person that a row comes from; default: group or subject.
        split: column of the official split; default: split.
        task: default: chosen by the target.
        available: modalities that are there when the student is used, separated by commas.
        privileged: modalities that are there in training only.
        columns: columns of tables per row, names or patterns (AU*_r), separated by commas; default: all with numbers,
            of OpenFace its AU*_r.
        rate: sampling rate in Hz of tables without a column of times; of others, the rate to resample them to.
        units: of modalities, as eda:uS,temp:degC.
        seconds: length of sound and tables per row; 0: as long as each of them.
        height: of images and clips, in pixels.
        width: of images and clips, in pixels.
        frames: number of frames in a clip.
        stride: step from one frame of a clip to the next, in frames of the video.
    """

    name: ClassVar[str] = "folder"
    summary: ClassVar[str] = "your own files: a folder for each modality (audio/<id>.wav, face/<id>.csv) and labels.csv"
    obtain: ClassVar[str] = "your own: a folder of files for each modality, and labels.csv with a row for each id"
    citation: ClassVar[str] = "your own recordings"
    licence: ClassVar[str] = "yours"

    labels: str = ""
    ids: str = ""
    target: str = ""
    group: str = ""
    split: str = ""
    task: str = ""
    available: str = ""
    privileged: str = ""
    columns: str = ""
    rate: float = 0.0
    units: str = ""
    seconds: float = 0.0
    height: int = 112
    width: int = 112
    frames: int = 16
    stride: int = 2

    def __post_init__(self) -> None:
        if self.task not in DECLARED_TASKS:
            raise ConfigError(unknown("task", self.task, DECLARED_TASKS))
        if self.rate < 0 or self.seconds < 0:
            raise ConfigError(f"folder: rate={self.rate:g}, seconds={self.seconds:g}; expected numbers from 0 on")
        for pair in _split(self.units):
            if not all(pair.partition(":")[::2]):
                raise ConfigError(f"folder: units={self.units!r}; expected modality:unit, as eda:uS,temp:degC")

    def find_missing(self, source: Path) -> list[str]:
        try:
            self._match(source)
        except DataError as error:
            return [str(error)]
        return []

    def describe(self, source: Path) -> list[str]:
        """What was matched: rows of the table, files of each modality, and what has no partner."""
        found = self._match(source)
        rows, ids = len(found.table), found.table["id"].tolist()
        lines = [f"{found.said}: {rows} rows"]
        for m, files in found.files.items():
            absent = [i for i in ids if i not in files]
            suffixes = sorted({path.suffix.lower() for path in files.values()})
            line = f"{m}: {rows - len(absent)} of {rows} rows have a file ({', '.join(suffixes)})"
            lines.append(line + (f"; none for {_few(absent)}" if absent else ""))
        without = [i for i in ids if not any(i in files for files in found.files.values())]
        if without:
            lines.append(f"left out, since they have no file at all: {_few(without)}")
        for m, unused in found.unused.items():
            if unused:
                lines.append(f"{m}: {len(unused)} files without a row are not read: {_few([p.name for p in unused])}")
        return lines

    def read(self, source: Path, errors: RowErrors) -> Contents:
        found = self._match(source)
        kinds = {m: self._guess_type(m, list(files.values())) for m, files in found.files.items()}
        for m in [pair.partition(":")[0] for pair in _split(self.units)]:
            if m not in kinds:
                raise ConfigError(f"folder: units: {unknown('modality', m, kinds)}")
        columns = [str(c) for c in found.table.columns]
        target = self._find_target(source, columns)
        group, split = (self._find_column(source, role, getattr(self, role), columns) for role in ("group", "split"))
        rows: list[Row] = []
        for cells in found.table.to_dict("records"):
            row: Row = {str(c): value for c, value in cells.items()}
            files = {f"{m}_file_name": files.get(row["id"], "") for m, files in found.files.items()}
            if any(files.values()):
                rows.append(row | files)
        facts = DatasetInfo(
            name=source.name, target=(target,), task=self.task, available=_split(self.available),
            privileged=_split(self.privileged), group=group, split=split,
        )  # fmt: skip
        return Contents(rows, kinds, facts)

    def _match(self, source: Path) -> Matches:
        path = self._find_table(source)
        folders = find_folders(source)
        if not folders:
            raise DataError(
                f"{source}: no folder here holds recordings ({', '.join(KNOWN)}); expected a folder for each modality, "
                "such as audio/ and face/"
            )
        by_path = any(map(names_repeat, folders.values()))
        named = {m: name_files(files, source / m, by_path) for m, files in folders.items()}
        table = read_frame(path).astype(object)
        column = self._find_ids(path, table, named)
        table = table.assign(id=[_bare(cell) for cell in table[column]])
        known = set(table["id"])
        files = {m: {i: p for i, p in found.items() if i in known} for m, found in named.items()}
        unused = {m: [p for i, p in found.items() if i not in known] for m, found in named.items()}
        for m, matched in files.items():
            if not matched:
                raise DataError(
                    f"{path}: no file of {m}/ belongs to a row: the files are named {_few(list(named[m]))}, the rows "
                    f"{_few(table['id'].tolist())}. A file has to be named by the id of its row"
                )
        return Matches(table, f"{path.name}, ids in column {column!r}", files, unused)

    def _find_table(self, source: Path) -> Path:
        if self.labels:
            return source / self.labels
        usual = [source / name for name in TABLES if (source / name).is_file()]
        tables = sorted(p for p in source.iterdir() if p.suffix.lower() in (".csv", ".tsv", ".parquet"))
        if not usual and len(tables) != 1:
            there = f"; there are {_few([p.name for p in tables])}, so name one (labels=…)" if tables else ""
            raise DataError(f"{source}: expected labels.csv, a table with a row for each id and its label{there}")
        return (usual or tables)[0]

    def _find_ids(self, path: Path, table: pd.DataFrame, named: Mapping[str, Mapping[str, Path]]) -> str:
        columns = [str(c) for c in table.columns]
        if self.ids:
            return self._find_column(path, "ids", self.ids, columns)
        known = {name for files in named.values() for name in files}
        fits = {c: sum(_bare(cell) in known for cell in table[c].unique()) for c in columns}
        usual = [c for c in DEFAULT_NAMES["ids"] if fits.get(c)]
        best = max(fits, key=lambda c: fits[c])
        if not fits[best]:
            cells = [str(cell) for cell in table[columns[0]].head(SHOWN)]
            raise DataError(
                f"{path}: no column holds names of files: the files are named {_few(sorted(known))}; column "
                f"{columns[0]!r} holds {_few(cells)}. A file has to be named by the id of its row"
            )
        return usual[0] if usual else best

    def _find_column(self, source: Path, role: str, given: str, columns: Sequence[str]) -> str:
        """The column of a role: the one that was named, or one with a usual name; "" if there is none."""
        if given and given not in columns:
            raise DataError(f"{source}: {role}: {unknown('column', given, columns)}")
        return given or next((c for c in DEFAULT_NAMES[role] if c in columns), "")

    def _find_target(self, source: Path, columns: Sequence[str]) -> str:
        if target := self._find_column(source, "target", self.target, columns):
            return target
        taken = {"id", self.ids, self.group, self.split, *DEFAULT_NAMES["group"], *DEFAULT_NAMES["split"]}
        others = [c for c in columns if c not in taken]
        if len(others) != 1:
            raise DataError(
                f"{source}: which column of the table is the target? Name it: target=…. Columns: {listed(columns)}"
            )
        return others[0]

    def _guess_type(self, m: str, files: Sequence[Path]) -> RecordingType:
        """The kind of recording of a modality, by the suffix of its files."""
        kinds = {kind for p in files for kind, suffixes in SUFFIXES.items() if p.suffix.lower() in suffixes}
        if len(kinds) > 1:
            found = sorted({p.suffix.lower() for p in files})
            raise DataError(f"{files[0].parent} holds {', '.join(found)}; expected files of one kind for a modality")
        units = dict(pair.split(":", 1) for pair in _split(self.units))
        size = (self.height, self.width)
        made: dict[str, Any] = {
            "audio": lambda: Audio(
                rate=0, resample_to=PRESETS["speech"].rate, spectrogram="speech", seconds=self.seconds
            ),
            "video": lambda: Video(size=size, frames=self.frames, stride=self.stride),
            "image": lambda: Image(size=size),
            "raster": lambda: Raster(**describe_raster(files[0])),
            "array": lambda: Array(unit=units.get(m, "1")),
            "signal": lambda: self._signal(m, files, units.get(m, "1")),
        }
        kind: RecordingType = made[kinds.pop()]()
        return kind

    def _signal(self, m: str, files: Sequence[Path], unit: str) -> Signal:
        return guess_signal(m, files, _split(self.columns), self.rate, unit, self.seconds)

    def synthesize(self, out: Path, seed: int = 0) -> None:
        write_voices(out, seed)


def _bare(cell: object) -> str:
    """An id without the suffix that a file name has."""
    text = same_text(str(cell).strip())
    path = Path(text)
    return path.with_suffix("").as_posix() if path.suffix.lower() in KNOWN else text


def _split(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", … ({len(names)})" if len(names) > SHOWN else "")
