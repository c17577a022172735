"""BrainVision and other EEG formats, by MNE-Python: values in the file's units, and the file's own times.

MNE-Python multiplies values by the prefix of their unit. It does so for µS as well, but marks those channels as being
without a unit, so that 5 µS become 5e-6; and it joins the segments of an interrupted BrainVision recording.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.formats.content import Content
from sidelight.utils.extras import optional
from sidelight.utils.units import parse_unit

SUFFIXES = (".vhdr", ".ahdr", ".set", ".cnt", ".fif", ".fif.gz", ".gdf", ".egi", ".cdt", ".lay")
SCALED = ("V", "mV", "µV", "uV", "nV", "µS", "uS", "S")
"""Units of BrainVision files that MNE-Python turns into V and S."""
VOLT, TESLA, CELSIUS = 107, 112, 114
"""Codes of units in MNE-Python (FIFF)."""
SIZES = {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}
"""Format of samples in a BrainVision header -> bytes."""


def matches(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(content: Content) -> None:
    mne = optional("mne", "recordings", "reading EEG files")
    path = content.path
    is_brainvision = path.suffix.lower() in (".vhdr", ".ahdr")
    header = _Header(path) if is_brainvision else None
    raw = mne.io.read_raw(path, preload=False, verbose="ERROR")
    if path.suffix.lower() == ".gdf" and _rates_differ(raw):
        raise DataError(f"{path} has channels of different rates, which MNE-Python resamples; convert it to EDF")
    rate, origin = float(raw.info["sfreq"]), raw.info["meas_date"]
    # MNE-Python calls every date UTC; BrainVision has the local time of the recorder.
    content.origin = origin.replace(tzinfo=None) if origin and header else origin
    notes = raw.annotations
    for onset, duration, label in zip(notes.onset, notes.duration, notes.description, strict=True):
        t = header.times(np.array([onset * rate]), rate)[0] if header else onset
        if not str(label).startswith("New Segment/"):
            # A marker of one sample is a moment.
            content.add_event(float(t), 0.0 if duration <= 1.5 / rate else float(duration), str(label))
    if content.events_only:
        return
    times = header.times(np.arange(raw.n_times), rate) if header and len(header.segments) > 1 else None
    data = raw.get_data()
    for c, (name, channel) in enumerate(zip(raw.ch_names, raw.info["chs"], strict=True)):
        written = header.units[c] if header and c < len(header.units) else None
        values, unit = _restore(data[c], written, int(channel["unit"]))
        content.add(name, values, rate=rate, unit=unit, start=0.0 if header else float(raw.first_time), times=times)


def _restore(values: NDArray, written: str | None, code: int) -> tuple[NDArray, str]:
    """(values, unit) as the file has them, of values that MNE-Python has multiplied by the prefix of their unit."""
    if written is not None:
        written = written.replace("\u03bc", "\u00b5") or "µV"  # a BrainVision channel without a unit is in µV
        return (values / parse_unit(written)[0] if written in SCALED else values), written
    return values, {VOLT: "V", TESLA: "T", CELSIUS: "degC"}.get(code, "")


class _Header:
    """What a BrainVision header says that MNE-Python drops: units, and when each segment began.

    Raises:
        DataError: a file that it names is missing or truncated.
    """

    def __init__(self, path: Path) -> None:
        self.text = _decode(path.read_bytes())
        data, markers = (self._file(path, key) for key in ("DataFile", "MarkerFile"))
        if data is None:
            raise DataError(f"{path} is no BrainVision header, or is cut off: it names no DataFile")
        self._check_size(data)
        channels = re.findall(r"^Ch\d+=[^,\n]*,[^,\n]*,[^,\n]*(?:,([^,\n]*))?", self.text, re.M)
        self.units = [unit.strip() for unit in channels]
        self.segments = [(0, 0.0)]
        if markers is not None:
            pattern = r"^Mk\d+=New Segment,[^,]*,(\d+),[^,]*,[^,]*,(\d{14,20})"
            found = [(int(s) - 1, _moment(d)) for s, d in re.findall(pattern, _decode(markers.read_bytes()), re.M)]
            if found and found[0][0] == 0:
                self.segments = [(sample, seconds - found[0][1]) for sample, seconds in found]

    def value(self, key: str) -> str:
        found = re.search(rf"^{key}=(.*)$", self.text, re.M)
        return found[1].strip() if found else ""

    def times(self, samples: NDArray, rate: float) -> NDArray[np.float64]:
        """Seconds of samples since the first one."""
        first, since = (np.array(x, np.float64) for x in zip(*self.segments, strict=True))
        k = np.searchsorted(first, samples + 1e-6, side="right") - 1
        return np.asarray(since[k] + (samples - first[k]) / rate)

    def _file(self, path: Path, key: str) -> Path | None:
        name = self.value(key).replace("$b", path.stem)
        if name and not path.with_name(name).is_file():
            raise DataError(f"{path} names {key} {name}, which is not beside it: was it renamed or left behind?")
        return path.with_name(name) if name else None

    def _check_size(self, data: Path) -> None:
        try:
            frame = SIZES[self.value("BinaryFormat")] * int(self.value("NumberOfChannels"))
            points = int(self.value("DataPoints") or 0)
        except (KeyError, ValueError):
            return  # samples as text, which MNE-Python checks itself
        size = data.stat().st_size
        if size % frame or (points and size < frame * points):
            raise DataError(
                f"{data} is truncated: its {size} bytes are {size / frame:.2f} samples of "
                f"{self.value('NumberOfChannels')} channels{f', of {points}' if points else ''}"
            )


def _moment(digits: str) -> float:
    """Seconds of a date as BrainVision writes it (YYYYMMDDhhmmssuuuuuu)."""
    whole = datetime.strptime(digits[:14], "%Y%m%d%H%M%S") - datetime(1970, 1, 1)
    return whole.total_seconds() + int((digits[14:] + "000000")[:6]) / 1e6


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _rates_differ(raw: Any) -> bool:
    counts = raw._raw_extras[0].get("n_samps")
    return counts is not None and len(np.unique(counts)) > 1
