"""CASIA-SURF CeFA: live faces and attacks of three ethnicities, in color, depth and infrared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import ConfigError, DataError
from sidelight.readers.base import Contents, Reader, Row, RowErrors
from sidelight.readers.casia_surf import MODALITIES, build_face_types, write_synthetic_faces

# The codes below are those of the authors' helper code and of Liu et al. (WACV 2021); the folder names carry them.
RACES = ("AF", "CA", "EA")
"""Ethnicities in the order of their codes 1, 2, 3."""
ATTACKS = {1: "real", 2: "cloth", 3: "photo", 4: "screen"}
# The first release calls the folder of color frames "profile", the later one (github.com/liuajian/CASIA-FAS-Dataset)
# "color".
COLOR_FOLDERS = ("profile", "color")
NAME = re.compile(r"(\d)_(\d{3})_(\d)_(\d)_(\d)")
PEOPLE = {"train": range(200), "select": range(200, 300), "test": range(300, 500)}
# No protocol uses recordings of other devices and sessions.
DEVICES, SESSIONS = (1, 3), (1, 2)
CROSSED = ((1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2))
"""(ethnicity of train and select, ethnicity of test) in protocols 1@1 to 1@6 and 4@1 to 4@6."""
Protocol = Literal[
    "1@1", "1@2", "1@3", "1@4", "1@5", "1@6", "2@1", "2@2", "3", "4@1", "4@2", "4@3", "4@4", "4@5", "4@6"
]
SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class ClipFolder:
    """The folder of one recording, and what its name says."""

    folder: Path
    race: int
    person: int
    attack: int
    split: str


@dataclass(frozen=True, kw_only=True)
class CasiaCefa(Reader):
    """Reads {AF,CA,EA}/<person>/<race>_<id>_<device>_<session>_<attack>/{profile,depth,ir}/<frame>.jpg.

    The later release holds the ethnicities in Ethnicity/, and color frames in color/. A row is a frame. The folder name
    gives ethnicity, person and attack; attack 1 is a live face. The target is the word `live` or `attack`, because the
    codes differ between data sets: the helper code of this one writes 0 for live, CASIA-SURF writes 1.

    People 000-199 train, 200-299 select, 300-499 test. The protocols:

    - 1@1 to 1@6: train on one ethnicity, test on another: AF-CA, AF-EA, CA-AF, CA-EA, EA-AF, EA-CA.
    - 2@1: train on cloth, test on screens; 2@2: the reverse.
    - 3: all ethnicities and attacks.
    - 4@1 to 4@6: ethnicities as in 1; train on screens, test on cloth.

    The official test lists also contain masks, which this reader leaves out.

    Args:
        protocol: name of the protocol, such as "4@1".
        every: take one frame of so many.
        size: height and width of an image in pixels.
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

    def select_codes(self, split: str) -> tuple[set[int], set[int]]:
        """(codes of the ethnicities, codes of the attacks) in one part of the protocol; attack 1 is a live face."""
        protocol, _, number = self.protocol.partition("@")
        is_test = split == "test"
        races = {CROSSED[int(number) - 1][is_test]} if protocol in "14" else {1, 2, 3}
        if protocol == "2":
            # 2@1 tests on screens (4) and trains on cloth (2); 2@2 swaps them.
            return races, {1, 4 if is_test == (number == "1") else 2}
        if protocol == "4":
            return races, {1, 2 if is_test else 4}
        return races, {1, 2, 4}

    def find_missing(self, source: Path) -> list[str]:
        root = _find_root(source)
        missing = [f"{root / race}" for race in self._races if not (root / race).is_dir()]
        for clip in self._iter_clips(source, RowErrors(skip=True)):
            folders = _modality_folders(clip)
            absent = [f"{folder}" for folder in folders.values() if not folder.is_dir()]
            if absent:
                missing += absent
                continue
            for frame in self._list_frames(folders["color"]):
                missing += [f"{f / frame}" for f in folders.values() if not (f / frame).is_file()]
        return missing

    def read(self, source: Path, errors: RowErrors) -> Contents:
        rows: list[Row] = []
        for clip in self._iter_clips(source, errors):
            with errors.catch(clip.folder.name):
                # As a list: if the generator fails halfway, no row of the clip is taken.
                rows += list(self._build_rows(clip, errors))

        facts = DatasetInfo(
            name=f"casia-cefa-{self.protocol}", group="subject", split="split", task="anti-spoofing",
            available=("color",), privileged=("depth",),
        )  # fmt: skip
        return Contents(rows, build_face_types(self.size), facts, aligned=MODALITIES)

    def _build_rows(self, clip: ClipFolder, errors: RowErrors) -> Iterator[Row]:
        """One row per frame of a recording."""
        folders = _modality_folders(clip)
        for folder in folders.values():
            if not folder.is_dir():
                raise DataError(f"{folder}: the folder does not exist")
        frames = self._list_frames(folders["color"])
        if not frames:
            raise DataError(f"{folders['color']} holds no images")
        for frame in frames:
            row_id = f"{clip.folder.name}/{Path(frame).stem}"
            absent = [f / frame for f in folders.values() if not (f / frame).is_file()]
            if absent:
                errors.add(row_id, f"{absent[0]} does not exist; the other modalities have this frame")
                continue
            row: Row = {
                "id": row_id,
                "target": "live" if clip.attack == 1 else "attack",
                "subject": f"{clip.race}_{clip.person:03d}",
                "split": clip.split,
                "attack": ATTACKS[clip.attack],
                "ethnicity": RACES[clip.race - 1],
            }
            yield row | {f"{m}_file_name": folder / frame for m, folder in folders.items()}

    def _list_frames(self, folder: Path) -> list[str]:
        return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)[:: self.every]

    @property
    def _races(self) -> list[str]:
        """Folders of the ethnicities that the protocol uses."""
        return [RACES[r - 1] for r in sorted(self.select_codes("train")[0] | self.select_codes("test")[0])]

    def _iter_clips(self, source: Path, errors: RowErrors) -> Iterator[ClipFolder]:
        """The recordings of the protocol."""
        for race in self._races:
            expected = RACES.index(race) + 1
            for folder in sorted(p for p in (_find_root(source) / race).glob("*/*") if p.is_dir()):
                name = NAME.fullmatch(folder.name)
                if name is None:
                    errors.add(folder.name, f"{folder}: expected the name <race>_<id>_<device>_<session>_<attack>")
                    continue

                # Ethnicity and person also stand in the folders above; a clip that was moved by mistake shows.
                code, person, device, session, attack = map(int, name.groups())
                if code != expected:
                    errors.add(folder.name, f"{folder}: ethnicity {code} in the folder {race}; expected {expected}")
                elif attack not in ATTACKS:
                    message = f"{folder}: attack {attack}; expected 1 (live), 2 cloth, 3 photo or 4 screen"
                    errors.add(folder.name, message)
                elif not re.search(rf"(?<!\d){person:03d}(?!\d)", folder.parent.name):
                    errors.add(folder.name, f"{folder}: person {person:03d} in the folder of {folder.parent.name}")
                elif device in DEVICES and session in SESSIONS:
                    split = next((s for s, people in PEOPLE.items() if person in people), "")
                    races, attacks = self.select_codes(split)
                    if split and code in races and attack in attacks:
                        yield ClipFolder(folder, code, person, attack, split)

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        for code, race in enumerate(RACES, 1):
            for person in (0, 1, 2, 3, 200, 201, 300, 301):
                for attack in (1, 2, 4):
                    folder = out / race / f"{race}-{person:03d}-198006250024" / f"{code}_{person:03d}_1_1_{attack}"
                    for frame in ("0001.jpg", "0002.jpg"):
                        write_synthetic_faces(
                            generator, [folder / m / frame for m in ("profile", "depth", "ir")], attack == 1
                        )


def _find_root(source: Path) -> Path:
    """The folder that holds AF, CA and EA: the later release has them in Ethnicity/."""
    return source / "Ethnicity" if (source / "Ethnicity").is_dir() else source


def _modality_folders(clip: ClipFolder) -> dict[str, Path]:
    """Modality -> folder of its frames."""
    color = next((name for name in COLOR_FOLDERS if (clip.folder / name).is_dir()), COLOR_FOLDERS[0])
    return {m: clip.folder / (color if m == "color" else m) for m in MODALITIES}
