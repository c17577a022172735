"""CASIA-SURF: live faces and printed faces, in color, depth and infrared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import DataError
from sidelight.readers.base import Contents, Reader, Row, RowErrors
from sidelight.readers.synthetic import make_noise_frames, write_image, write_text
from sidelight.readers.tables import read_lines
from sidelight.recordings.base import RecordingType
from sidelight.recordings.registry import Image

# The challenge published the validation and test lists twice: the public ones have no labels, the private ones do.
LISTS = {"train_list.txt": "train", "val_private_list.txt": "select", "test_private_list.txt": "test"}
MODALITIES = ("color", "depth", "ir")
# CASIA-SURF writes 1 for a live face; CeFA's helper code writes 0. Words keep the two apart.
LABELS = {"1": "live", "0": "attack"}
# The paths of training images repeat the label, which shows a list of the other convention.
FOLDERS = {"real_part": "live", "fake_part": "attack"}
# A training path names the person as CLKJ_<letters and digits>; other paths name no person.
SUBJECT = re.compile(r"CLKJ_\w+")


@dataclass(frozen=True)
class ListedImages:
    """One line of a list; `where` names the list and the row."""

    where: str
    split: str
    label: str
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CasiaSurf(Reader):
    """Reads {train,val_private,test_private}_list.txt with lines `color depth ir label`, 1 = live, and their images.

    The target is the word `live` or `attack`. Depth and infrared are 8-bit images with one channel. The group is the
    person, whom only training paths name; every validation and test image is a group of its own.

    Args:
        size: height and width of an image in pixels.
    """

    name: ClassVar[str] = "casia-surf"
    summary: ClassVar[str] = "CASIA-SURF: faces, live or printed, of 1000 people in colour, depth and infrared"
    obtain: ClassVar[str] = (
        "Free for research after a signed agreement: "
        "https://sites.google.com/qq.com/face-anti-spoofing/dataset-download/casia-surfcvpr2019. SOURCE is the folder "
        "with the three lists, with labels, and Training, Val and Testing."
    )
    citation: ClassVar[str] = (
        "Zhang et al.: A dataset and benchmark for large-scale multi-modal face anti-spoofing. CVPR 2019."
    )
    licence: ClassVar[str] = "research only, by agreement with the Institute of Automation, CAS"

    size: int = 112

    def find_missing(self, source: Path) -> list[str]:
        missing = [f"{source / name}" for name in LISTS if not (source / name).is_file()]
        if missing:
            return missing
        try:
            for listed in _read_lists(source, RowErrors(skip=True)):
                missing += [f"{source / file}" for file in listed.files if not (source / file).is_file()]
        except DataError as error:
            return [str(error)]
        return missing

    def read(self, source: Path, errors: RowErrors) -> Contents:
        rows: list[Row] = []
        for listed in _read_lists(source, errors):
            color = listed.files[0]
            absent = [source / file for file in listed.files if not (source / file).is_file()]
            if absent:
                errors.add(color, f"{listed.where}: {absent[0]} does not exist")
                continue
            person = SUBJECT.search(color)
            row: Row = {
                "id": color,
                "target": listed.label,
                "subject": person[0] if person else color,
                "split": listed.split,
            }
            rows.append(row | {f"{m}_file_name": source / file for m, file in zip(MODALITIES, listed.files)})
        facts = DatasetInfo(
            name="casia-surf", group="subject", split="split", task="anti-spoofing",
            available=("color",), privileged=("depth",),
        )  # fmt: skip
        return Contents(rows, build_face_types(self.size), facts, aligned=MODALITIES)

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        lines: dict[str, list[str]] = {name: [] for name in LISTS}
        for i in range(8):
            live = i % 2
            person = f"Training/{'real' if live else 'fake'}_part/CLKJ_AS{i:04d}"
            recording = "real.rssdk" if live else "01_en_b.rssdk"
            for j in range(2):
                files = [f"{person}/{recording}/{m}/{5 * j + 1}.jpg" for m in MODALITIES]
                lines["train_list.txt"].append(" ".join([*files, str(live)]))
        for folder, name in (("Val", "val_private_list.txt"), ("Testing", "test_private_list.txt")):
            for i in range(8):
                files = [f"{folder}/0000/{i:06d}-{m}.jpg" for m in MODALITIES]
                lines[name].append(" ".join([*files, str(i % 2)]))
        for name, found in lines.items():
            write_text(out / name, "\n".join(found) + "\n")
            for line in found:
                *files, label = line.split()
                write_synthetic_faces(generator, [out / file for file in files], label == "1")


def build_face_types(size: int) -> dict[str, RecordingType]:
    """Modality -> recording type: color images, and gray images of depth and infrared."""
    square = (size, size)
    return {m: Image(size=square, channels=3 if m == "color" else 1, statistics="train") for m in MODALITIES}


def write_synthetic_faces(generator: np.random.Generator, paths: list[Path], live: bool) -> None:
    """Write the images of a synthetic row; brightness depends on the label weakly in color, strongly in depth.

    Args:
        generator: draws the noise.
        paths: files of the color, depth and infrared images.
        live: whether the face is live, which is bright.
    """
    for path, tint in zip(paths, (0.2, 0.9, 0.5)):
        pixels = make_noise_frames(generator, 1, tint if live else -tint)[0]
        write_image(path, pixels if path == paths[0] else pixels[..., 0])


def _read_lists(source: Path, errors: RowErrors) -> Iterator[ListedImages]:
    """The lines of the three lists; `errors` collects malformed lines."""
    for name, split in LISTS.items():
        path = source / name
        for row, line in enumerate(read_lines(path), 1):
            cells, where = line.split(), f"{path}: row {row}"
            if not cells:
                continue
            if len(cells) != 4:
                public = "; without labels it is the public list" if len(cells) == 3 else ""
                errors.add(cells[0], f"{where} has {len(cells)} cells; expected color depth ir label{public}")
                continue
            *files, code = cells
            if code not in LABELS:
                errors.add(files[0], f"{where}: label is {code!r}; expected 1 (live) or 0 (attack)")
                continue

            label = LABELS[code]
            folder_labels = [FOLDERS[part] for part in Path(files[0]).parts if part in FOLDERS]
            if folder_labels and folder_labels[0] != label:
                message = f"{where}: label {code} is {label}, but {files[0]} is {folder_labels[0]}; expected 1 = live"
                errors.add(files[0], message)
                continue
            yield ListedImages(where, split, label, tuple(files))
