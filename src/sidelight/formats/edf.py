"""EDF, EDF+, BDF and BDF+, by edfio: every signal at its own rate and unit, and every annotation.

edfio takes the data records of a discontinuous file (EDF+D) as one continuous signal; here the records keep the times
that the file gives them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.formats.content import Content
from sidelight.utils.extras import optional

ENDS = ("recording ends", "recording end")
"""Texts of an annotation at which the recording ends (EDF+ standard texts): what follows is padding."""
PADDING = "BAD_ACQ_SKIP"
"""Text by which MNE-Python marks the padding that it writes."""


@dataclass(frozen=True)
class Layout:
    """What the header says of the data records.

    Args:
        header: its size in bytes.
        count: number of data records in the file.
        seconds: length of a record.
        record: size of a record in bytes.
        clock: (first byte, size) of the annotations that hold a record's time, in the record; None without any.
    """

    header: int
    count: int
    seconds: float
    record: int
    clock: tuple[int, int] | None


def read(content: Content) -> None:
    edfio = optional("edfio", "recordings", "reading EDF and BDF files")
    path = content.path
    layout, is_bdf = _read_layout(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of truncated files, which were refused
        file = (edfio.read_bdf if is_bdf else edfio.read_edf)(path, header_encoding="latin-1")
    first, onsets = _record_onsets(path, layout)
    content.origin = _origin(file, first)
    for event in file.annotations:
        if event.text and event.text != PADDING:
            content.add_event(event.onset, event.duration or 0.0, event.text)
    end = _end_of_recording(file, layout)
    padded = []
    for signal in file.signals:
        name, rate = signal.label.strip(), float(signal.sampling_frequency)
        if not content.events_only:
            padded += _count_padding(signal, layout, end)
        times = None
        size = signal.samples_per_data_record
        if onsets is not None:
            times = (onsets[:, None] + np.arange(size) * (layout.seconds / size)).reshape(-1)
        values = _Values(signal, layout, None if end is None else round(end * rate))
        content.add(name, values, rate=rate, unit=signal.physical_dimension, times=values.cut(times))
    if padded:
        content.warn(
            f"the last data record ends in {', '.join(padded)} at the physical minimum: probably padding, since EDF "
            "stores whole records and no length; an annotation 'Recording ends' at the end cuts it off"
        )


RECORDS_BYTES = 2**21
"""Bytes of data records that are converted at a time; all at once, what stands between takes as much as the values."""


@dataclass
class _Values:
    """Reads the values of a signal, up to sample `end`."""

    signal: Any
    layout: Layout
    end: int | None

    def __call__(self) -> NDArray:
        count, seconds = self.layout.count, self.layout.seconds
        size = self.signal.samples_per_data_record
        values = np.empty(count * size)
        step = max(1, RECORDS_BYTES // self.layout.record)
        for first in range(0, count, step):
            last = min(first + step, count)
            values[first * size : last * size] = self.signal.get_data_slice(first * seconds, last * seconds)
        return values[: self.end]

    def cut(self, times: NDArray | None) -> NDArray | None:
        return None if times is None else times[: self.end]


def _read_layout(path: Path) -> tuple[Layout, bool]:
    """(layout, whether it is BDF); raises DataError for another file and a truncated one."""
    with path.open("rb") as file:
        head = file.read(256)
        is_bdf = head[:1] == b"\xff"
        if len(head) < 256 or head[:8] not in (b"0       ", b"\xffBIOSEMI"):
            raise DataError(f"{path} is no EDF or BDF file: its first 8 bytes are {head[:8]!r}, or it is cut off")
        header, declared, signals = int(head[184:192]), int(head[236:244]), int(head[252:256])
        rest = file.read(256 * signals)
    if len(rest) < 256 * signals:
        raise DataError(f"{path} is truncated: its header is cut off")
    labels = [rest[16 * i : 16 * (i + 1)].strip() for i in range(signals)]
    at = 216 * signals
    sizes = [int(rest[at + 8 * i : at + 8 * (i + 1)]) * (3 if is_bdf else 2) for i in range(signals)]
    record = sum(sizes)
    found, left = divmod(path.stat().st_size - header, record) if record else (0, 0)
    # −1 is what a recorder writes until it stops: then the file may end anywhere.
    if declared >= 0 and found < declared:
        raise DataError(f"{path} is truncated: {found} of {declared} data records are there")
    if not found or (declared < 0 and left):
        raise DataError(f"{path} is truncated: it holds {found} data records and {left} bytes of another")
    clock = next((i for i, label in enumerate(labels) if label in (b"EDF Annotations", b"BDF Annotations")), None)
    place = None if clock is None else (sum(sizes[:clock]), sizes[clock])
    return Layout(header, declared if declared >= 0 else found, float(head[244:252]), record, place), is_bdf


def _record_onsets(path: Path, layout: Layout) -> tuple[float, NDArray[np.float64] | None]:
    """(seconds of the first record after the start in the header, (R,) seconds of the records after the first).

    None instead of the latter if every record follows the one before.
    """
    if layout.clock is None:
        return 0.0, None
    begin, size = layout.clock
    data = np.memmap(path, np.uint8, "r", layout.header, (layout.count, layout.record))
    onsets = np.empty(layout.count)
    for i, record in enumerate(data[:, begin : begin + size]):
        onset, mark, _ = record.tobytes().partition(b"\x14")
        if not mark:
            raise DataError(f"{path}: data record {i} has no time, as each record of an EDF+ or BDF+ file must")
        onsets[i] = float(onset)
    since = onsets - onsets[0]
    even = np.abs(since - np.arange(layout.count) * layout.seconds).max() < 1e-6
    return float(onsets[0]), None if even else since


def _origin(file: Any, first: float) -> datetime | None:
    """Local time of the first record; None where the header has no valid date (e.g. an anonymous file)."""
    try:
        return datetime.combine(file.startdate, file.starttime) if abs(first) < 1 else None
    except (ValueError, TypeError, AttributeError):
        return None


def _end_of_recording(file: Any, layout: Layout) -> float | None:
    """Seconds at which an annotation says that the recording ends; None if there is none."""
    total = layout.count * layout.seconds
    for event in file.annotations:
        ends = event.text.strip().lower() in ENDS
        padding = event.text == PADDING and event.onset + (event.duration or 0) >= total - 1e-6
        if (ends or padding) and total - layout.seconds <= event.onset < total:
            return float(event.onset)
    return None


def _count_padding(signal: Any, layout: Layout, end: float | None) -> list[str]:
    """["N of M samples of 'label'"] if the last record ends in two or more samples at the digital minimum."""
    if end is not None or signal.samples_per_data_record < 2:
        return []
    last = np.asarray(signal.get_digital_slice((layout.count - 1) * layout.seconds, layout.count * layout.seconds))
    other = np.flatnonzero(last != signal.digital_min)
    run = len(last) - 1 - int(other[-1]) if len(other) else len(last)
    return [f"{run} of {len(last)} samples of {signal.label!r}"] if run >= 2 and len(other) else []
