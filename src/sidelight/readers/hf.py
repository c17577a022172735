"""A folder in the layout of Hugging Face: files, and metadata with a column of file names per modality."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from sidelight.data.raw import SPLIT_NAMES
from sidelight.data.sources.checked_files import END, START
from sidelight.data.sources.checked_files import FILE as FILE_COLUMN
from sidelight.data.sources.locate import MANIFESTS
from sidelight.data.sources.prepared import DECLARED_TASKS, DatasetInfo
from sidelight.data.sources.tables import read_frame
from sidelight.errors import ConfigError, DataError, unknown
from sidelight.readers.base import Contents, Reader, RowErrors
from sidelight.readers.synthetic import make_noise_frames, write_image, write_wav
from sidelight.recordings.by_id import VIDEOS
from sidelight.recordings.colours import read_colour_table
from sidelight.recordings.registry import Array, Audio, Depth, Image, Labels, RecordingType, Video
from sidelight.utils.delimited import missing

IMAGES = (".png", ".jpg", ".jpeg")
SOUNDS = (".wav", ".flac")
ARRAYS = (".npy", ".npz", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class HuggingFace(Reader):
    """Reads metadata.csv or .parquet with columns `<modality>_file_name`, in the folder or in train/, test/, ….

    The suffix of a modality's files decides its recording type. A column called `file_name` becomes the modality
    "file".

    Args:
        target: the column to predict, or the modality that `labels` names.
        group: column of the person (or other unit) that a row belongs to; default: rows are independent.
        split: column of the official split; folders called train, test, … give the split too.
        task: default: chosen by the target.
        depth: modality whose images are 16-bit depths.
        labels: modality whose images are label maps, one class per pixel.
        ignore: value of the pixels without a class.
        height: of images and clips, in pixels.
        width: of images and clips, in pixels.
        frames: number of frames in a clip.
        stride: step from one frame of a clip to the next, in frames of the video.
        rate: sampling rate in Hz to which sound is resampled.
        seconds: length of the sound of a row; 0: the whole file.
        step: metres that 1 stands for in a depth image.
        no_value: stored depths, beside 0, that mean "not measured", e.g. [65535].
        colours: of label maps with a colour per class: a table with the columns class, r, g, b, beside the metadata.
    """

    name: ClassVar[str] = "hf"
    summary: ClassVar[str] = "a folder in the layout of Hugging Face: metadata with *_file_name columns, and the files"
    obtain: ClassVar[str] = "hf download OWNER/NAME --repo-type dataset --local-dir FOLDER"
    citation: ClassVar[str] = "that of the data set"
    licence: ClassVar[str] = "that of the data set"

    target: str = "target"
    group: str = ""
    split: str = ""
    task: str = ""
    depth: str = ""
    labels: str = ""
    ignore: int = 255
    height: int = 112
    width: int = 112
    frames: int = 16
    stride: int = 2
    rate: float = 16000.0
    seconds: float = 0.0
    step: float = 0.001
    no_value: tuple[int, ...] = ()
    colours: str = ""

    def __post_init__(self) -> None:
        if self.task not in DECLARED_TASKS:
            raise ConfigError(unknown("task", self.task, DECLARED_TASKS))

    def find_missing(self, source: Path) -> list[str]:
        try:
            table, split = self._read_table(source)
            self._find_modalities(table, source)
            self._check_columns(table, split, source)
        except DataError as error:
            return [str(error)]

        missing = []
        for column in table.columns:
            if not column.endswith(FILE_COLUMN):
                continue
            for row, path in zip(table["id"], table[column]):
                if isinstance(path, Path) and not path.exists():
                    missing.append(f"{path} (row {row})")
        return missing

    def read(self, source: Path, errors: RowErrors) -> Contents:
        table, split = self._read_table(source)
        kinds = self._find_modalities(table, source)
        self._check_columns(table, split, source)
        images = [m for m, kind in kinds.items() if isinstance(kind, Image | Depth | Labels)]
        facts = DatasetInfo(name=source.name, target=(self.target,), group=self.group, split=split, task=self.task)
        rows = [{str(c): x for c, x in row.items()} for row in table.to_dict("records")]

        # Depth and label maps belong to the pixels of another image; plain images of one row may differ in size.
        has_pixelwise = any(isinstance(kinds[m], Depth | Labels) for m in images)
        return Contents(rows, kinds, facts, aligned=images if has_pixelwise else ())

    def _read_table(self, source: Path) -> tuple[pd.DataFrame, str]:
        """(every row, with an id and paths for file names; the column of the split)."""
        parts = [(source, "")] if _find_metadata(source) else []
        if not parts:
            for folder in sorted(p for p in source.iterdir() if p.is_dir()):
                if _find_metadata(folder) and folder.name in SPLIT_NAMES:
                    parts.append((folder, SPLIT_NAMES[folder.name]))
        if not parts:
            raise DataError(f"{source}: expected one of {', '.join(MANIFESTS)}, here or in train/, test/, …")

        tables = [self._read_part(folder, part) for folder, part in parts]
        return pd.concat(tables, ignore_index=True), "split" if parts[0][1] else self.split

    def _read_part(self, folder: Path, part: str) -> pd.DataFrame:
        """The metadata of one folder; part: the split that the folder's name gives, "" for none."""
        path = _find_metadata(folder)
        assert path is not None
        # `ImageFolder` and `AudioFolder` of Hugging Face call the column of their only modality "file_name".
        frame = read_frame(path).rename(columns={"file_name": f"file{FILE_COLUMN}"})
        for column in [c for c in frame.columns if c.endswith(FILE_COLUMN)]:
            cells = frame[column].where(frame[column].notna(), "").astype(str).str.strip()
            # File names are relative to the metadata (Hugging Face's documentation of ImageFolder).
            paths: list[Any] = [folder / x if x else "" for x in cells]
            frame[column] = paths
            for suffix in (START, END):
                if (times := column.removesuffix(FILE_COLUMN) + suffix) in frame.columns:
                    frame[times] = _parse_seconds(frame[times], f"{path}: column {times!r}")
        if part:
            frame["split"] = part
        if "id" not in frame.columns:
            frame["id"] = [f"{part}-{i}" if part else str(i) for i in range(len(frame))]
        return frame

    def _check_columns(self, table: pd.DataFrame, split: str, source: Path) -> None:
        """Raise DataError for a column that an option names and the metadata lacks."""
        # Label maps are files, so a target that consists of them is a modality, not a column.
        for c in (self.group, split, "" if self.target == self.labels else self.target):
            if c and c not in table.columns:
                raise DataError(f"{source}: {unknown('column', c, [str(x) for x in table.columns])}")

    def _find_modalities(self, table: pd.DataFrame, source: Path) -> dict[str, RecordingType]:
        columns = [c for c in table.columns if c.endswith(FILE_COLUMN)]
        if not columns:
            raise DataError(
                f"{source}: the metadata has no column <modality>{FILE_COLUMN}; sidelight reads such a table directly"
            )
        kinds = {c.removesuffix(FILE_COLUMN): self._guess_type(c, table[c], source) for c in columns}
        for m in (self.depth, self.labels):
            if m and m not in kinds:
                raise DataError(f"{source}: {unknown('modality', m, kinds)}")
        return kinds

    def _guess_type(self, column: str, files: pd.Series, source: Path) -> RecordingType:
        """The recording type of a modality, by the suffixes of its files."""
        m = column.removesuffix(FILE_COLUMN)
        suffixes = {p.suffix.lower() for p in files if isinstance(p, Path)}
        size = (self.height, self.width)

        def all_of(known: tuple[str, ...]) -> bool:
            return bool(suffixes) and suffixes <= set(known)

        if all_of(IMAGES):
            if m == self.labels:
                colours = read_colour_table(source / self.colours) if self.colours else {}
                return Labels(size=size, ignore=self.ignore, colours=colours)
            if m == self.depth:
                return Depth(size=size, step=self.step, no_value=self.no_value)
            return Image(size=size)
        if all_of(VIDEOS):
            return Video(size=size, frames=self.frames, stride=self.stride)
        if all_of(SOUNDS):
            return Audio(rate=0, resample_to=self.rate, seconds=self.seconds)
        if all_of(ARRAYS):
            return Array()
        found = ", ".join(sorted(suffixes)) or "no files"
        raise DataError(
            f"{source}: column {column!r} names {found}; expected one kind: images, videos, sound or arrays"
        )

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        for part, n in (("train", 12), ("test", 4)):
            rows = []
            for i in range(n):
                row = {"rgb_file_name": f"rgb/{i}.png", "sound_file_name": f"sound/{i}.wav", "target": "ab"[i % 2]}
                rows.append(row)
                write_image(out / part / f"rgb/{i}.png", make_noise_frames(generator, 1, i % 2)[0])
                write_wav(out / part / f"sound/{i}.wav", generator.uniform(-0.3, 0.3, 1600), 16000)
            pd.DataFrame(rows).to_csv(out / part / "metadata.csv", index=False)


def _parse_seconds(cells: pd.Series, where: str) -> list[Any]:
    """Seconds as numbers, "" in empty cells; raises DataError for anything else, with its row."""
    values = np.asarray(pd.to_numeric(cells, errors="coerce"), np.float64)
    empty = missing(cells)
    for i in np.flatnonzero(~empty & ~((values >= 0) & np.isfinite(values)))[:1].tolist():
        raise DataError(f"{where}, row {i}: {str(cells.iloc[i]).strip()!r}; expected seconds from 0 on")
    return ["" if nothing else value for value, nothing in zip(values.tolist(), empty.tolist())]


def _find_metadata(folder: Path) -> Path | None:
    return next((folder / name for name in MANIFESTS if (folder / name).is_file()), None)
