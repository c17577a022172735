"""Files of rows, found by their names: `audio/a7.wav` and `face/a7.csv` belong to the row a7."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from sidelight.errors import DataError
from sidelight.utils.images import IMAGE_FILES, LABEL_FILES
from sidelight.utils.rasters import RASTER_FILES

SOUNDS = (".wav", ".flac", ".ogg", ".mp3")
VIDEOS = (".avi", ".mp4", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".wmv", ".m4v")
SUFFIXES: dict[str, tuple[str, ...]] = {
    "audio": SOUNDS,
    "video": VIDEOS,
    "image": IMAGE_FILES,
    "raster": RASTER_FILES,
    "array": (".npy", ".npz", ".safetensors"),
    "signal": (".csv", ".tsv", ".txt"),
}
"""Kind of recording -> suffixes of its files."""
KNOWN = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)


def suffixes_of(kind: str) -> tuple[str, ...]:
    """The suffixes of files that a kind of recording reads; () for one whose rows are no single files."""
    others: dict[str, tuple[str, ...]] = {
        "depth": IMAGE_FILES,
        "labels": LABEL_FILES,
        "text": (".txt", ".npy"),
        "audio": (*SOUNDS, *VIDEOS),
    }
    return others.get(kind, SUFFIXES.get(kind, ()))


def list_files(folder: Path, suffixes: Collection[str] = KNOWN) -> list[Path]:
    """The files of a folder and its subfolders with one of these suffixes, sorted; hidden ones are left out."""
    # A link to nowhere is a file that somebody expects; reading it says what is wrong.
    found = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes and (p.is_file() or p.is_symlink()))
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def names_repeat(files: Iterable[Path]) -> bool:
    """Whether two files have one name, so that only their paths tell them apart."""
    return max(Counter(path.stem for path in files).values(), default=0) > 1


def same_text(name: str) -> str:
    """A name in the usual form of Unicode: some systems write é in file names as e and an accent."""
    return unicodedata.normalize("NFC", name)


def name_files(files: Iterable[Path], folder: Path | None = None, by_path: bool | None = None) -> dict[str, Path]:
    """Id -> file. The id is the name without its suffix, or where names repeat, the path without its suffix.

    Args:
        files: the files.
        folder: paths in ids are relative to it.
        by_path: whether ids are paths; None: where names repeat. Files of several modalities need one answer.

    Raises:
        DataError: two files differ in their suffix alone.
    """
    files = list(files)
    by_path = names_repeat(files) if by_path is None else by_path
    named: dict[str, Path] = {}
    for path in files:
        inside = path.relative_to(folder) if folder is not None and path.is_relative_to(folder) else path
        name = same_text(inside.with_suffix("").as_posix() if by_path else path.stem)
        if name in named:
            raise DataError(f"{named[name]} and {path} would both be row {name!r}; keep one of them")
        named[name] = path
    return named


def find_folders(source: Path) -> dict[str, list[Path]]:
    """Name of each folder in `source` -> the recordings in it; folders without any are left out."""
    folders = sorted(p for p in source.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = {folder.name: list_files(folder) for folder in folders}
    return {name: files for name, files in found.items() if files}
