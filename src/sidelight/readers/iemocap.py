"""IEMOCAP: utterances of acted and improvised dialogues with emotion, in video, speech and words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from zlib import crc32

import numpy as np

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import DataError
from sidelight.readers.base import Contents, Faults, Reader, Row
from sidelight.readers.synthetic import noise_frames, write_text, write_video, write_wav
from sidelight.readers.tables import read_lines
from sidelight.recordings.recording_type import RecordingType
from sidelight.recordings.registry import Audio, Text, Video

SESSIONS = tuple(f"Session{i}" for i in range(1, 6))
CLASSES = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"}
"""Codes that are used; excitement is merged into happiness, other codes (fru, xxx, …) are left out: 5531 utterances."""
LABEL = re.compile(r"\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]\s+(\S+)\s+(\w+)\s+\[.*\]\s*")
SPOKEN = re.compile(r"(\S+)\s+\[[\d.\s-]+\]:?\s*(.*)")
RATE = 16000
VOCABULARY = 30000


@dataclass(frozen=True)
class Utterance:
    """One labelled utterance: its times in the dialogue in seconds."""

    name: str
    session: Path
    dialogue: str
    start: float
    end: float
    label: str


@dataclass(frozen=True, kw_only=True)
class IEMOCAP(Reader):
    """Session{1-5}/dialog/{EmoEvaluation,transcriptions,avi/DivX} and Session{1-5}/sentences/wav; four classes.

    The group is the session, so that leave-one-group-out leaves one session out, and no speaker is on two sides. Videos
    show both speakers side by side and are used whole.

    Args:
        tokenizer: local folder of a `transformers` tokenizer for the words; left out, every word becomes a number by
            its CRC-32 (1 to 30000), which needs no vocabulary and so knows nothing of test rows.
        seconds: of speech in a row: the middle of longer utterances, zeros behind shorter ones.
        frames: of a clip.
        stride: frames from one of them to the next.
        size: height and width of a clip.
    """

    name: ClassVar[str] = "iemocap"
    summary: ClassVar[str] = "IEMOCAP: 5531 utterances of 10 actors in 5 sessions, 4 emotions; video, speech and words"
    obtain: ClassVar[str] = (
        "Free for research after a signed licence: https://sail.usc.edu/iemocap/. Unpack IEMOCAP_full_release; SOURCE "
        "is the folder with Session1 to Session5."
    )
    citation: ClassVar[str] = (
        "Busso et al.: IEMOCAP: interactive emotional dyadic motion capture database. Language Resources and "
        "Evaluation 42 (2008)."
    )
    licence: ClassVar[str] = "research only, by licence of the University of Southern California"

    tokenizer: str = ""
    seconds: float = 6.0
    frames: int = 16
    stride: int = 4
    size: int = 112

    def missing(self, source: Path) -> list[str]:
        lost = [f"{_emotions(source / s)}: files of labels" for s in SESSIONS if not _files(source / s)]
        faults = Faults(skip=True)
        for u in self._utterances(source, faults):
            lost += [f"{p}" for p in (_wav(u), _video(u), _transcript(u)) if not p.is_file()]
        return list(dict.fromkeys([*lost, *(message for _, message in faults.found)]))

    def read(self, source: Path, faults: Faults) -> Contents:
        words, rows = dict[str, str](), list[Row]()
        spoken: dict[Path, dict[str, str]] = {}
        for u in self._utterances(source, faults):
            with faults.of(u.name):
                path = _transcript(u)
                if path not in spoken:
                    spoken[path] = read_transcript(path)
                if not spoken[path].get(u.name):
                    raise DataError(f"{path}: there are no words of {u.name}")
                words[u.name] = spoken[path][u.name]
                rows.append(self._row(u))

        def files(folder: Path) -> None:
            for row in rows:
                name = str(row["id"])
                if self.tokenizer:
                    write_text(folder / str(row["text_file_name"]), words[name])
                else:
                    (folder / "text").mkdir(exist_ok=True)
                    np.save(folder / str(row["text_file_name"]), word_numbers(words[name]))

        kinds: dict[str, RecordingType] = {
            "video": Video(frames=self.frames, stride=self.stride, size=(self.size, self.size)),
            "audio": Audio(rate=RATE, seconds=self.seconds),
            "text": Text(tokenizer=self.tokenizer),
        }
        facts = DatasetInfo(
            name="iemocap", group="session", task="classification", classes=tuple(sorted(set(CLASSES.values()))),
            available=("video",), privileged=("audio", "text"),
        )  # fmt: skip
        return Contents(rows, kinds, facts, files)

    def _row(self, u: Utterance) -> Row:
        return {
            "id": u.name,
            "target": u.label,
            "session": u.session.name,
            "speaker": u.name[:5] + u.name.rpartition("_")[2][0],
            "video_file_name": _video(u),
            "video_start": u.start,
            "video_end": u.end,
            "audio_file_name": _wav(u),
            "text_file_name": f"text/{u.name}." + ("txt" if self.tokenizer else "npy"),
        }

    def _utterances(self, source: Path, faults: Faults) -> Iterator[Utterance]:
        """The labelled utterances of the four classes."""
        for session in (source / s for s in SESSIONS):
            for path in _files(session):
                with faults.of(path.stem):
                    yield from list(_labels(path, session, faults))

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        codes = ("ang", "hap", "exc", "neu", "sad", "fru", "xxx")
        for i, session in enumerate(SESSIONS, 1):
            dialogue = f"Ses0{i}F_impro01"
            base = out / session
            labels, spoken = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
            for j, code in enumerate(codes):
                name, start, end = f"{dialogue}_{'FM'[j % 2]}{j:03d}", 0.8 * j, 0.8 * j + 0.72
                labels += [
                    f"[{start:.4f} - {end:.4f}]\t{name}\t{code}\t[2.5000, 2.5000, 2.5000]",
                    "C-E1:\tOther;\t()",
                    "",
                ]
                spoken.append(
                    f"{name} [{start:.4f}-{end:.4f}]: I am {CLASSES.get(code, code)} {'and so on ' * (j % 3)}."
                )
                tone = 0.3 * np.sin(np.arange(int(0.72 * RATE)) * (0.05 + 0.02 * j))
                sound = tone + generator.uniform(-0.1, 0.1, len(tone))
                write_wav(base / "sentences" / "wav" / dialogue / f"{name}.wav", sound, RATE)
            write_text(base / "dialog" / "EmoEvaluation" / f"{dialogue}.txt", "\n".join(labels) + "\n")
            write_text(base / "dialog" / "transcriptions" / f"{dialogue}.txt", "\n".join(spoken) + "\n")
            frames = np.concatenate([noise_frames(generator, 2, j / 4 - 1).repeat(12, 0) for j in range(len(codes))])
            write_video(base / "dialog" / "avi" / "DivX" / f"{dialogue}.avi", frames, 30)


def _labels(path: Path, session: Path, faults: Faults) -> Iterator[Utterance]:
    """Those of one file of labels."""
    found = 0
    for i, line in enumerate(read_lines(path), 1):
        if not line.startswith("["):
            continue
        found += 1
        read = LABEL.fullmatch(line)
        if read is None:
            faults.add(
                f"{path.stem}, row {i}", f"{path}: row {i} is {line!r}; expected [start - end] name emotion [v, …]"
            )
            continue
        start, end, name, code = float(read[1]), float(read[2]), read[3], read[4]
        if end <= start:
            faults.add(name, f"{path}: row {i}: {name} ends at {end:g} s, and starts at {start:g} s")
        elif code in CLASSES:
            yield Utterance(name, session, path.stem, start, end, CLASSES[code])
    if not found:
        raise DataError(f"{path}: there are no lines [start - end] name emotion [v, …]; is it truncated?")


def read_transcript(path: Path) -> dict[str, str]:
    """Utterance -> its words."""
    return {m[1]: m[2].strip() for line in read_lines(path, "latin-1") if (m := SPOKEN.fullmatch(line.strip()))}


def word_numbers(text: str) -> np.ndarray:
    """(T,) 1 to 30000: CRC-32 of every word and mark, in lower case."""
    words = re.findall(r"[^\W_]+(?:'\w+)?|[^\w\s]", text.lower()) or [text]
    return np.array([1 + crc32(word.encode()) % VOCABULARY for word in words], np.int64)


def _emotions(session: Path) -> Path:
    return session / "dialog" / "EmoEvaluation"


def _files(session: Path) -> list[Path]:
    return sorted(_emotions(session).glob("Ses*.txt"))


def _wav(u: Utterance) -> Path:
    return u.session / "sentences" / "wav" / u.dialogue / f"{u.name}.wav"


def _video(u: Utterance) -> Path:
    return u.session / "dialog" / "avi" / "DivX" / f"{u.dialogue}.avi"


def _transcript(u: Utterance) -> Path:
    return u.session / "dialog" / "transcriptions" / f"{u.dialogue}.txt"
