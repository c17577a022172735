"""WFDB (PhysioNet), by wfdb: every signal at its own rate, and the annotations beside it."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import numpy as np

from sidelight.errors import DataError
from sidelight.formats.content import Content
from sidelight.utils.extras import optional

ANNOTATORS = ("atr", "ann", "ari", "man", "qrs", "ecg", "wqrs", "sqrs", "wabp", "st", "apn")
"""Suffixes of annotation files; the first that is there is read."""


def matches(path: Path) -> bool:
    return path.suffix == ".hea" or (path.suffix == ".dat" and path.with_suffix(".hea").is_file())


def read(content: Content) -> None:
    wfdb = optional("wfdb", "recordings", "reading WFDB records")
    path = content.path
    name = str(path.with_suffix(""))
    if not path.with_suffix(".hea").is_file():
        raise DataError(f"{path} needs {path.with_suffix('.hea').name} beside it, the header of the record")
    header = wfdb.rdheader(name, rd_segments=True)
    rate = float(header.fs)
    if header.base_time is not None:
        content.origin = datetime.combine(header.base_date or date(1970, 1, 1), header.base_time)
        if header.base_date is None:
            content.origin = None  # a time of day alone does not place the recording
    for signal in (header.file_name or []) if header.n_sig else []:
        if signal and signal != "~" and not path.with_name(signal).is_file():
            raise DataError(f"{path} names {signal}, which is not beside it")
    if not content.events_only and header.n_sig:
        # Without averaging of the signals that have several samples in a frame.
        record = wfdb.rdrecord(name, smooth_frames=False, return_res=64)
        signals = record.e_p_signal if record.e_p_signal is not None else list(record.p_signal.T)
        for signal, label, unit in zip(signals, record.sig_name, record.units, strict=True):
            frames = len(signal) / record.sig_len if record.sig_len else 1
            content.add(label, signal, rate=rate * frames, unit=unit or "")
    annotator = next((a for a in ANNOTATORS if path.with_suffix(f".{a}").is_file()), None)
    if annotator is not None:
        notes = wfdb.rdann(name, annotator)
        ticks = float(notes.fs or rate)
        for sample, symbol, text in zip(notes.sample, notes.symbol, notes.aux_note, strict=True):
            label = text.strip("\x00 ") if text and text.strip("\x00 ") else symbol
            content.add_event(float(np.float64(sample) / ticks), 0.0, label)
