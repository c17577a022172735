"""RECOLA: people who work together over a video call, with arousal and valence rated over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import ConfigError, DataError
from sidelight.readers.base import Contents, Reader, Row, RowErrors
from sidelight.readers.synthetic import make_noise_frames, write_text, write_video, write_wav
from sidelight.readers.tables import parse_number, read_cells
from sidelight.recordings.base import RecordingType
from sidelight.recordings.registry import Audio, Signal, Video
from sidelight.signals.recording import check_times
from sidelight.signals.spectrogram import PRESETS
from sidelight.signals.windows import LabelTrack, label_windows

TARGETS = ("arousal", "valence")
RATINGS = Path("RECOLA-Annotation", "emotional_behaviour")
VIDEO, AUDIO, SIGNALS = "RECOLA-Video-recordings", "RECOLA-Audio-recordings", "RECOLA-Biosignals-recordings"
# Three men and three women rated every recording, once every 40 ms (Ringeval et al. 2013).
RATERS = ("FM1", "FM2", "FM3", "FF1", "FF2", "FF3")
LABEL_RATE = 25.0


@dataclass(frozen=True, kw_only=True)
class Recola(Reader):
    """Reads RECOLA-{Video,Audio,Biosignals}-recordings/P16.{mp4,wav,csv} and RECOLA-Annotation/emotional_behaviour.

    The CSV files are separated by semicolons: ratings `time;FM1;…;FF3` at 25 Hz, biosignals `time;EDA;ECG`. A row is a
    window of one person's recording; its target is the mean over time and raters.

    Args:
        seconds: length of a window.
        hop: seconds from the start of one window to the start of the next.
        delay: reaction time of the raters in seconds.
        rate: sampling rate of the biosignals in Hz.
        frames: number of frames in a clip.
        stride: step from one frame of a clip to the next, in frames of the video.
        size: height and width of a clip in pixels.
    """

    name: ClassVar[str] = "recola"
    summary: ClassVar[str] = "RECOLA: 5 minutes of video, speech, EDA and ECG of 23 people; arousal and valence"
    obtain: ClassVar[str] = (
        "Free for research after a signed licence: https://diuf.unifr.ch/main/diva/recola/. Unpack "
        "RECOLA-Annotation and the recordings into one folder."
    )
    citation: ClassVar[str] = (
        "Ringeval et al.: Introducing the RECOLA multimodal corpus of remote collaborative and affective interactions. "
        "EmoSPACE, FG 2013."
    )
    licence: ClassVar[str] = "research only, by licence of the University of Fribourg"

    seconds: float = 3.0
    hop: float = 3.0
    delay: float = 2.8
    rate: float = 1000.0
    frames: int = 16
    stride: int = 4
    size: int = 112

    def __post_init__(self) -> None:
        if min(self.seconds, self.hop) < 1 / LABEL_RATE or self.delay < 0 or self.rate <= 0:
            raise ConfigError(
                f"recola: seconds={self.seconds:g}, hop={self.hop:g}, delay={self.delay:g}, rate={self.rate:g}; "
                "expected seconds and hop of at least 0.04, delay of at least 0, rate above 0"
            )
        if self.seconds < PRESETS["audio"].seconds:
            raise ConfigError(
                f"recola: seconds={self.seconds:g}; expected at least 1.07, which the spectrogram of the sound covers"
            )

    def find_missing(self, source: Path) -> list[str]:
        people = self._list_people(source)
        if not people:
            return [f"{source / RATINGS / 'arousal'}: no .csv files of ratings"]
        missing = []
        for who in people:
            files = (*self._rating_files(source, who), *_recording_files(source, who))
            missing += [str(path) for path in files if not path.is_file()]
        return missing

    def read(self, source: Path, errors: RowErrors) -> Contents:
        rows: list[Row] = []
        for who in self._list_people(source):
            with errors.catch(who):
                rows += self._build_windows(source, who)
        clip = Video(frames=self.frames, stride=self.stride, size=(self.size, self.size))
        kinds: dict[str, RecordingType] = {
            "video": clip,
            "audio": Audio(
                rate=0, resample_to=PRESETS["audio"].rate, seconds=PRESETS["audio"].seconds, spectrogram="audio"
            ),
            "eda": self._signal("EDA", "uS"),
            "ecg": self._signal("ECG", "mV"),
        }
        facts = DatasetInfo(
            name="recola", target=TARGETS, group="person", task="regression",
            available=("video",), privileged=("audio", "eda", "ecg"),
        )  # fmt: skip
        return Contents(rows, kinds, facts)

    def _signal(self, column: str, unit: str) -> Signal:
        return Signal(columns=(column,), rate=self.rate, unit=unit, time="time", separator=";", seconds=self.seconds)

    def _build_windows(self, source: Path, who: str) -> list[Row]:
        """The windows of one person."""
        ratings = [read_ratings(path) for path in self._rating_files(source, who)]
        # The two ratings of a recording may end some samples apart.
        steps = min(len(r) for r in ratings)
        values = np.stack([r[:steps] for r in ratings], 1)
        # Raters react late: what they mark at time t they saw `delay` seconds earlier, so the track begins before 0.
        track = LabelTrack(values, LABEL_RATE, -self.delay, who)
        # 1e-6 s keeps a last window that ends exactly with the ratings, whatever rounding does.
        starts = np.arange(0, steps / LABEL_RATE - self.delay - self.seconds + 1e-6, self.hop)
        if not len(starts):
            raise DataError(f"{who}: {steps / LABEL_RATE:g} s are rated; expected more than a window and the delay")

        means, labelled, _ = label_windows(track, starts, self.seconds, "mean")
        video, audio, signals = _recording_files(source, who)
        files = {"video": video, "audio": audio, "eda": signals, "ecg": signals}
        rows = []
        for start, pair in zip(starts[labelled].tolist(), means[labelled].tolist()):
            row: Row = {"id": f"{who}-{start:06.2f}", "person": who, **dict(zip(TARGETS, pair))}
            for m, path in files.items():
                row |= {f"{m}_file_name": path, f"{m}_start": start, f"{m}_end": start + self.seconds}
            rows.append(row)
        return rows

    def _list_people(self, source: Path) -> list[str]:
        """The people with ratings; recordings without ratings are of no use."""
        return sorted({path.stem for target in TARGETS for path in (source / RATINGS / target).glob("*.csv")})

    def _rating_files(self, source: Path, who: str) -> list[Path]:
        return [source / RATINGS / target / f"{who}.csv" for target in TARGETS]

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        for i in range(5):
            who, seconds = f"P{16 + i}", 12
            t = np.arange(seconds * 25) / 25
            for k, target in enumerate(TARGETS):
                x = 0.6 * np.sin(t / (2 + k) + i)[:, None] + generator.uniform(-0.1, 0.1, (len(t), len(RATERS)))
                write_text(out / RATINGS / target / f"{who}.csv", _format_csv(("time", *RATERS), t, x))
            frames = make_noise_frames(generator, seconds, 0.5).repeat(25, 0)
            write_video(out / VIDEO / f"{who}.mp4", frames, 25)
            write_wav(out / AUDIO / f"{who}.wav", generator.uniform(-0.3, 0.3, seconds * 16000), 16000)
            t = np.arange(seconds * 1000) / 1000
            x = np.stack([3 + np.sin(t / 3), np.sin(7 * t) ** 9], 1) + generator.normal(0, 0.01, (len(t), 2))
            write_text(out / SIGNALS / f"{who}.csv", _format_csv(("time", "EDA", "ECG"), t, x))


def read_ratings(path: Path) -> NDArray[np.float64]:
    """Read the ratings of one person: (T,) mean over the raters, at 25 Hz; raises DataError naming file and row."""
    table = read_cells(path, ("time",), ";")
    raters = [name for name in table[0][1] if name != "time"]
    if not raters:
        raise DataError(f"{path}: there are no columns of raters beside time")
    values = np.array(
        [[parse_number(cells[c], f"{path}: row {i}, {c}") for c in ("time", *raters)] for i, cells in table]
    )
    check_times(values[:, 0], LABEL_RATE, str(path), first_row=2)
    return np.asarray(values[:, 1:].mean(1))


def _recording_files(source: Path, who: str) -> tuple[Path, Path, Path]:
    return source / VIDEO / f"{who}.mp4", source / AUDIO / f"{who}.wav", source / SIGNALS / f"{who}.csv"


def _format_csv(header: Sequence[str], t: NDArray, x: NDArray) -> str:
    line = "%.3f" + ";%.4f" * x.shape[1] + "\n"
    cells = np.column_stack([t, x]).ravel().tolist()
    body: str = line * len(t) % tuple(cells)
    return ";".join(header) + "\n" + body
