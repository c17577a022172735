"""A folder in the layout of Hugging Face: metadata with a column of file names per modality, beside the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from sidelight.data.raw import SPLIT_NAMES
from sidelight.data.sources.prepared import TASKS, DatasetInfo
from sidelight.data.sources.tables import FILE_COLUMN, read_frame
from sidelight.errors import ConfigError, DataError, unknown
from sidelight.readers.base import Contents, Faults, Reader
from sidelight.readers.synthetic import noise_frames, write_image, write_wav
from sidelight.recordings.registry import Array, Audio, Depth, Image, Labels, RecordingType, Video
from sidelight.recordings.series import VIDEOS

TABLES = ("metadata.csv", "metadata.parquet", "metadata.tsv")
IMAGES, SOUNDS, ARRAYS = (".png", ".jpg", ".jpeg"), (".wav", ".flac"), (".npy", ".npz", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class HuggingFace(Reader):
    """metadata.csv or .parquet, in the folder or in a folder per part (train/, test/, …), with `<modality>_file_name`.

    What a modality is shows in its files' suffix. A column `file_name` alone is the modality "file".

    Args:
        target: the column to predict, or the modality that `labels` names.
        group: column that says whose a row is; left out, rows are independent.
        split: column of the official split; a folder per part is one too.
        task: left out, seen from the target.
        depth: modality whose images are 16-bit depths in millimetres.
        labels: modality whose images are label maps, a class per pixel.
        ignore: the value of pixels without a class.
        height: of images and clips.
        width: of images and clips.
        frames: of a clip.
        stride: frames from one of them to the next.
        rate: samples a second that sound is brought to.
        seconds: how long a row of sound is; 0: as long as its file.
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

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ConfigError(unknown("task", self.task, TASKS))

    def missing(self, source: Path) -> list[str]:
        try:
            table, split = self._table(source)
            self._kinds(table, source)
            self._needed(table, split, source)
        except DataError as error:
            return [str(error)]
        files = [c for c in table.columns if c.endswith(FILE_COLUMN)]
        pairs = [(i, p) for c in files for i, p in zip(table["id"], table[c]) if isinstance(p, Path)]
        return [f"{path} (row {row})" for row, path in pairs if not path.exists()]

    def read(self, source: Path, faults: Faults) -> Contents:
        table, split = self._table(source)
        kinds = self._kinds(table, source)
        self._needed(table, split, source)
        flat = [m for m, kind in kinds.items() if isinstance(kind, Image | Depth | Labels)]
        facts = DatasetInfo(
            name=source.name, target=(self.target,), group=self.group, split=split, task=self.task
        )  # fmt: skip
        rows = [{str(c): x for c, x in row.items()} for row in table.to_dict("records")]
        dense = any(isinstance(kinds[m], Depth | Labels) for m in flat)
        return Contents(rows, kinds, facts, aligned=flat if dense else ())

    def _table(self, source: Path) -> tuple[pd.DataFrame, str]:
        """Every row, file names as paths, with an id; and the column of the split."""
        parts = [(source, "")] if _metadata(source) else []
        for folder in sorted(p for p in source.iterdir() if p.is_dir() and not parts):
            if _metadata(folder) and folder.name in SPLIT_NAMES:
                parts.append((folder, SPLIT_NAMES[folder.name]))
        if not parts and not _metadata(source):
            raise DataError(f"{source}: expected one of {', '.join(TABLES)}, here or in train/, test/, …")
        frames = []
        for folder, part in parts:
            path = _metadata(folder)
            assert path is not None
            frame = read_frame(path).rename(columns={"file_name": f"file{FILE_COLUMN}"})
            for c in [c for c in frame.columns if c.endswith(FILE_COLUMN)]:
                cells = frame[c].where(frame[c].notna(), "").astype(str).str.strip()
                paths: list[Any] = [folder / x if x else "" for x in cells]
                frame[c] = paths
            if part:
                frame["split"] = part
            if "id" not in frame.columns:
                frame["id"] = [f"{part}-{i}" if part else str(i) for i in range(len(frame))]
            frames.append(frame)
        return pd.concat(frames, ignore_index=True), "split" if parts[0][1] else self.split

    def _needed(self, table: pd.DataFrame, split: str, source: Path) -> None:
        for c in (self.group, split, "" if self.target == self.labels else self.target):
            if c and c not in table.columns:
                raise DataError(f"{source}: {unknown('column', c, [str(x) for x in table.columns])}")

    def _kinds(self, table: pd.DataFrame, source: Path) -> dict[str, RecordingType]:
        columns = [c for c in table.columns if c.endswith(FILE_COLUMN)]
        if not columns:
            raise DataError(
                f"{source}: the metadata has no column <modality>{FILE_COLUMN}; such a table needs no reader"
            )
        kinds = {c.removesuffix(FILE_COLUMN): self._kind(c, table[c], source) for c in columns}
        for m in (self.depth, self.labels):
            if m and m not in kinds:
                raise DataError(f"{source}: {unknown('modality', m, kinds)}")
        return kinds

    def _kind(self, column: str, files: pd.Series, source: Path) -> RecordingType:
        m, suffixes = column.removesuffix(FILE_COLUMN), {p.suffix.lower() for p in files if isinstance(p, Path)}
        size = (self.height, self.width)

        def all_of(known: tuple[str, ...]) -> bool:
            return bool(suffixes) and suffixes <= set(known)

        if all_of(IMAGES):
            if m == self.labels:
                return Labels(size=size, ignore=self.ignore)
            return Depth(size=size) if m == self.depth else Image(size=size)
        if all_of(VIDEOS):
            return Video(size=size, frames=self.frames, stride=self.stride)
        if all_of(SOUNDS):
            return Audio(rate=0, resample_to=self.rate, seconds=self.seconds)
        if all_of(ARRAYS):
            return Array()
        said = ", ".join(sorted(suffixes)) or "no files"
        raise DataError(f"{source}: column {column!r} names {said}; expected one kind: images, videos, sound or arrays")

    def synthesize(self, out: Path, seed: int = 0) -> None:
        import numpy as np

        generator = np.random.default_rng(seed)
        for part, n in (("train", 12), ("test", 4)):
            rows = []
            for i in range(n):
                rows.append(
                    {"rgb_file_name": f"rgb/{i}.png", "sound_file_name": f"sound/{i}.wav", "target": "ab"[i % 2]}
                )
                write_image(out / part / f"rgb/{i}.png", noise_frames(generator, 1, i % 2)[0])
                write_wav(out / part / f"sound/{i}.wav", generator.uniform(-0.3, 0.3, 1600), 16000)
            pd.DataFrame(rows).to_csv(out / part / "metadata.csv", index=False)


def _metadata(folder: Path) -> Path | None:
    return next((folder / name for name in TABLES if (folder / name).is_file()), None)
