"""Rates and times that are no finite numbers, or of the wrong sign, end in one sentence that names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sidelight.errors import ConfigError, DataError
from sidelight.recordings.base import Segment
from sidelight.recordings.registry import Audio, Video
from sidelight.signals import Recording, Spectrogram, check_times
from sidelight.signals.filters import bandpass, envelope
from sidelight.video import clip_frames

FILE = Path("a.mp4")
NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (NAN, None),
        (INF, None),
        (-1.0, None),
        (0.0, NAN),
        (None, INF),
        (2.0, 1.0),
        (1.0, 1.0),
        (None, -1.0),
        (None, 0.0),
    ],
)
def test_parts_of_recordings(start, end):
    with pytest.raises(DataError, match=r"a.mp4: a segment from .* expected 0 <= start < end, in seconds"):
        Segment(FILE, start, end)


ODD = {
    "a rate of 0": (lambda: check_times([0, 1, 2], 0, "f"), "f: a declared sampling rate of 0 Hz"),
    "a rate of nan": (lambda: check_times([0, 1, 2], NAN, "f"), "f: a declared sampling rate of nan Hz"),
    "a tolerance": (lambda: check_times([0, 1, 2], 7, "f", tolerance=NAN), "f: tolerance nan, largest_gap 1.5"),
    "a gap": (lambda: check_times([0, 1, 2], 1, "f", largest_gap=0), "f: tolerance 0.01, largest_gap 0"),
    "times as text": (lambda: check_times(["a", "b"], 1, "f"), "f: timestamps of <U1"),
    "times in a table": (lambda: check_times([[0, 1], [2, 3]], 1, "f"), r"f: timestamps of int64 and shape \(2, 2\)"),
    "a recording without a rate": (lambda: Recording([1.0], None), "sampling rate None Hz"),  # type: ignore[arg-type]
    "a recording's rate as text": (lambda: Recording([1.0], "4"), "sampling rate 4 Hz"),  # type: ignore[arg-type]
    "a recording that starts never": (lambda: Recording([1.0], 4, start=INF), "start inf s"),
    "a filter at 0 Hz": (lambda: bandpass(np.ones(300), 0, 1, 2), "at 0 Hz; expected a rate above 0"),
    "a filter at inf Hz": (lambda: bandpass(np.ones(300), INF, 1, 2), "at inf Hz; expected a rate above 0"),
    "a filter of order 0": (lambda: bandpass(np.ones(300), 99, 1, 2, order=0), "a filter of order 0"),
    "a filter of text": (lambda: bandpass(np.array(["a"] * 300), 99, 1, 2), "to be filtered is <U1; expected numbers"),
    "an envelope at nan Hz": (lambda: envelope(np.ones(300), NAN), "at nan Hz; expected a rate above 0"),
    "a spectrogram at inf Hz": (lambda: Spectrogram(INF, 16, 8), "a spectrogram with rate = inf"),
    "rows of inf seconds": (lambda: Audio(rate=8, seconds=INF), "kind 'audio': seconds is inf"),
    "rows at inf Hz": (lambda: Audio(rate=INF), "kind 'audio': rate is inf"),
    "clips at nan frames a second": (lambda: Video(rate=NAN), "kind 'video': rate is nan"),
    "a clip that lies nowhere": (lambda: clip_frames(9, 3, at=NAN), "a clip start of at=nan"),
    "a clip that starts nowhere": (lambda: clip_frames(9, 3, start=NAN), "a clip that starts at frame nan of 9"),  # type: ignore[arg-type]
    "half a frame": (lambda: clip_frames(9, 1.5), "a clip of 1.5 frames"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", ODD)
def test_odd_numbers(name):
    call, says = ODD[name]
    with pytest.raises((ConfigError, DataError), match=says):
        call()
