"""Aff-Wild2, valence and arousal: frames of faces from web videos, and their sound."""

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
from sidelight.readers.base import Contents, Reader, Row, RowErrors
from sidelight.readers.synthetic import make_noise_frames, write_image, write_text, write_video, write_wav
from sidelight.readers.tables import parse_number, read_lines
from sidelight.recordings.by_id import VIDEOS
from sidelight.recordings.pictures import probe_video
from sidelight.recordings.registry import Audio, Frames
from sidelight.signals.spectrogram import PRESETS
from sidelight.signals.windows import LabelTrack, label_windows
from sidelight.video.container import VideoFile
from sidelight.video.frames import find_frames

# The labels of the official test set are not public (ibug.doc.ic.ac.uk/resources/aff-wild2), so papers report results
# on the validation set: it becomes the test part.
SETS = {"Train_Set": "train", "Validation_Set": "test"}
TARGETS = ("valence", "arousal")
PATTERN = "{:05d}.jpg"
# The annotation files write -5 for a frame without a label; valid values lie in -1 to 1.
INVALID = -5.0
# The videos are handed out in several archives (batch1, batch2, …), which people unpack into folders of these names.
SOUND = ("audio", "video*", "batch*", "raw*")
SHARE = 0.5
"""The smallest share of a window's frames that must have a label, and a face."""


@dataclass(frozen=True, kw_only=True)
class AffWild2(Reader):
    """Reads VA_Estimation_Challenge/{Train,Validation}_Set/<video>.txt, cropped_aligned/<video>/00001.jpg, and sound.

    Line i below the header of a label file belongs to frame i; −5 in either value means that the frame has no label.
    Two people of one video, `<video>_left` and `<video>_right`, share its sound and form one group. A row is a window
    of a video; its target is the mean over the labelled frames.

    Args:
        images: folder of the frames.
        rate: frames per second of the videos that exist as a sound file only; otherwise the video's own rate is used.
        window: number of frames in a row; the default 32 is what the spectrogram of the sound covers at 30 frames per
            second.
        hop: step from one row to the next, in frames.
        frames: number of frames in a clip of the window.
        stride: step from one frame of a clip to the next, in frames of the video.
        size: height and width of a clip in pixels.
    """

    name: ClassVar[str] = "affwild2"
    summary: ClassVar[str] = "Aff-Wild2: valence and arousal over time of faces in 564 web videos, with sound"
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
            raise ConfigError(
                f"affwild2: rate={self.rate:g}, window={self.window}, hop={self.hop}; expected numbers above 0"
            )
        if (self.frames - 1) * self.stride >= self.window:
            raise ConfigError(
                f"affwild2: {self.frames} frames, {self.stride} apart, do not fit into a window of {self.window} frames"
            )

    def find_missing(self, source: Path) -> list[str]:
        try:
            labels = self._label_files(source)
        except DataError as error:
            return [str(error)]
        image_folders = [source / self.images / path.stem for path in labels]
        missing = [f"{folder}" for folder in image_folders if not folder.is_dir()]

        sounds = _find_sounds(source)
        videos = dict.fromkeys(_video_name(path.stem) for path in labels)
        folders = ", ".join(SOUND)
        return missing + [f"sound of {v}: {v}.wav or {v}.mp4 in {folders}" for v in videos if v not in sounds]

    def read(self, source: Path, errors: RowErrors) -> Contents:
        sounds = _find_sounds(source)
        labels = self._label_files(source)
        groups = _find_groups(labels)
        rows: list[Row] = []
        for path, split in labels.items():
            with errors.catch(path.stem):
                sound = sounds.get(_video_name(path.stem))
                if sound is None:
                    raise DataError(f"{path}: there is no sound of {_video_name(path.stem)}: expected a .wav or video")
                columns = {"group": groups[path], "split": split, "video": path.stem}
                windows = self._build_windows(path, source / self.images / path.stem, sound)
                rows += [row | columns for row in windows]

        clip = Frames(
            frames=self.frames,
            stride=self.stride,
            size=(self.size, self.size),
            pattern=PATTERN,
            rate=self.rate,
            statistics="half",
        )
        # rate=0: the sound tracks of web videos have various rates.
        audio = Audio(rate=0, resample_to=PRESETS["audio"].rate, spectrogram="audio")
        facts = DatasetInfo(
            name="affwild2", target=TARGETS, group="group", split="split", task="regression",
            available=("video",), privileged=("audio",),
        )  # fmt: skip
        return Contents(rows, {"video": clip, "audio": audio}, facts)

    def _build_windows(self, labels: Path, images: Path, sound: Path) -> Iterator[Row]:
        """The windows of one video that have enough labels and enough faces."""
        values = read_labels(labels)

        # cropped_aligned holds no image for a frame in which no face was found; image numbers begin at 1.
        faces = find_frames(images, PATTERN)
        has_face = np.zeros(max(len(values), int(faces.numbers[-1])), bool)
        has_face[faces.numbers[faces.numbers > 0] - 1] = True

        video = probe_video(sound) if sound.suffix.lower() in VIDEOS else None
        first = np.arange(0, len(values) - self.window + 1, self.hop)
        if not len(first):
            raise DataError(f"{labels}: {len(values)} frames are labelled; a window has {self.window}")

        # A rate of 1 makes frames the unit of time, so windows and labels meet without rounding.
        mean, labelled, _ = label_windows(LabelTrack(values, 1.0), first.astype(float), self.window, "mean", SHARE)
        for frame, target, has_label in zip(first.tolist(), mean.tolist(), labelled):
            if has_label and has_face[frame : frame + self.window].mean() >= SHARE:
                yield {
                    "id": f"{labels.stem}-{frame + 1:05d}",
                    **dict(zip(TARGETS, target)),
                    "video_file_name": images,
                    "video_start": frame / self.rate,
                    "video_end": (frame + self.window) / self.rate,
                    "audio_file_name": sound,
                    "audio_start": self._sound_time(frame, video),
                }

    def _sound_time(self, frame: int, video: VideoFile | None) -> float:
        """Time of a frame in the sound, in seconds."""
        if video is None or frame >= len(video):
            return frame / (video.rate if video else self.rate)
        # Dropped frames and pauses make the times of web videos uneven, so frame / rate would drift from the sound.
        return float(video.times[frame])

    def _label_files(self, source: Path) -> dict[Path, str]:
        """Label file -> "train" or "test"."""
        # Archives of the annotations hold this folder at different depths, under names such as VA_Estimation_Challenge.
        folders = [p for depth in ("", "*/", "*/*/") for p in sorted(source.glob(f"{depth}VA_Estimation*"))]
        if not folders:
            raise DataError(f"{source}: there is no folder VA_Estimation_Challenge, here or up to two levels below")

        found: dict[Path, str] = {}
        for name, split in SETS.items():
            paths = sorted((folders[0] / name).glob("*.txt"))
            if not paths:
                raise DataError(f"{folders[0] / name}: there are no .txt files of labels")
            found |= dict.fromkeys(paths, split)
        return found

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        parts = {"Train_Set": ["1-30-64x64", "2-30-64x64_left", "2-30-64x64_right", "video3"], "Validation_Set": ["9"]}
        for part, names in parts.items():
            for name in names:
                self._synthetic_video(generator, out, part, name)
        for base in ("1-30-64x64", "2-30-64x64"):
            sound = generator.uniform(-0.3, 0.3, 44100 * 4)
            write_video(out / "batch1" / f"{base}.mp4", make_noise_frames(generator, 6).repeat(20, 0), 30, sound, 44100)
        for base in ("video3", "9"):
            write_wav(out / "audio" / f"{base}.wav", generator.uniform(-0.3, 0.3, 16000 * 4), 16000)

    def _synthetic_video(self, generator: np.random.Generator, out: Path, part: str, name: str) -> None:
        """Write 128 frames whose brightness follows valence; every tenth has no label, every seventh no face."""
        va = np.clip(np.sin(np.arange(128)[:, None] / (8, 15) + generator.uniform(0, 6, 2)), -1, 1)
        lines = ["-5,-5" if i % 10 == 0 else f"{v:.3f},{a:.3f}" for i, (v, a) in enumerate(va)]
        path = out / "VA_Estimation_Challenge" / part / f"{name}.txt"
        write_text(path, "\n".join(["valence,arousal", *lines]) + "\n")
        for i, (v, _) in enumerate(va):
            if i % 7:
                write_image(
                    out / "cropped_aligned" / name / PATTERN.format(i + 1), make_noise_frames(generator, 1, v)[0]
                )


def read_labels(path: Path) -> NDArray[np.float64]:
    """Read the label file of a video.

    Returns:
        (T, 2) valence and arousal of each frame, from −1 to 1; NaN in a frame where either is −5.

    Raises:
        DataError: another header, a line that is not two numbers, or a value out of range; names file and row.
    """
    lines = read_lines(path)
    names = [cell.strip().lower() for cell in lines[0].split(",")]
    if names != list(TARGETS):
        raise DataError(f"{path}: row 1 is {lines[0]!r}; expected the header valence,arousal")
    values = np.full((len(lines) - 1, 2), np.nan)
    for i, line in enumerate(lines[1:]):
        cells = line.split(",")
        if len(cells) != 2:
            raise DataError(f"{path}: row {i + 2} is {line!r}; expected valence,arousal")
        pair = [parse_number(cell.strip(), f"{path}: row {i + 2}, {name}") for cell, name in zip(cells, TARGETS)]
        if INVALID in pair:
            continue
        for value, name in zip(pair, TARGETS):
            if not -1 <= value <= 1:
                raise DataError(
                    f"{path}: row {i + 2}, {name} is {value:g}; expected -1 to 1, or -5 for a frame without a label"
                )
        values[i] = pair
    if not len(values):
        raise DataError(f"{path} has a header and no rows")
    return values


def _video_name(label_name: str) -> str:
    """Drop the person from the name of a label file: two people of one video are <video>_left and <video>_right."""
    return re.sub(r"_(left|right)$", "", label_name)


def _find_groups(labels: dict[Path, str]) -> dict[Path, str]:
    """Label file -> group: the video, shared by the people in it."""
    splits: dict[str, set[str]] = {}
    for path, split in labels.items():
        splits.setdefault(_video_name(path.stem), set()).add(split)

    # A group must not lie in two parts of the split, so people whom the official sets divide become separate groups.
    divided = [video for video, found in splits.items() if len(found) > 1]
    if divided:
        warnings.warn(
            f"affwild2: people of {', '.join(divided)} are in both official parts; each person is a group of its own",
            SidelightWarning,
            stacklevel=2,
        )
    return {path: path.stem if _video_name(path.stem) in divided else _video_name(path.stem) for path in labels}


def _find_sounds(source: Path) -> dict[str, Path]:
    """Name of each video -> its sound; a sound file is preferred, since it reads much faster than a video."""
    found: dict[str, Path] = {}
    for pattern in SOUND:  # "audio" comes first
        for path in sorted(p for folder in source.glob(pattern) for p in folder.rglob("*")):
            if path.suffix.lower() in (".wav", ".flac", *VIDEOS):
                found.setdefault(path.stem, path)
    return found
