"""BioVid heat pain database, parts A and B: facial video and biosignals of heat pain in five levels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import ConfigError, DataError
from sidelight.readers.base import Contents, Faults, Reader
from sidelight.readers.synthetic import noise_frames, write_text, write_video
from sidelight.readers.tables import read_cells
from sidelight.recordings.recording_type import RecordingType
from sidelight.recordings.registry import Frames, Signal, Video

CLASSES = ("BL1", "PA1", "PA2", "PA3", "PA4")
TABLES = ("samples.csv", "starting_point/samples.csv")
COLUMNS = ("gsr", "ecg", "emg_trapezius", "emg_corrugator", "emg_zygomaticus")
RATE, VIDEO_RATE = 512, 25
SECONDS = 5.5
FIRST, LAST = 2.0, 5.0
"""The seconds that the released code of PKDOT cuts out, and the 75 frames of the repacked layout."""
REPACKED = "img_{:05d}.jpg"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One stimulus: its files, and where in them it begins."""

    name: str
    subject: str
    label: str
    video: Path
    signals: Path


@dataclass(frozen=True, kw_only=True)
class BioVid(Reader):
    """The official layout, or the one that PKDOT's code repacks it to (told apart by samples.csv).

    Args:
        part: "A" (87 subjects) or "B" (86, electrodes in the face).
        classes: "binary" (BL1 against PA4) or "all" (BL1 and PA1 to PA4).
        signals: "filtered" or "raw" biosignals, of the official layout.
        emg: muscle of the EMG, "trapezius", "corrugator" or "zygomaticus"; left out, the trapezius in part A (whose
            faces have no electrodes) and, as in PKDOT's code, the corrugator in part B.
        faces: folder in the source with a folder of frames per sample, <faces>/<subject>/<sample>/00001.jpg, cropped
            and aligned; left out, the clips are the middle of the official videos.
        frames: of a clip.
        stride: frames from one of them to the next.
        size: height and width of a clip.
    """

    name: ClassVar[str] = "biovid"
    summary: ClassVar[str] = (
        "BioVid heat pain: facial video, EDA, ECG and EMG of 87 (A) and 86 (B) people, 20 stimuli of each of 5 levels"
    )
    obtain: ClassVar[str] = (
        "Free for research after a signed agreement: https://www.nit.ovgu.de/BioVid.html. Unpack a part's archives "
        "into one folder: samples.csv, video/, biosignals_filtered/, biosignals_raw/."
    )
    citation: ClassVar[str] = (
        "Walter et al.: The BioVid heat pain database. CYBCO 2013. Werner et al.: Automatic pain recognition from "
        "video and biomedical signals. ICPR 2014."
    )
    licence: ClassVar[str] = "research only, by agreement with the University of Magdeburg"

    part: Literal["A", "B"] = "A"
    classes: Literal["binary", "all"] = "binary"
    signals: Literal["filtered", "raw"] = "filtered"
    emg: Literal["", "trapezius", "corrugator", "zygomaticus"] = ""
    faces: str = ""
    frames: int = 16
    stride: int = 4
    size: int = 112

    def __post_init__(self) -> None:
        if self.part == "A" and self.emg in ("corrugator", "zygomaticus"):
            raise ConfigError(f"part A of BioVid has no EMG of the {self.emg}; it has that of the trapezius")

    @property
    def muscle(self) -> str:
        """Column of the EMG."""
        return "emg_" + (self.emg or ("trapezius" if self.part == "A" else "corrugator"))

    def missing(self, source: Path) -> list[str]:
        try:
            samples = list(self._samples(source, Faults(skip=True)))
        except DataError as error:
            return [str(error)]
        lost = []
        for sample in samples:
            lost += [f"{path}" for path in (sample.video, sample.signals) if not path.exists()]
        return lost

    def read(self, source: Path, faults: Faults) -> Contents:
        modalities = self._modalities(source)
        rows = []
        for sample in self._samples(source, faults):
            row = {
                "id": sample.name,
                "target": sample.label,
                "subject": sample.subject,
                "video_file_name": sample.video,
            }
            if isinstance(modalities["video"], Video) or self.faces:
                row |= {"video_start": FIRST, "video_end": LAST}
            for m in ("eda", "ecg", "emg"):
                row |= {f"{m}_file_name": sample.signals}
            rows.append(row | {"emg_start": FIRST})
        facts = DatasetInfo(
            name=f"biovid-{self.part.lower()}",
            group="subject",
            task="classification",
            classes=self._classes,
            available=("video",),
            privileged=("eda",) if self.part == "A" else ("emg",),
        )
        return Contents(rows, modalities, facts)

    @property
    def _classes(self) -> tuple[str, ...]:
        return (CLASSES[0], CLASSES[-1]) if self.classes == "binary" else CLASSES

    def _modalities(self, source: Path) -> dict[str, RecordingType]:
        size = (self.size, self.size)
        video: RecordingType
        if self.faces or _table(source) is None:
            pattern = "{:05d}.jpg" if self.faces else REPACKED
            video = Frames(frames=self.frames, stride=self.stride, size=size, pattern=pattern, rate=VIDEO_RATE)
        else:
            video = Video(frames=self.frames, stride=self.stride, size=size, rate=VIDEO_RATE)

        def signal(column: str, unit: str, seconds: float, spectrogram: str = "") -> Signal:
            return Signal(
                columns=(column,), rate=RATE, unit=unit, time="time", time_unit="us", separator="\t",
                seconds=seconds, spectrogram=spectrogram,
            )  # fmt: skip

        return {
            "video": video,
            "eda": signal("gsr", "uS", SECONDS),
            "ecg": signal("ecg", "uV", SECONDS),
            "emg": signal(self.muscle, "uV", LAST - FIRST, "emg"),
        }

    def _samples(self, source: Path, faults: Faults) -> Iterator[Sample]:
        """Those of the chosen classes."""
        table = _table(source)
        if table is None:
            yield from self._repacked(source)
            return
        signals = source / f"biosignals_{self.signals}"
        for folder in (signals, source / (self.faces or "video")):
            if not folder.is_dir():
                raise DataError(f"{folder}: the folder does not exist")
        for row, cells in read_cells(table, ("subject_name", "class_id", "sample_name"), "\t"):
            subject, name, code = cells["subject_name"], cells["sample_name"], cells["class_id"]
            if code not in ("0", "1", "2", "3", "4"):
                faults.add(name, f"{table}: row {row}, class_id is {code!r}; expected 0 (BL1) to 4 (PA4)")
                continue
            label = CLASSES[int(code)]
            if f"-{label}-" not in name:
                faults.add(name, f"{table}: row {row}: class_id {code} is {label}, but the sample is called {name!r}")
                continue
            if label in self._classes:
                video = (
                    source / self.faces / subject / name if self.faces else source / "video" / subject / f"{name}.mp4"
                )
                path = signals / subject / f"{name}_bio.csv"
                yield Sample(name=name, subject=subject, label=label, video=video, signals=path)

    def _repacked(self, source: Path) -> Iterator[Sample]:
        """<class>/<clip>/img_00001.jpg, physio/<class>/<clip>_bio.csv."""
        folders = {label: source / str(i) for i, label in enumerate(CLASSES) if label in self._classes}
        for folder in (*folders.values(), source / "physio"):
            if not folder.is_dir():
                raise DataError(
                    f"{folder}: the folder does not exist; expected samples.csv (official layout), or the repacked "
                    "one: 0/ … 4/ and physio/"
                )
        for label, folder in folders.items():
            for clip in sorted(p for p in folder.iterdir() if p.is_dir()):
                path = source / "physio" / folder.name / f"{clip.name}_bio.csv"
                subject = clip.name.partition("-")[0]
                yield Sample(name=clip.name, subject=subject, label=label, video=clip, signals=path)

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        lines = ["subject_id\tsubject_name\tclass_id\tclass_name\tsample_id\tsample_name"]
        for i in range(5):
            subject = f"0{i + 1}0101_{'mw'[i % 2]}_{20 + i}"
            for level in range(5):
                name = f"{subject}-{CLASSES[level]}-{level + 1:03d}"
                lines.append(f"{i + 1}\t{subject}\t{level}\t{CLASSES[level]}\t{5 * i + level + 1}\t{name}")
                frames = noise_frames(generator, 6, level / 8).repeat(23, 0)
                write_video(out / "video" / subject / f"{name}.mp4", frames, VIDEO_RATE)
                for kind in ("filtered", "raw"):
                    write_text(out / f"biosignals_{kind}" / subject / f"{name}_bio.csv", _signals(generator, level))
        write_text(out / "samples.csv", "\n".join(lines) + "\n")


def _signals(generator: np.random.Generator, level: int) -> str:
    """A file of biosignals: skin conductance rises, and muscles tighten, with the level."""
    count = round(SECONDS * RATE)
    t = np.arange(count) / RATE
    x = generator.standard_normal((count, len(COLUMNS)))
    x[:, 0] = 4 + 0.2 * level * t / SECONDS + 0.01 * x[:, 0]
    x[:, 1] = 200 * np.sin(2 * np.pi * 1.2 * t) ** 15 + 5 * x[:, 1]
    x[:, 2:] *= 2 + 2 * level
    time = np.round(t * 1e6)
    line = "%.0f" + "\t%.4f" * len(COLUMNS) + "\n"
    cells = np.column_stack([time, x]).ravel().tolist()
    body: str = line * count % tuple(cells)
    return "\t".join(("time", *COLUMNS)) + "\n" + body


def _table(source: Path) -> Path | None:
    return next((source / name for name in TABLES if (source / name).is_file()), None)
