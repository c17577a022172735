"""UCF101 and its classes with sound, UCF51: actions in short videos of the web."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import DataError
from sidelight.readers.base import Contents, Faults, Reader, Row
from sidelight.readers.synthetic import noise_frames, write_text, write_video
from sidelight.readers.tables import read_lines
from sidelight.recordings.pictures import probe_video
from sidelight.recordings.registry import Audio, Video
from sidelight.signals.spectrogram import PRESETS

WITH_SOUND = """
ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BasketballDunk BlowDryHair
BlowingCandles BodyWeightSquats Bowling BoxingPunchingBag BoxingSpeedBag BrushingTeeth CliffDiving CricketBowling
CricketShot CuttingInKitchen FieldHockeyPenalty FloorGymnastics FrisbeeCatch FrontCrawl Haircut HammerThrow
Hammering HandstandPushups HandstandWalking HeadMassage IceDancing Knitting LongJump MoppingFloor ParallelBars
PlayingCello PlayingDaf PlayingDhol PlayingFlute PlayingSitar Rafting ShavingBeard Shotput SkyDiving SoccerPenalty
StillRings SumoWrestling Surfing TableTennisShot Typing UnevenBars WallPushups WritingOnBoard
"""
SOUNDING = tuple(WITH_SOUND.split())
"""The 51 classes that UCF101 added to UCF50; those of UCF50 have no sound."""
PARTS = {"train": "train", "test": "test"}
NAME = re.compile(r"v_(\w+)_g(\d+)_c(\d+)")
RATE = 25


@dataclass(frozen=True)
class Listed:
    """A line of an official list."""

    where: str
    label: str
    group: str
    path: Path
    split: str


@dataclass(frozen=True, kw_only=True)
class UCF101(Reader):
    """UCF-101/<class>/v_<class>_g<group>_c<clip>.avi; ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt.

    Both folders may be left out, their files being in SOURCE. Videos without a sound track are left out. The group is
    that of the official lists: clips of one long video, which are on one side.

    Args:
        split: number of the official lists.
        frames: of a clip.
        stride: frames from one of them to the next.
        size: height and width of a clip.
    """

    name: ClassVar[str] = "ucf101"
    summary: ClassVar[str] = "UCF101: 13320 videos of 101 actions; those that have sound"
    obtain: ClassVar[str] = (
        "Free: https://www.crcv.ucf.edu/data/UCF101.php. Unpack UCF101.rar and "
        "UCF101TrainTestSplits-RecognitionTask.zip into one folder."
    )
    citation: ClassVar[str] = (
        "Soomro, Zamir, Shah: UCF101: a dataset of 101 human actions classes from videos in the wild. "
        "CRCV-TR-12-01, 2012."
    )
    licence: ClassVar[str] = "none stated; videos of the web, whose rights are their makers'"
    classes: ClassVar[tuple[str, ...]] = ()

    split: Literal["1", "2", "3"] = "1"
    frames: int = 16
    stride: int = 2
    size: int = 112

    def missing(self, source: Path) -> list[str]:
        faults = Faults(skip=True)
        try:
            lost = [f"{listed.path}" for listed in self._listed(source, faults) if not listed.path.is_file()]
        except DataError as error:
            return [str(error)]
        return lost

    def read(self, source: Path, faults: Faults) -> Contents:
        rows = list[Row]()
        for listed in self._listed(source, faults):
            with faults.of(listed.path.stem):
                if not listed.path.is_file():
                    raise DataError(f"{listed.where}: {listed.path} does not exist")
                if probe_video(listed.path).audio_rate is None:
                    continue
                rows.append(
                    {
                        "id": listed.path.stem,
                        "target": listed.label,
                        "group": listed.group,
                        "split": listed.split,
                        "video_file_name": listed.path,
                        "audio_file_name": listed.path,
                    }
                )
        clip = Video(frames=self.frames, stride=self.stride, size=(self.size, self.size))
        sound = Audio(rate=0, resample_to=PRESETS["audio"].rate, spectrogram="audio")
        facts = DatasetInfo(
            name=self.name, group="group", split="split", task="classification",
            available=("video",), privileged=("audio",),
        )  # fmt: skip
        return Contents(rows, {"video": clip, "audio": sound}, facts)

    def _listed(self, source: Path, faults: Faults) -> Iterator[Listed]:
        """The videos of both lists, of this reader's classes."""
        lists, videos = _inside(source, "ucfTrainTestlist"), _inside(source, "UCF-101")
        numbers = _classes(lists / "classInd.txt")
        for part, split in PARTS.items():
            path = lists / f"{part}list0{self.split}.txt"
            for row, line in enumerate(read_lines(path), 1):
                if not line.strip():
                    continue
                file, _, number = line.strip().partition(" ")
                label, _, video = file.partition("/")
                known = NAME.fullmatch(Path(video).stem)
                where = f"{path}: row {row}"
                if known is None or not video.endswith(".avi") or (part == "train") != bool(number):
                    wanted = "<class>/v_<class>_g01_c01.avi" + " <class number>" * (part == "train")
                    faults.add(Path(video).stem or where, f"{where} is {line!r}; expected {wanted}")
                elif label not in numbers:
                    faults.add(known[0], f"{where}: class {label!r} is not in classInd.txt")
                elif number and number.strip() != numbers[label]:
                    faults.add(
                        known[0],
                        f"{where}: class number {number.strip()}, but {label} is {numbers[label]} in classInd.txt",
                    )
                elif known[1].lower() != label.lower():  # HandstandPushups has files of HandStandPushups
                    faults.add(known[0], f"{where}: {video} is a video of {known[1]}, not of {label}")
                elif not self.classes or label in self.classes:
                    yield Listed(where, label, f"{label}-g{known[2]}", videos / label / video, split)

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        classes = ("ApplyEyeMakeup", "Archery", "BaseballPitch", "PlayingCello")
        lists: dict[str, list[str]] = {part: [] for part in PARTS}
        for number, label in enumerate(classes, 1):
            for group in (1, 2, 8, 9, 10, 11):
                name = f"v_{label}_g{group:02d}_c01.avi"
                part = "test" if group < 8 else "train"
                lists[part].append(f"{label}/{name}" + f" {number}" * (part == "train"))
                seconds = np.arange(16000) / 16000
                sound = 0.3 * np.sin(2000 * number * seconds) + generator.uniform(-0.1, 0.1, 16000)
                frames = noise_frames(generator, 5, number / 2 - 1).repeat(5, 0)
                mute = label not in SOUNDING
                write_video(out / "UCF-101" / label / name, frames, RATE, None if mute else sound)
        lists["class"] = [f"{i} {label}" for i, label in enumerate(classes, 1)]
        for part, lines in lists.items():
            name = "classInd.txt" if part == "class" else f"{part}list0{self.split}.txt"
            write_text(out / "ucfTrainTestlist" / name, "\n".join(lines) + "\n")


@dataclass(frozen=True, kw_only=True)
class UCF51(UCF101):
    """The 51 classes of UCF101 that have sound; as UCF101 otherwise."""

    name: ClassVar[str] = "ucf51"
    summary: ClassVar[str] = "UCF51: 6845 videos of the 51 actions of UCF101 that have sound"
    classes: ClassVar[tuple[str, ...]] = SOUNDING


def _inside(source: Path, folder: str) -> Path:
    return source / folder if (source / folder).is_dir() else source


def _classes(path: Path) -> dict[str, str]:
    """Class -> its number."""
    found: dict[str, str] = {}
    for row, line in enumerate(read_lines(path), 1):
        number, _, label = line.strip().partition(" ")
        if not number.isdigit() or not label:
            raise DataError(f"{path}: row {row} is {line!r}; expected <number> <class>")
        if label in found:
            raise DataError(f"{path}: row {row}: class {label!r} occurs twice")
        found[label] = number
    return found
