"""CASIA-SURF: live faces and printed ones, in colour, depth and infrared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import DataError
from sidelight.readers.base import Contents, Faults, Reader, Row
from sidelight.readers.synthetic import noise_frames, write_image, write_text
from sidelight.readers.tables import read_lines
from sidelight.recordings.recording_type import RecordingType
from sidelight.recordings.registry import Image

LISTS = {"train_list.txt": "train", "val_private_list.txt": "select", "test_private_list.txt": "test"}
MODALITIES = ("color", "depth", "ir")
LABELS = {"1": "live", "0": "attack"}
"""CASIA-SURF writes 1 for live faces; other sets write 0 for them."""
FOLDERS = {"real_part": "live", "fake_part": "attack"}
"""Folders of the training images say what is in them too."""
SUBJECT = re.compile(r"CLKJ_\w+")


@dataclass(frozen=True)
class Listed:
    """A line of a list."""

    where: str
    split: str
    label: str
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CasiaSurf(Reader):
    """{train,val_private,test_private}_list.txt with lines `color depth ir label`, 1 = live, and the images they name.

    The target is written as a word, `live` or `attack`. Depth and infrared are 8-bit pictures, one channel. The group
    is the person where a path names one (training); every validation and test image is alone.

    Args:
        size: height and width of an image.
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

    def missing(self, source: Path) -> list[str]:
        lost = [f"{source / name}" for name in LISTS if not (source / name).is_file()]
        if lost:
            return lost
        try:
            files = (file for listed in _listed(source, Faults(skip=True)) for file in listed.files)
            return [f"{source / file}" for file in files if not (source / file).is_file()]
        except DataError as error:
            return [str(error)]

    def read(self, source: Path, faults: Faults) -> Contents:
        rows = list[Row]()
        for listed in _listed(source, faults):
            colour = listed.files[0]
            lost = next((source / file for file in listed.files if not (source / file).is_file()), None)
            if lost is not None:
                faults.add(colour, f"{listed.where}: {lost} does not exist")
                continue
            person = SUBJECT.search(colour)
            row: Row = {
                "id": colour,
                "target": listed.label,
                "subject": person[0] if person else colour,
                "split": listed.split,
            }
            rows.append(row | {f"{m}_file_name": source / file for m, file in zip(MODALITIES, listed.files)})
        facts = DatasetInfo(
            name="casia-surf", group="subject", split="split", task="anti-spoofing",
            available=("color",), privileged=("depth",),
        )  # fmt: skip
        return Contents(rows, face_kinds(self.size), facts, aligned=MODALITIES)

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
                write_faces(generator, [out / file for file in files], label == "1")


def face_kinds(size: int) -> dict[str, RecordingType]:
    """Colour, and depth and infrared as grey pictures."""
    square = (size, size)
    return {m: Image(size=square, channels=3 if m == "color" else 1, statistics="train") for m in MODALITIES}


def write_faces(generator: np.random.Generator, paths: list[Path], live: bool) -> None:
    """A synthetic row: brightness says a little in colour, and much in depth."""
    for path, tint in zip(paths, (0.2, 0.9, 0.5)):
        pixels = noise_frames(generator, 1, tint if live else -tint)[0]
        write_image(path, pixels if path == paths[0] else pixels[..., 0])


def _listed(source: Path, faults: Faults) -> Iterator[Listed]:
    for name, split in LISTS.items():
        path = source / name
        for row, line in enumerate(read_lines(path), 1):
            cells, where = line.split(), f"{path}: row {row}"
            if not cells:
                continue
            if len(cells) != 4:
                public = "; without labels it is the public list" if len(cells) == 3 else ""
                faults.add(cells[0], f"{where} has {len(cells)} cells; expected color depth ir label{public}")
                continue
            *files, code = cells
            if code not in LABELS:
                faults.add(files[0], f"{where}: label is {code!r}; expected 1 (live) or 0 (attack)")
                continue
            of_folder = next((label for part, label in FOLDERS.items() if part in Path(files[0]).parts), LABELS[code])
            if of_folder != LABELS[code]:
                faults.add(
                    files[0],
                    f"{where}: label {code} is {LABELS[code]}, but {files[0]} is {of_folder}; expected 1 = live",
                )
                continue
            yield Listed(where, split, LABELS[code], tuple(files))
