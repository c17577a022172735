"""IEMOCAP: utterances of acted and improvised emotional dialogues, in video, speech and words."""

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
from sidelight.readers.base import Contents, Reader, Row, RowErrors
from sidelight.readers.synthetic import make_noise_frames, write_text, write_video, write_wav
from sidelight.readers.tables import read_lines
from sidelight.recordings.base import RecordingType
from sidelight.recordings.registry import Audio, Text, Video

SESSIONS = tuple(f"Session{i}" for i in range(1, 6))
# The usual choice in the literature, 5531 utterances: excitement counts as happiness, and other codes (fru, xxx, …) are
# left out.
CLASSES = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"}
LABEL = re.compile(r"\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]\s+(\S+)\s+(\w+)\s+\[.*\]\s*")
SPOKEN = re.compile(r"(\S+)\s+\[[\d.\s-]+\]:?\s*(.*)")
RATE = 16000
VOCABULARY = 30000


@dataclass(frozen=True)
class Utterance:
    """One labelled utterance, from `start` to `end` in seconds of its dialogue."""

    name: str
    session: Path
    dialogue: str
    start: float
    end: float
    label: str


@dataclass(frozen=True, kw_only=True)
class IEMOCAP(Reader):
    """Reads Session{1-5}/dialog/{EmoEvaluation,transcriptions,avi/DivX} and Session{1-5}/sentences/wav; four classes.

    The group is the session, so leave-one-group-out leaves one session out, and no speaker is both trained on and
    tested on. The videos show both speakers side by side; clips show the whole picture.

    Args:
        tokenizer: local folder of a `transformers` tokenizer for the words; default: every word becomes its CRC-32
            (1 to 30000), which needs no vocabulary and so cannot leak test rows.
        seconds: length of the speech in a row: longer utterances are cut to their middle, shorter ones are padded with
            zeros.
        frames: number of frames in a clip.
        stride: step from one frame of a clip to the next, in frames of the video.
        size: height and width of a clip in pixels.
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

    def find_missing(self, source: Path) -> list[str]:
        missing = [f"{_label_folder(source / s)}: files of labels" for s in SESSIONS if not _label_files(source / s)]
        errors = RowErrors(skip=True)
        for u in self._iter_utterances(source, errors):
            missing += [f"{p}" for p in (_sound_file(u), _video_file(u), _transcript_file(u)) if not p.is_file()]
        missing += [message for _, message in errors.found]
        # The utterances of a dialogue share its video and its transcript; each is listed once.
        return list(dict.fromkeys(missing))

    def read(self, source: Path, errors: RowErrors) -> Contents:
        rows: list[Row] = []
        words: dict[str, str] = {}  # by utterance
        transcripts: dict[Path, dict[str, str]] = {}  # each file is read once for all of its utterances
        for u in self._iter_utterances(source, errors):
            with errors.catch(u.name):
                path = _transcript_file(u)
                if path not in transcripts:
                    transcripts[path] = read_transcript(path)
                if not transcripts[path].get(u.name):
                    raise DataError(f"{path}: there are no words of {u.name}")
                words[u.name] = transcripts[path][u.name]
                rows.append(self._build_row(u))

        # The data set has one transcript per dialogue; rows need one text file each.
        def write_words(folder: Path) -> None:
            for row in rows:
                name = str(row["id"])
                if self.tokenizer:
                    write_text(folder / str(row["text_file_name"]), words[name])
                else:
                    (folder / "text").mkdir(exist_ok=True)
                    np.save(folder / str(row["text_file_name"]), hash_words(words[name]))

        kinds: dict[str, RecordingType] = {
            "video": Video(frames=self.frames, stride=self.stride, size=(self.size, self.size)),
            "audio": Audio(rate=RATE, seconds=self.seconds),
            "text": Text(tokenizer=self.tokenizer),
        }
        facts = DatasetInfo(
            name="iemocap", group="session", task="classification", classes=tuple(sorted(set(CLASSES.values()))),
            available=("video",), privileged=("audio", "text"),
        )  # fmt: skip
        return Contents(rows, kinds, facts, write_words)

    def _build_row(self, u: Utterance) -> Row:
        return {
            "id": u.name,
            "target": u.label,
            "session": u.session.name,
            # In Ses01F_impro01_M003 the last letter says who speaks. Each session has one woman (F) and one man (M), so
            # session and letter name the person.
            "speaker": u.name[:5] + u.name.rpartition("_")[2][0],
            "video_file_name": _video_file(u),
            "video_start": u.start,
            "video_end": u.end,
            "audio_file_name": _sound_file(u),
            "text_file_name": f"text/{u.name}." + ("txt" if self.tokenizer else "npy"),
        }

    def _iter_utterances(self, source: Path, errors: RowErrors) -> Iterator[Utterance]:
        """The labelled utterances of the four classes."""
        for session in (source / s for s in SESSIONS):
            for path in _label_files(session):
                with errors.catch(path.stem):
                    # As a list: an error of the file is caught here, not where its utterances are consumed.
                    yield from list(_read_labels(path, session, errors))

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
            frames = np.concatenate(
                [make_noise_frames(generator, 2, j / 4 - 1).repeat(12, 0) for j in range(len(codes))]
            )
            write_video(base / "dialog" / "avi" / "DivX" / f"{dialogue}.avi", frames, 30)


def _read_labels(path: Path, session: Path, errors: RowErrors) -> Iterator[Utterance]:
    """The utterances of one label file; `errors` collects malformed lines."""
    found = 0
    for i, line in enumerate(read_lines(path), 1):
        # Below each utterance stand the labels of the single raters (C-E1: …) and self-reports; the line that begins
        # with its times holds the label on which they agree.
        if not line.startswith("["):
            continue
        found += 1
        match = LABEL.fullmatch(line)
        if match is None:
            message = f"{path}: row {i} is {line!r}; expected [start - end] name emotion [v, …]"
            errors.add(f"{path.stem}, row {i}", message)
            continue
        start, end, name, code = float(match[1]), float(match[2]), match[3], match[4]
        if end <= start:
            errors.add(name, f"{path}: row {i}: {name} ends at {end:g} s, and starts at {start:g} s")
        elif code in CLASSES:
            yield Utterance(name, session, path.stem, start, end, CLASSES[code])
    if not found:
        raise DataError(f"{path}: there are no lines [start - end] name emotion [v, …]; is it truncated?")


def read_transcript(path: Path) -> dict[str, str]:
    """Read the transcript of a dialogue: utterance -> its words."""
    words: dict[str, str] = {}
    # Latin-1 reads every byte, so a stray character outside ASCII loses no dialogue.
    for line in read_lines(path, "latin-1"):
        match = SPOKEN.fullmatch(line.strip())
        if match:
            words[match[1]] = match[2].strip()
    return words


def hash_words(text: str) -> np.ndarray:
    """Number words without a vocabulary: (T,) CRC-32 of every word and punctuation mark in lower case, 1 to 30000."""
    words = re.findall(r"[^\W_]+(?:'\w+)?|[^\w\s]", text.lower()) or [text]
    # 0 is left for padding.
    return np.array([1 + crc32(word.encode()) % VOCABULARY for word in words], np.int64)


def _label_folder(session: Path) -> Path:
    return session / "dialog" / "EmoEvaluation"


def _label_files(session: Path) -> list[Path]:
    return sorted(_label_folder(session).glob("Ses*.txt"))


def _sound_file(u: Utterance) -> Path:
    return u.session / "sentences" / "wav" / u.dialogue / f"{u.name}.wav"


def _video_file(u: Utterance) -> Path:
    return u.session / "dialog" / "avi" / "DivX" / f"{u.dialogue}.avi"


def _transcript_file(u: Utterance) -> Path:
    return u.session / "dialog" / "transcriptions" / f"{u.dialogue}.txt"
