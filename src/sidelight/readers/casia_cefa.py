"""CASIA-SURF CeFA: live faces and attacks of three ethnicities, in colour, depth and infrared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import ConfigError, DataError
from sidelight.readers.base import Contents, Faults, Reader, Row
from sidelight.readers.casia_surf import MODALITIES, face_kinds, write_faces

RACES = ("AF", "CA", "EA")
"""Codes 1, 2, 3."""
ATTACKS = {1: "real", 2: "cloth", 3: "photo", 4: "screen"}
COLOURS = ("profile", "color")
"""The folder of colour frames in the two releases."""
NAME = re.compile(r"(\d)_(\d{3})_(\d)_(\d)_(\d)")
PEOPLE = {"train": range(200), "select": range(200, 300), "test": range(300, 500)}
DEVICES, SESSIONS = (1, 3), (1, 2)
"""Other recordings are of no protocol."""
CROSSED = ((1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2))
"""Ethnicities of train and select, and of test, in 1@1 to 1@6 and 4@1 to 4@6."""
Protocol = Literal[
    "1@1", "1@2", "1@3", "1@4", "1@5", "1@6", "2@1", "2@2", "3", "4@1", "4@2", "4@3", "4@4", "4@5", "4@6"
]
SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Clip:
    """One recording, by its folder's name."""

    folder: Path
    race: int
    person: int
    attack: int
    split: str


@dataclass(frozen=True, kw_only=True)
class CasiaCefa(Reader):
    """{AF,CA,EA}/<person>/<race>_<id>_<device>_<session>_<attack>/{profile,depth,ir}/<frame>.jpg.

    The later release has the ethnicities in Ethnicity/, and colour in color/. A row is a frame. Folder names say
    everything: attack 1 is a live face, and the target is the word `live` or `attack` (helper code of the set calls
    live 0, CASIA-SURF calls it 1). People 000-199 train, 200-299 select, 300-499 test. Protocols, by ethnicity (AF, CA,
    EA) and attack: 1@1 to 1@6: trained on one ethnicity, tested on another, in the order AF-CA, AF-EA, CA-AF, CA-EA,
    EA-AF, EA-CA. 2@1: trained on cloth, tested on screens; 2@2: the reverse. 3: all. 4@1 to 4@6: ethnicities as in 1,
    trained on screens, tested on cloth. Masks, which the official test lists have too, are left out.

    Args:
        protocol: which.
        every: a frame of so many is taken.
        size: height and width of an image.
    """

    name: ClassVar[str] = "casia-cefa"
    summary: ClassVar[str] = "CASIA-SURF CeFA: faces of 1500 people of 3 ethnicities, live, printed and on screens"
    obtain: ClassVar[str] = (
        "Free for research after a signed agreement: "
        "https://sites.google.com/qq.com/face-anti-spoofing/dataset-download/casia-surf-cefacvpr2020. SOURCE is the "
        "folder with AF, CA and EA."
    )
    citation: ClassVar[str] = (
        "Liu et al.: CASIA-SURF CeFA: a benchmark for multi-modal cross-ethnicity face anti-spoofing. WACV 2021."
    )
    licence: ClassVar[str] = "research only, by agreement with the Institute of Automation, CAS"

    protocol: Protocol = "4@1"
    every: int = 1
    size: int = 112

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"casia-cefa: every={self.every}; expected at least 1")

    def wanted(self, split: str) -> tuple[set[int], set[int]]:
        """Codes of the ethnicities and attacks that a part of the protocol has; a live face is 1."""
        kind, _, number = self.protocol.partition("@")
        test = split == "test"
        races = {CROSSED[int(number) - 1][test]} if kind in "14" else {1, 2, 3}
        if kind == "2":
            return races, {1, 4 if test == (number == "1") else 2}
        return races, {1, 2 if test else 4} if kind == "4" else {1, 2, 4}

    def missing(self, source: Path) -> list[str]:
        lost = [f"{_inside(source) / race}" for race in self._races if not (_inside(source) / race).is_dir()]
        for clip in self._clips(source, Faults(skip=True)):
            folders = _folders(clip)
            if gone := [f"{folder}" for folder in folders.values() if not folder.is_dir()]:
                lost += gone
                continue
            for frame in self._frames(folders["color"]):
                lost += [f"{f / frame}" for f in folders.values() if not (f / frame).is_file()]
        return lost

    def read(self, source: Path, faults: Faults) -> Contents:
        rows = list[Row]()
        for clip in self._clips(source, faults):
            with faults.of(clip.folder.name):
                rows += list(self._rows(clip, faults))
        facts = DatasetInfo(
            name=f"casia-cefa-{self.protocol}", group="subject", split="split", task="anti-spoofing",
            available=("color",), privileged=("depth",),
        )  # fmt: skip
        return Contents(rows, face_kinds(self.size), facts, aligned=MODALITIES)

    def _rows(self, clip: Clip, faults: Faults) -> Iterator[Row]:
        folders = _folders(clip)
        for folder in folders.values():
            if not folder.is_dir():
                raise DataError(f"{folder}: the folder does not exist")
        frames = self._frames(folders["color"])
        if not frames:
            raise DataError(f"{folders['color']} holds no images")
        for frame in frames:
            name = f"{clip.folder.name}/{Path(frame).stem}"
            lost = next((f / frame for f in folders.values() if not (f / frame).is_file()), None)
            if lost is not None:
                faults.add(name, f"{lost} does not exist; the other modalities have this frame")
                continue
            row: Row = {
                "id": name,
                "target": "live" if clip.attack == 1 else "attack",
                "subject": f"{clip.race}_{clip.person:03d}",
                "split": clip.split,
                "attack": ATTACKS[clip.attack],
                "ethnicity": RACES[clip.race - 1],
            }
            yield row | {f"{m}_file_name": folder / frame for m, folder in folders.items()}

    def _frames(self, folder: Path) -> list[str]:
        return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)[:: self.every]

    @property
    def _races(self) -> list[str]:
        return [RACES[r - 1] for r in sorted(self.wanted("train")[0] | self.wanted("test")[0])]

    def _clips(self, source: Path, faults: Faults) -> Iterator[Clip]:
        """The recordings of the protocol."""
        for race in self._races:
            for folder in sorted(p for p in (_inside(source) / race).glob("*/*") if p.is_dir()):
                name = NAME.fullmatch(folder.name)
                if name is None:
                    faults.add(folder.name, f"{folder}: expected the name <race>_<id>_<device>_<session>_<attack>")
                    continue
                code, person, device, session, attack = map(int, name.groups())
                if code != RACES.index(race) + 1:
                    faults.add(
                        folder.name,
                        f"{folder}: ethnicity {code} in the folder {race}; expected {RACES.index(race) + 1}",
                    )
                elif attack not in ATTACKS:
                    faults.add(
                        folder.name, f"{folder}: attack {attack}; expected 1 (live), 2 cloth, 3 photo or 4 screen"
                    )
                elif not re.search(rf"(?<!\d){person:03d}(?!\d)", folder.parent.name):
                    faults.add(folder.name, f"{folder}: person {person:03d} in the folder of {folder.parent.name}")
                elif device in DEVICES and session in SESSIONS:
                    split = next((s for s, people in PEOPLE.items() if person in people), "")
                    races, attacks = self.wanted(split)
                    if split and code in races and attack in attacks:
                        yield Clip(folder, code, person, attack, split)

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        for code, race in enumerate(RACES, 1):
            for person in (0, 1, 2, 3, 200, 201, 300, 301):
                for attack in (1, 2, 4):
                    folder = out / race / f"{race}-{person:03d}-198006250024" / f"{code}_{person:03d}_1_1_{attack}"
                    for frame in ("0001.jpg", "0002.jpg"):
                        write_faces(generator, [folder / m / frame for m in ("profile", "depth", "ir")], attack == 1)


def _inside(source: Path) -> Path:
    """Where the folders of ethnicities are."""
    return source / "Ethnicity" if (source / "Ethnicity").is_dir() else source


def _folders(clip: Clip) -> dict[str, Path]:
    """The folder of each modality; of colour, whichever name is there."""
    colour = next((name for name in COLOURS if (clip.folder / name).is_dir()), COLOURS[0])
    return {m: clip.folder / (colour if m == "color" else m) for m in MODALITIES}
