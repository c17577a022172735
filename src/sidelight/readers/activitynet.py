"""ActivityNet 1.3: long web videos with sound, each with segments that show an activity."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import DataError
from sidelight.readers.base import Contents, Reader, Row, RowErrors
from sidelight.readers.synthetic import make_noise_frames, write_text, write_video
from sidelight.recordings.by_id import VIDEOS
from sidelight.recordings.pictures import LATE, probe_video
from sidelight.recordings.registry import Audio, Video
from sidelight.signals.spectrogram import PRESETS
from sidelight.utils.files import read_json

# The labels of the testing subset are held back for the challenge (activity-net.org), so papers report results on the
# validation subset: it becomes the test part, and no rows are left to select epochs by.
SUBSETS = {"training": "train", "validation": "test", "testing": ""}


@dataclass(frozen=True)
class AnnotatedVideo:
    """A labelled video and its longest segment, from `start` to `end` in seconds."""

    name: str
    split: str
    label: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class ActivityNet(Reader):
    """Reads ActivityNet: a JSON file of annotations, and videos in any folders below the source.

    activity_net.v1-3.min.json holds `database`: {video: {subset, annotations}}; the video files are called
    [v_]<video>.mp4.

    A row is the longest annotated segment of a video with sound, with that segment's label. The reader leaves out
    videos without a sound track, and the subset `testing`.

    Args:
        annotations: name of the JSON file; default: the only activity_net*.json.
        frames: number of frames in a clip of the segment.
        stride: step from one frame of a clip to the next, in frames of the video.
        size: height and width of a clip in pixels.
    """

    name: ClassVar[str] = "activitynet"
    summary: ClassVar[str] = "ActivityNet 1.3: 14950 videos with sound of 200 activities"
    obtain: ClassVar[str] = (
        "Annotations: http://activity-net.org/download.html. Download the videos from the web by their names; the "
        "authors send those that have vanished on request (same page). Put all into one folder, or into its subfolders."
    )
    citation: ClassVar[str] = (
        "Caba Heilbron, Escorcia, Ghanem, Niebles: ActivityNet: a large-scale video benchmark for human activity "
        "understanding. CVPR 2015."
    )
    licence: ClassVar[str] = "annotations: MIT; videos of the web, whose rights are their makers'"

    annotations: str = ""
    frames: int = 16
    stride: int = 4
    size: int = 112

    def find_missing(self, source: Path) -> list[str]:
        try:
            annotated = list(self._annotated_videos(source, RowErrors(skip=True)))
        except DataError as error:
            return [str(error)]
        files = _find_videos(source)
        return [f"video of {video.name}: v_{video.name}.mp4" for video in annotated if video.name not in files]

    def read(self, source: Path, errors: RowErrors) -> Contents:
        files = _find_videos(source)
        rows: list[Row] = []
        for annotated in self._annotated_videos(source, errors):
            with errors.catch(annotated.name):
                found = files.get(annotated.name, [])
                if len(found) != 1:
                    state = (
                        f"there are {', '.join(map(str, found))}" if found else f"there is no v_{annotated.name}.mp4"
                    )
                    raise DataError(f"{source}: {state}; expected one video of {annotated.name}")

                video = probe_video(found[0])
                # A copy that was cut or converted since the annotation would show another action at these times.
                if annotated.end > video.seconds + LATE:
                    raise DataError(
                        f"{found[0]} lasts {video.seconds:.2f} s; its segment is {annotated.start:g} to "
                        f"{annotated.end:g} s"
                    )
                if video.audio_rate is not None:
                    rows.append(_build_row(annotated, found[0]))

        clip = Video(frames=self.frames, stride=self.stride, size=(self.size, self.size))
        # rate=0: the sound tracks of web videos have various rates.
        sound = Audio(rate=0, resample_to=PRESETS["audio"].rate, seconds=PRESETS["audio"].seconds, spectrogram="audio")
        facts = DatasetInfo(
            name="activitynet", group="video", split="split", task="classification",
            available=("video",), privileged=("audio",),
        )  # fmt: skip
        return Contents(rows, {"video": clip, "audio": sound}, facts)

    def _annotated_videos(self, source: Path, errors: RowErrors) -> Iterator[AnnotatedVideo]:
        """The labelled videos of the annotation file."""
        path = _annotation_file(source, self.annotations)
        for name, record in _read_database(path).items():
            where = f"{path}: {name!r}"
            with errors.catch(name):
                subset = record.get("subset") if isinstance(record, dict) else None
                if subset not in SUBSETS:
                    raise DataError(f"{where}: subset is {subset!r}; expected {', '.join(SUBSETS)}")
                if SUBSETS[subset]:
                    # Most videos show one activity; where one shows several, the longest segment stands for it.
                    label, start, end = max(_read_segments(where, record), key=lambda s: s[2] - s[1])
                    yield AnnotatedVideo(name, SUBSETS[subset], label, start, end)

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        database: dict[str, Any] = {}
        labels = ("Archery", "Playing drums", "Rafting")
        for i in range(18):
            name, label = f"synthetic{i:02d}", i % 3
            database[name] = {
                "duration": 2.0,
                "subset": "training" if i < 12 else "validation",
                "annotations": [{"label": labels[label], "segment": [0.4, 1.9]}],
                "url": f"https://example.org/{name}",
                "resolution": "64x64",
            }
            # The label shows in the pitch of the sound and in the brightness of the frames.
            tone = np.sin(2000 * (label + 1) * np.arange(32000) / 16000)
            sound = 0.3 * tone + generator.uniform(-0.1, 0.1, 32000)
            frames = make_noise_frames(generator, 8, label - 1).repeat(5, 0)
            write_video(out / "videos" / f"v_{name}.mp4", frames, 20, sound)
        database["unlabelled0"] = {"duration": 2.0, "subset": "testing", "annotations": []}
        text = json.dumps({"version": "VERSION 1.3", "taxonomy": [], "database": database}, indent=1)
        write_text(out / "activity_net.v1-3.min.json", text)


def _build_row(video: AnnotatedVideo, path: Path) -> Row:
    row: Row = {"id": video.name, "target": video.label, "video": video.name, "split": video.split}
    for m in ("video", "audio"):
        row |= {f"{m}_file_name": path, f"{m}_start": video.start, f"{m}_end": video.end}
    return row


def _annotation_file(source: Path, name: str) -> Path:
    if name:
        return source / name
    found = sorted(source.glob("activity_net*.json"))
    if len(found) != 1:
        raise DataError(
            f"{source}: there are {len(found)} files activity_net*.json; expected one (annotations= names it)"
        )
    return found[0]


def _read_database(path: Path) -> dict[str, Any]:
    """Video -> its record; raises DataError for a video with two records."""

    # A JSON parser keeps the last of two equal keys without a word; a merged annotation file must not pass so.
    def reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in pairs:
            if key in out:
                raise DataError(f"{path}: {key!r} occurs twice")
            out[key] = value
        return out

    tree = read_json(path, once=reject_duplicates)
    database = tree.get("database") if isinstance(tree, dict) else None
    if not isinstance(database, dict) or not database:
        raise DataError(f"{path} has no database of videos")
    return database


def _read_segments(where: str, record: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(label, start, end) of every annotation; raises DataError if one is malformed, or if there are none."""
    found = []
    for i, annotation in enumerate(record.get("annotations") or [], 1):
        try:
            label, (start, end) = annotation["label"], map(float, annotation["segment"])
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{where}: annotation {i} is {annotation!r}; expected label and segment [s, s]") from None
        if not 0 <= start < end:
            raise DataError(f"{where}: annotation {i} is from {start:g} to {end:g} s; expected 0 <= start < end")
        found.append((str(label), start, end))
    if not found:
        raise DataError(f"{where} has no annotations; expected at least one")
    return found


def _find_videos(source: Path) -> dict[str, list[Path]]:
    """Name of each video -> its files.

    Copies are called v_<video> or <video>, depending on the script that downloaded them.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() in VIDEOS:
            found.setdefault(path.stem.removeprefix("v_"), []).append(path)
    return found
