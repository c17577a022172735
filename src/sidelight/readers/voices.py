"""Made voices: pulses through the formants of vowels. What is said is random; how it is said is the class."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidelight.readers.synthetic import write_text, write_wav

RATE = 16000
VOWELS = np.array([[730, 1090, 2440], [270, 2290, 3010], [530, 1840, 2480], [570, 840, 2410], [300, 870, 2240]])
"""Formants of five vowels in Hz."""
BANDWIDTHS = (80, 100, 140)


@dataclass(frozen=True)
class Manner:
    """How a class is said.

    Args:
        syllables: a second.
        rise: change of the pitch from begin to end, as a share.
        swing: of the pitch around that line, as a share.
        tilt: of the spectrum; nearer to 1 is darker.
    """

    syllables: float
    rise: float
    swing: float
    tilt: float


MANNERS = {
    "calm": Manner(2.6, -0.05, 0.04, 0.93),
    "cross": Manner(4.0, 0.05, 0.08, 0.80),
    "glad": Manner(4.2, 0.20, 0.14, 0.90),
    "sad": Manner(2.2, -0.15, 0.03, 0.96),
}


def make_voice(
    generator: np.random.Generator, manner: Manner, pitch: float, tract: float, noise: float, seconds: float
) -> NDArray[np.float32]:
    """One clip.

    Args:
        generator: draws vowels, loudness, noise and how well the manner is kept.
        manner: the class.
        pitch: of the person, in Hz.
        tract: formants of the person, as a multiple of `VOWELS`.
        noise: ratio of signal to noise in dB.
        seconds: length of the clip.

    Returns:
        (samples,) within ±1, at 16 kHz.
    """
    from scipy.signal import lfilter

    n = round(seconds * RATE)
    t = np.arange(n) / RATE
    syllables = manner.syllables * generator.uniform(0.85, 1.15)
    rise = manner.rise + generator.normal(0, 0.06)
    swing = manner.swing * generator.uniform(0.6, 1.4)
    tilt = min(manner.tilt + generator.normal(0, 0.015), 0.985)
    line = 1 + rise * (t / seconds - 0.5) + swing * np.sin(np.pi * syllables * t + generator.uniform(0, 6))
    phase = np.floor(np.cumsum(pitch * line) / RATE)
    pulses = np.diff(phase, prepend=0) + generator.normal(0, 0.01, n)
    source = lfilter([1], [1, -tilt], pulses)

    sound = np.zeros(n)
    edges = np.linspace(0, n, max(2, int(seconds * syllables)) + 1).astype(int)
    for first, last in pairwise(edges.tolist()):
        part = source[first:last]
        formants = VOWELS[generator.integers(len(VOWELS))] * tract * generator.uniform(0.95, 1.05, 3)
        for formant, width in zip(formants, BANDWIDTHS):
            r = np.exp(-np.pi * width / RATE)
            part = lfilter([1 - r], [1, -2 * r * np.cos(2 * np.pi * formant / RATE), r * r], part)
        steps = np.arange(last - first)
        fade = np.minimum(1, np.minimum(steps, steps[::-1]) / (0.03 * RATE))
        sound[first:last] = part * fade * generator.uniform(0.5, 1)
    sound -= sound.mean()
    sound /= sound.std()
    room = lfilter([1], [1, -0.7], generator.normal(size=n))
    sound += room / room.std() * 10 ** (-noise / 20)
    loudness = 10 ** (-generator.uniform(2, 18) / 20)
    return np.asarray(sound / np.abs(sound).max() * loudness, np.float32)


def write_voices(
    out: Path, seed: int = 0, people: int = 8, clips: int = 4, seconds: tuple[float, float] = (0.5, 0.9)
) -> None:
    """Write audio/<id>.wav, face/<id>.csv and labels.csv.

    The sound holds the class, and so do two of the three columns of the face, at 30 frames per second.

    Args:
        out: the folder.
        seed: the same seed gives the same files.
        people: number of people.
        clips: clips of each person; classes take turns.
        seconds: shortest and longest clip.
    """
    generator = np.random.default_rng(seed)
    names = list(MANNERS)
    lines = ["id,subject,emotion"]
    for p in range(people):
        pitch, tract, noise = generator.uniform(95, 230), generator.uniform(0.9, 1.2), generator.uniform(3, 15)
        for k in range(clips):
            emotion, row = names[(p + k) % len(names)], f"p{p:02d}-{k}"
            length = generator.uniform(*seconds)
            voice = make_voice(generator, MANNERS[emotion], pitch, tract, noise, length)
            write_wav(out / "audio" / f"{row}.wav", voice, RATE)
            write_text(out / "face" / f"{row}.csv", _make_face(generator, names.index(emotion), length))
            lines.append(f"{row},p{p:02d},{emotion}")
    write_text(out / "labels.csv", "\n".join(lines) + "\n")


def _make_face(generator: np.random.Generator, emotion: int, seconds: float) -> str:
    """A table as OpenFace writes it, with three of its columns."""
    frames = max(8, round(seconds * 30))
    strength = np.array([1.0 + (emotion in (1, 3)), 1.0 + (emotion in (1, 2)), 1.0])
    values = np.abs(strength + generator.normal(0, 0.5, 3) + generator.normal(0, 0.3, (frames, 3)))
    rows = ["frame, timestamp, confidence, success, AU04_r, AU12_r, AU25_r"]
    for i, row in enumerate(values):
        rows.append(f"{i + 1}, {i / 30:.3f}, 0.98, 1, " + ", ".join(f"{v:.2f}" for v in row))
    return "\n".join(rows) + "\n"
