"""UCF101: actions in short web videos."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import DataError
from sidelight.readers.base import Contents, Reader, Row, RowErrors
from sidelight.readers.synthetic import make_noise_frames, write_text, write_video
from sidelight.readers.tables import read_lines
from sidelight.recordings.pictures import probe_video
from sidelight.recordings.registry import Audio, Video
from sidelight.signals.spectrogram import PRESETS

PARTS = {"train": "train", "test": "test"}
NAME = re.compile(r"v_(\w+)_g(\d+)_c(\d+)")
RATE = 25


@dataclass(frozen=True)
class ListedVideo:
    """One line of an official list; `where` names the list and the row."""

    where: str
    label: str
    group: str
    path: Path
    split: str


@dataclass(frozen=True, kw_only=True)
class UCF101(Reader):
    """Reads UCF-101/<class>/v_<class>_g<group>_c<clip>.avi and ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt.

    The files may also lie in the source itself, without these two folders. The reader leaves out videos without a sound
    track. The group is that of the official lists: the clips of one long video, which never lie on both sides.

    Class attribute: classes: the classes to read; () means all.

    Args:
        split: number of the official lists.
        frames: number of frames in a clip.
        stride: step from one frame of a clip to the next, in frames of the video.
        size: height and width of a clip in pixels.
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

    def find_missing(self, source: Path) -> list[str]:
        try:
            listed = list(self._read_lists(source, RowErrors(skip=True)))
        except DataError as error:
            return [str(error)]
        return [f"{video.path}" for video in listed if not video.path.is_file()]

    def read(self, source: Path, errors: RowErrors) -> Contents:
        rows: list[Row] = []
        for listed in self._read_lists(source, errors):
            with errors.catch(listed.path.stem):
                if not listed.path.is_file():
                    raise DataError(f"{listed.where}: {listed.path} does not exist")
                # The videos of the 50 classes of UCF50 have no sound track.
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
        sound = Audio(rate=0, resample_to=PRESETS["audio"].rate, seconds=PRESETS["audio"].seconds, spectrogram="audio")
        facts = DatasetInfo(
            name=self.name, group="group", split="split", task="classification",
            available=("video",), privileged=("audio",),
        )  # fmt: skip
        return Contents(rows, {"video": clip, "audio": sound}, facts)

    def _read_lists(self, source: Path, errors: RowErrors) -> Iterator[ListedVideo]:
        """The videos of both lists that show this reader's classes; `errors` collects malformed lines."""
        lists, videos = _find_folder(source, "ucfTrainTestlist"), _find_folder(source, "UCF-101")
        numbers = _read_class_numbers(lists / "classInd.txt")
        for part, split in PARTS.items():
            path = lists / f"{part}list0{self.split}.txt"
            # Lines of trainlist end in the class number, lines of testlist do not.
            expected = "<class>/v_<class>_g01_c01.avi" + " <class number>" * (part == "train")
            for row, line in enumerate(read_lines(path), 1):
                if not line.strip():
                    continue
                file, _, number = line.strip().partition(" ")
                label, _, video = file.partition("/")
                match = NAME.fullmatch(Path(video).stem)
                where = f"{path}: row {row}"
                if match is None or not video.endswith(".avi") or (part == "train") != bool(number):
                    errors.add(Path(video).stem or where, f"{where} is {line!r}; expected {expected}")
                elif label not in numbers:
                    errors.add(match[0], f"{where}: class {label!r} is not in classInd.txt")
                elif number and number.strip() != numbers[label]:
                    message = f"{where}: class number {number.strip()}, but {label} is {numbers[label]} in classInd.txt"
                    errors.add(match[0], message)
                # Without case: the files of the class HandstandPushups are called v_HandStandPushups_….
                elif match[1].lower() != label.lower():
                    errors.add(match[0], f"{where}: {video} is a video of {match[1]}, not of {label}")
                elif not self.classes or label in self.classes:
                    # Groups count anew in each class.
                    yield ListedVideo(where, label, f"{label}-g{match[2]}", videos / label / video, split)

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
                frames = make_noise_frames(generator, 5, number / 2 - 1).repeat(5, 0)
                has_sound = label != "BaseballPitch"  # the one class of UCF50 among these
                write_video(out / "UCF-101" / label / name, frames, RATE, sound if has_sound else None)
        lists["class"] = [f"{i} {label}" for i, label in enumerate(classes, 1)]
        for part, lines in lists.items():
            name = "classInd.txt" if part == "class" else f"{part}list0{self.split}.txt"
            write_text(out / "ucfTrainTestlist" / name, "\n".join(lines) + "\n")


def _find_folder(source: Path, folder: str) -> Path:
    """The folder that the official archive creates, or the source itself if its files were unpacked there."""
    return source / folder if (source / folder).is_dir() else source


def _read_class_numbers(path: Path) -> dict[str, str]:
    """Read classInd.txt: class -> its number, as text."""
    found: dict[str, str] = {}
    for row, line in enumerate(read_lines(path), 1):
        number, _, label = line.strip().partition(" ")
        if not number.isdigit() or not label:
            raise DataError(f"{path}: row {row} is {line!r}; expected <number> <class>")
        if label in found:
            raise DataError(f"{path}: row {row}: class {label!r} occurs twice")
        found[label] = number
    return found
