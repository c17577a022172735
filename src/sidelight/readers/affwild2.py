"""Aff-Wild2, valence and arousal: frames of faces from videos of the web, and their sound."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.readers.base import Contents, Faults, Reader, Row
from sidelight.readers.synthetic import noise_frames, write_image, write_text, write_video, write_wav
from sidelight.readers.tables import number, read_lines
from sidelight.recordings.pictures import probe_video
from sidelight.recordings.registry import Audio, Frames
from sidelight.recordings.series import VIDEOS
from sidelight.signals.spectrogram import PRESETS
from sidelight.signals.windows import LabelTrack, label_windows
from sidelight.video.container import VideoFile
from sidelight.video.frames import frame_folder

SETS = {"Train_Set": "train", "Validation_Set": "test"}
"""The test labels were never published; figures are of the validation set, which is our test part."""
TARGETS = ("valence", "arousal")
PATTERN = "{:05d}.jpg"
INVALID = -5.0
SOUND = ("audio", "video*", "batch*", "raw*")
"""Folders with sound files or videos."""
SHARE = 0.5
"""The least share of a window's frames that must be labelled, and have a face."""


@dataclass(frozen=True, kw_only=True)
class AffWild2(Reader):
    """VA_Estimation_Challenge/{Train_Set,Validation_Set}/<video>.txt, cropped_aligned/<video>/00001.jpg, and sound.

    Line i below the header belongs to frame i. −5 in either value is no label. Two people of one video, `<video>_left`
    and `<video>_right`, share its sound and are one group. A row is a window of a video; its target is the mean over
    the labelled frames.

    Args:
        images: folder of the frames.
        rate: frames a second of videos of which only a sound file is there; otherwise the video's own.
        window: frames of a row; 32 is what the spectrogram of the sound covers at 30 frames a second.
        hop: frames from one row to the next.
        frames: of a clip, in the window.
        stride: frames from one of them to the next.
        size: height and width of a clip.
    """

    name: ClassVar[str] = "affwild2"
    summary: ClassVar[str] = "Aff-Wild2: valence and arousal over time of faces in 564 videos of the web, with sound"
    obtain: ClassVar[str] = (
        "Free for research after a signed agreement: https://ibug.doc.ic.ac.uk/resources/aff-wild2/. Unpack the "
        "annotations, cropped_aligned images and videos (batch1, batch2, …) into one folder."
    )
    citation: ClassVar[str] = (
        "Kollias, Zafeiriou: Aff-Wild2: extending the Aff-Wild database for affect recognition. arXiv 1811.07770, 2018."
    )
    licence: ClassVar[str] = "research only, by agreement with Imperial College London"

    images: str = "cropped_aligned"
    rate: float = 30.0
    window: int = 32
    hop: int = 32
    frames: int = 16
    stride: int = 2
    size: int = 112

    def __post_init__(self) -> None:
        if self.rate <= 0 or min(self.window, self.hop) < 1:
            raise ConfigError("affwild2: rate, window and hop are above 0")
        if (self.frames - 1) * self.stride >= self.window:
            raise ConfigError(
                f"affwild2: {self.frames} frames, {self.stride} apart, do not fit into a window of {self.window} frames"
            )

    def missing(self, source: Path) -> list[str]:
        try:
            labels = self._labels(source)
        except DataError as error:
            return [str(error)]
        sounds = _sounds(source)
        lost = [f"{source / self.images / p.stem}" for p in labels if not (source / self.images / p.stem).is_dir()]
        bases = dict.fromkeys(_base(p.stem) for p in labels)
        return lost + [f"sound of {b}: {b}.wav or {b}.mp4 in {', '.join(SOUND)}" for b in bases if b not in sounds]

    def read(self, source: Path, faults: Faults) -> Contents:
        sounds, labels, rows = _sounds(source), self._labels(source), list[Row]()
        groups = _groups(labels)
        for path, split in labels.items():
            with faults.of(path.stem):
                sound = sounds.get(_base(path.stem))
                if sound is None:
                    raise DataError(f"{path}: there is no sound of {_base(path.stem)}: expected a .wav or video")
                known = {"group": groups[path], "split": split, "video": path.stem}
                rows += [row | known for row in self._windows(path, source / self.images / path.stem, sound)]
        size = (self.size, self.size)
        clip = Frames(
            frames=self.frames, stride=self.stride, size=size, pattern=PATTERN, rate=self.rate, statistics="half"
        )  # fmt: skip
        sound_kind = Audio(rate=0, resample_to=PRESETS["audio"].rate, spectrogram="audio")
        facts = DatasetInfo(
            name="affwild2", target=TARGETS, group="group", split="split", task="regression",
            available=("video",), privileged=("audio",),
        )  # fmt: skip
        return Contents(rows, {"video": clip, "audio": sound_kind}, facts)

    def _windows(self, labels: Path, images: Path, sound: Path) -> Iterator[Row]:
        values = read_labels(labels)
        faces = frame_folder(images, PATTERN)
        there = np.zeros(max(len(values), int(faces.numbers[-1])), bool)
        there[faces.numbers[faces.numbers > 0] - 1] = True
        film = probe_video(sound) if sound.suffix.lower() in VIDEOS else None
        first = np.arange(0, len(values) - self.window + 1, self.hop)
        if not len(first):
            raise DataError(f"{labels}: {len(values)} frames are labelled; a window has {self.window}")
        mean, labelled, _ = label_windows(LabelTrack(values, 1.0), first.astype(float), self.window, "mean", SHARE)
        for at, target, good in zip(first.tolist(), mean.tolist(), labelled):
            if good and there[at : at + self.window].mean() >= SHARE:
                yield {
                    "id": f"{labels.stem}-{at + 1:05d}",
                    **dict(zip(TARGETS, target)),
                    "video_file_name": images,
                    "video_start": at / self.rate,
                    "video_end": (at + self.window) / self.rate,
                    "audio_file_name": sound,
                    "audio_start": self._time(at, film),
                }

    def _time(self, frame: int, film: VideoFile | None) -> float:
        """Seconds of a frame in the sound: by the video's own times, which dropped frames and pauses make uneven."""
        if film is None or frame >= len(film):
            return frame / (film.rate if film else self.rate)
        return float(film.times[frame])

    def _labels(self, source: Path) -> dict[Path, str]:
        """Files of labels and the part that each is of."""
        folder = next((p for depth in ("", "*/", "*/*/") for p in sorted(source.glob(f"{depth}VA_Estimation*"))), None)
        if folder is None:
            raise DataError(f"{source}: there is no folder VA_Estimation_Challenge, here or in its folders")
        found = {path: part for name, part in SETS.items() for path in sorted((folder / name).glob("*.txt"))}
        for name, part in SETS.items():
            if part not in found.values():
                raise DataError(f"{folder / name}: there are no .txt files of labels")
        return found

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        parts = {"Train_Set": ["1-30-64x64", "2-30-64x64_left", "2-30-64x64_right", "video3"], "Validation_Set": ["9"]}
        for part, names in parts.items():
            for name in names:
                self._synthetic_video(generator, out, part, name)
        for base in ("1-30-64x64", "2-30-64x64"):
            sound = generator.uniform(-0.3, 0.3, 44100 * 4)
            write_video(out / "batch1" / f"{base}.mp4", noise_frames(generator, 6).repeat(20, 0), 30, sound, 44100)
        for base in ("video3", "9"):
            write_wav(out / "audio" / f"{base}.wav", generator.uniform(-0.3, 0.3, 16000 * 4), 16000)

    def _synthetic_video(self, generator: np.random.Generator, out: Path, part: str, name: str) -> None:
        """128 frames whose brightness follows valence; no label of every tenth, no face in every seventh."""
        va = np.clip(np.sin(np.arange(128)[:, None] / (8, 15) + generator.uniform(0, 6, 2)), -1, 1)
        lines = ["-5,-5" if i % 10 == 0 else f"{v:.3f},{a:.3f}" for i, (v, a) in enumerate(va)]
        path = out / "VA_Estimation_Challenge" / part / f"{name}.txt"
        write_text(path, "\n".join(["valence,arousal", *lines]) + "\n")
        for i, (v, _) in enumerate(va):
            if i % 7:
                write_image(out / "cropped_aligned" / name / PATTERN.format(i + 1), noise_frames(generator, 1, v)[0])


def read_labels(path: Path) -> NDArray[np.float64]:
    """(T, 2) valence and arousal of each frame, NaN where either is −5; raises DataError naming file and row."""
    lines = read_lines(path)
    names = [cell.strip().lower() for cell in lines[0].split(",")]
    if names != list(TARGETS):
        raise DataError(f"{path}: row 1 is {lines[0]!r}; expected the header valence,arousal")
    values = np.full((len(lines) - 1, 2), np.nan)
    for i, line in enumerate(lines[1:]):
        cells = line.split(",")
        if len(cells) != 2:
            raise DataError(f"{path}: row {i + 2} is {line!r}; expected valence,arousal")
        pair = [number(cell.strip(), f"{path}: row {i + 2}, {name}") for cell, name in zip(cells, TARGETS)]
        if INVALID in pair:
            continue
        for value, name in zip(pair, TARGETS):
            if not -1 <= value <= 1:
                raise DataError(
                    f"{path}: row {i + 2}, {name} is {value:g}; expected -1 to 1, or -5 where there is none"
                )
        values[i] = pair
    if not len(values):
        raise DataError(f"{path} has a header and no rows")
    return values


def _base(video: str) -> str:
    return re.sub(r"_(left|right)$", "", video)


def _groups(labels: dict[Path, str]) -> dict[Path, str]:
    """Whose a file's rows are: its video, whatever person; alone where the official parts share a video."""
    parts: dict[str, set[str]] = {}
    for path, part in labels.items():
        parts.setdefault(_base(path.stem), set()).add(part)
    shared = [base for base, found in parts.items() if len(found) > 1]
    if shared:
        warnings.warn(
            f"affwild2: people of {', '.join(shared)} are in both official parts; each person is a group of its own",
            SidelightWarning,
            stacklevel=2,
        )
    return {path: path.stem if _base(path.stem) in shared else _base(path.stem) for path in labels}


def _sounds(source: Path) -> dict[str, Path]:
    """The sound of every video by its name, a sound file before a video."""
    found: dict[str, Path] = {}
    for pattern in SOUND:
        for path in sorted(p for folder in source.glob(pattern) for p in folder.rglob("*")):
            if path.suffix.lower() in (".wav", ".flac", *VIDEOS):
                found.setdefault(path.stem, path)
    return found
