"""ActivityNet 1.3: long videos of the web with actions in segments of them, and their sound."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import DataError
from sidelight.readers.base import Contents, Faults, Reader, Row
from sidelight.readers.synthetic import noise_frames, write_text, write_video
from sidelight.recordings.pictures import LATE, probe_video
from sidelight.recordings.registry import Audio, Video
from sidelight.recordings.series import VIDEOS
from sidelight.signals.spectrogram import PRESETS
from sidelight.utils.files import read_json

SUBSETS = {"training": "train", "validation": "test", "testing": ""}
"""The testing subset has no labels; figures are of the validation subset, which is our test part."""


@dataclass(frozen=True)
class Entry:
    """A labelled video: its longest segment in seconds."""

    name: str
    split: str
    label: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class ActivityNet(Reader):
    """activity_net.v1-3.min.json with `database`: {video: {subset, annotations}}, and videos [v_]<video>.mp4 anywhere.

    A row is a video with sound: its longest annotated segment, with that segment's label. Videos without a sound track
    are left out, and so is the subset `testing`.

    Args:
        annotations: name of the file; left out, the one activity_net*.json.
        frames: of a clip, in the segment.
        stride: frames from one of them to the next.
        size: height and width of a clip.
    """

    name: ClassVar[str] = "activitynet"
    summary: ClassVar[str] = "ActivityNet 1.3: 14950 videos with sound of 200 activities"
    obtain: ClassVar[str] = (
        "Annotations: http://activity-net.org/download.html. Videos: of the web, by their names; those that have "
        "vanished are to be had of the makers on request (same page). Put all into one folder, or in folders of it."
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

    def missing(self, source: Path) -> list[str]:
        try:
            entries, videos = list(self._entries(source, Faults(skip=True))), _videos(source)
        except DataError as error:
            return [str(error)]
        return [f"video of {e.name}: v_{e.name}.mp4" for e in entries if e.name not in videos]

    def read(self, source: Path, faults: Faults) -> Contents:
        videos, rows = _videos(source), list[Row]()
        for entry in self._entries(source, faults):
            with faults.of(entry.name):
                found = videos.get(entry.name, [])
                if len(found) != 1:
                    said = f"there are {', '.join(map(str, found))}" if found else f"there is no v_{entry.name}.mp4"
                    raise DataError(f"{source}: {said}; expected one video of {entry.name}")
                video = probe_video(found[0])
                if entry.end > video.seconds + LATE:
                    raise DataError(
                        f"{found[0]} lasts {video.seconds:.2f} s; its segment is {entry.start:g} to {entry.end:g} s"
                    )
                if video.audio_rate is not None:
                    rows.append(_row(entry, found[0]))
        clip = Video(frames=self.frames, stride=self.stride, size=(self.size, self.size))
        sound = Audio(rate=0, resample_to=PRESETS["audio"].rate, spectrogram="audio")
        facts = DatasetInfo(
            name="activitynet", group="video", split="split", task="classification",
            available=("video",), privileged=("audio",),
        )  # fmt: skip
        return Contents(rows, {"video": clip, "audio": sound}, facts)

    def _entries(self, source: Path, faults: Faults) -> Iterator[Entry]:
        path = _annotations(source, self.annotations)
        for name, told in _database(path).items():
            where = f"{path}: {name!r}"
            with faults.of(name):
                subset = told.get("subset") if isinstance(told, dict) else None
                if subset not in SUBSETS:
                    raise DataError(f"{where}: subset is {subset!r}; expected {', '.join(SUBSETS)}")
                if SUBSETS[subset]:
                    label, start, end = max(_segments(where, told), key=lambda s: s[2] - s[1])
                    yield Entry(name, SUBSETS[subset], label, start, end)

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        database: dict[str, Any] = {}
        labels = ("Archery", "Playing drums", "Rafting")
        for i in range(18):
            name, kind = f"synthetic{i:02d}", i % 3
            subset = "training" if i < 12 else "validation"
            segment = [0.4, 1.9]
            told = {"duration": 2.0, "subset": subset, "annotations": [{"label": labels[kind], "segment": segment}]}
            database[name] = told | {"url": f"https://example.org/{name}", "resolution": "64x64"}
            tone = np.sin(2000 * (kind + 1) * np.arange(32000) / 16000)
            sound = 0.3 * tone + generator.uniform(-0.1, 0.1, 32000)
            frames = noise_frames(generator, 8, kind - 1).repeat(5, 0)
            write_video(out / "videos" / f"v_{name}.mp4", frames, 20, sound)
        database["unlabelled0"] = {"duration": 2.0, "subset": "testing", "annotations": []}
        text = json.dumps({"version": "VERSION 1.3", "taxonomy": [], "database": database}, indent=1)
        write_text(out / "activity_net.v1-3.min.json", text)


def _row(entry: Entry, path: Path) -> Row:
    row: Row = {"id": entry.name, "target": entry.label, "video": entry.name, "split": entry.split}
    for m in ("video", "audio"):
        row |= {f"{m}_file_name": path, f"{m}_start": entry.start, f"{m}_end": entry.end}
    return row


def _annotations(source: Path, name: str) -> Path:
    if name:
        return source / name
    found = sorted(source.glob("activity_net*.json"))
    if len(found) != 1:
        raise DataError(
            f"{source}: there are {len(found)} files activity_net*.json; expected one (annotations= names it)"
        )
    return found[0]


def _database(path: Path) -> dict[str, Any]:
    """Video -> what is told of it; raises DataError for one that is told of twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in pairs:
            if key in out:
                raise DataError(f"{path}: {key!r} occurs twice")
            out[key] = value
        return out

    told = read_json(path, once=once)
    database = told.get("database") if isinstance(told, dict) else None
    if not isinstance(database, dict) or not database:
        raise DataError(f"{path} has no database of videos")
    return database


def _segments(where: str, told: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(label, start, end) of every annotation; raises DataError where one is wrong or none is there."""
    found = []
    for i, annotation in enumerate(told.get("annotations") or [], 1):
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


def _videos(source: Path) -> dict[str, list[Path]]:
    """The files of every video by its name."""
    found: dict[str, list[Path]] = {}
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() in VIDEOS:
            found.setdefault(path.stem.removeprefix("v_"), []).append(path)
    return found
