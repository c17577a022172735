"""BioVid heat pain database, parts A and B: facial video and biosignals at five levels of heat pain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import ConfigError, DataError
from sidelight.readers.base import Contents, Reader, RowErrors
from sidelight.readers.synthetic import make_noise_frames, write_text, write_video
from sidelight.readers.tables import read_cells
from sidelight.recordings.base import RecordingType
from sidelight.recordings.registry import Frames, Signal, Video

CLASSES = ("BL1", "PA1", "PA2", "PA3", "PA4")
TABLES = ("samples.csv", "starting_point/samples.csv")
COLUMNS = ("gsr", "ecg", "emg_trapezius", "emg_corrugator", "emg_zygomaticus")
RATE, VIDEO_RATE = 512, 25
SECONDS = 5.5
# The released code of PKDOT (arXiv 2401.15489) cuts out these seconds; the repacked layout holds their 75 frames.
FIRST, LAST = 2.0, 5.0
REPACKED = "img_{:05d}.jpg"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One stimulus and its files."""

    name: str
    subject: str
    label: str
    video: Path
    signals: Path


@dataclass(frozen=True, kw_only=True)
class BioVid(Reader):
    """Reads the official layout, or the layout into which PKDOT's code repacks it; only the official has samples.csv.

    Args:
        part: "A" (87 subjects) or "B" (86 subjects, with electrodes in the face).
        classes: "binary" (BL1 against PA4) or "all" (BL1 and PA1 to PA4).
        signals: "filtered" or "raw" biosignals of the official layout.
        emg: muscle of the EMG, "trapezius", "corrugator" or "zygomaticus"; default: the trapezius in part A (whose
            faces have no electrodes) and, as in PKDOT's code, the corrugator in part B.
        faces: folder in the source that holds cropped and aligned frames, <faces>/<subject>/<sample>/00001.jpg;
            default: the middle of the official videos.
        frames: number of frames in a clip.
        stride: step from one frame of a clip to the next, in frames of the video.
        size: height and width of a clip in pixels.
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
            raise ConfigError(f"part A of BioVid has no EMG of the {self.emg}; it has EMG of the trapezius only")

    @property
    def muscle(self) -> str:
        """Column of the EMG."""
        return "emg_" + (self.emg or ("trapezius" if self.part == "A" else "corrugator"))

    def find_missing(self, source: Path) -> list[str]:
        try:
            samples = list(self._iter_samples(source, RowErrors(skip=True)))
        except DataError as error:
            return [str(error)]
        missing = []
        for sample in samples:
            missing += [f"{path}" for path in (sample.video, sample.signals) if not path.exists()]
        return missing

    def read(self, source: Path, errors: RowErrors) -> Contents:
        modalities = self._build_modalities(source)
        rows = []
        for sample in self._iter_samples(source, errors):
            row = {
                "id": sample.name,
                "target": sample.label,
                "subject": sample.subject,
                "video_file_name": sample.video,
            }
            # The frames of the repacked layout are cut to these seconds already.
            if isinstance(modalities["video"], Video) or self.faces:
                row |= {"video_start": FIRST, "video_end": LAST}
            # One file holds all signals of a stimulus.
            for m in ("eda", "ecg", "emg"):
                row |= {f"{m}_file_name": sample.signals}
            # EDA and ECG change slowly and keep all 5.5 s; the spectrogram of the EMG covers the seconds of the video.
            rows.append(row | {"emg_start": FIRST})
        facts = DatasetInfo(
            name=f"biovid-{self.part.lower()}",
            group="subject",
            task="classification",
            classes=self._classes,
            available=("video",),
            # PKDOT's teacher reads EDA in part A and EMG in part B.
            privileged=("eda",) if self.part == "A" else ("emg",),
        )
        return Contents(rows, modalities, facts)

    @property
    def _classes(self) -> tuple[str, ...]:
        return (CLASSES[0], CLASSES[-1]) if self.classes == "binary" else CLASSES

    def _build_modalities(self, source: Path) -> dict[str, RecordingType]:
        size = (self.size, self.size)
        video: RecordingType
        if self.faces or _find_table(source) is None:
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

    def _iter_samples(self, source: Path, errors: RowErrors) -> Iterator[Sample]:
        """The samples of the chosen classes."""
        table = _find_table(source)
        if table is None:
            yield from self._iter_repacked(source)
            return
        signals = source / f"biosignals_{self.signals}"
        for folder in (signals, source / (self.faces or "video")):
            if not folder.is_dir():
                raise DataError(f"{folder}: the folder does not exist")
        for row, cells in read_cells(table, ("subject_name", "class_id", "sample_name"), "\t"):
            subject, name, code = cells["subject_name"], cells["sample_name"], cells["class_id"]
            if code not in ("0", "1", "2", "3", "4"):
                errors.add(name, f"{table}: row {row}, class_id is {code!r}; expected 0 (BL1) to 4 (PA4)")
                continue
            # Sample names repeat the class (…-PA4-063), so a table that was sorted or joined wrongly shows.
            label = CLASSES[int(code)]
            if f"-{label}-" not in name:
                errors.add(name, f"{table}: row {row}: class_id {code} is {label}, but the sample is called {name!r}")
                continue
            if label in self._classes:
                if self.faces:
                    video = source / self.faces / subject / name
                else:
                    video = source / "video" / subject / f"{name}.mp4"
                path = signals / subject / f"{name}_bio.csv"
                yield Sample(name=name, subject=subject, label=label, video=video, signals=path)

    def _iter_repacked(self, source: Path) -> Iterator[Sample]:
        """The samples of the repacked layout: <class>/<clip>/img_00001.jpg, physio/<class>/<clip>_bio.csv."""
        folders = {label: source / str(i) for i, label in enumerate(CLASSES) if label in self._classes}
        for folder in (*folders.values(), source / "physio"):
            if not folder.is_dir():
                raise DataError(
                    f"{folder}: the folder does not exist; expected samples.csv (official layout), or 0/ … 4/ and "
                    "physio/ (repacked layout)"
                )
        for label, folder in folders.items():
            for clip in sorted(p for p in folder.iterdir() if p.is_dir()):
                path = source / "physio" / folder.name / f"{clip.name}_bio.csv"
                # Clips keep the official sample name, <subject>-<class>-<number>; no table names the subject.
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
                frames = make_noise_frames(generator, 6, level / 8).repeat(23, 0)
                write_video(out / "video" / subject / f"{name}.mp4", frames, VIDEO_RATE)
                for kind in ("filtered", "raw"):
                    write_text(
                        out / f"biosignals_{kind}" / subject / f"{name}_bio.csv", _synthetic_signals(generator, level)
                    )
        write_text(out / "samples.csv", "\n".join(lines) + "\n")


def _synthetic_signals(generator: np.random.Generator, level: int) -> str:
    """The text of a file of biosignals: skin conductance and muscle activity rise with the level."""
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


def _find_table(source: Path) -> Path | None:
    """samples.csv, which some archives hold in the folder starting_point; None in the repacked layout."""
    return next((source / name for name in TABLES if (source / name).is_file()), None)
