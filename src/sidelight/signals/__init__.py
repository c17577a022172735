"""Signals before they become rows: recordings with rate and unit, windows, resampling, spectrograms, biosignals."""

from __future__ import annotations

from sidelight.signals.audio import read_audio
from sidelight.signals.csv import read_csv
from sidelight.signals.events import Events
from sidelight.signals.recording import Recording, check_times
from sidelight.signals.resample import resample
from sidelight.signals.spectrogram import PRESETS, Spectrogram, get_preset
from sidelight.signals.windows import LabelTrack, Windows, cut, label_windows

__all__ = [
    "PRESETS",
    "Events",
    "LabelTrack",
    "Recording",
    "Spectrogram",
    "Windows",
    "check_times",
    "cut",
    "get_preset",
    "label_windows",
    "read_audio",
    "read_csv",
    "resample",
]
