"""OpenSignals (BITalino, biosignalsplux) and BioSPPy: text with a commented header and columns of samples."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.formats.content import Content
from sidelight.formats.tables import parse_table, read_head, read_lines

SUPPLY = {"bitalino_rev": 3.3, "biosignalsplux": 3.0}
"""Device -> voltage that the largest count stands for."""
GAINS = {
    "bitalino_rev": {"ECG": (1100, 1e3, "mV"), "EMG": (1009, 1e3, "mV"), "EEG": (40000, 1e6, "uV")},
    "biosignalsplux": {"ECG": (1000, 1e3, "mV"), "EMG": (1000, 1e3, "mV"), "EEG": (42000, 1e6, "uV")},
}
"""Device -> sensor -> (gain, units per volt, unit); the transfer function is (n / 2^bits − 1/2) · supply / gain."""
EDA = {"bitalino_rev": 0.132, "biosignalsplux": 0.12}
"""Device -> volts per µS: EDA = n / 2^bits · supply / that (BITalino: 0 to 25 µS, by the manual of 2020)."""
CONVERTED = {"ECG": "mV", "EMG": "mV", "EEG": "uV", "EDA": "uS"}


def matches(path: Path) -> bool:
    return (read_head(path) or [""])[0].lower().startswith("# opensignals text file format")


def matches_biosppy(path: Path) -> bool:
    return (read_head(path) or [""])[0].lower().startswith("# simple text format")


def read(content: Content) -> None:
    lines = read_lines(content.path)
    first = next((i + 1 for i, line in enumerate(lines[:20]) if line.lower().startswith("# endofheader")), 0)
    if not first:
        raise DataError(f"{content.path} is truncated: its header has no end ('# EndOfHeader')")
    devices = _read_header(content.path, lines[:first])
    columns = [f"{address}/{column}" for address, about in devices.items() for column in about["column"]]
    table = parse_table(content.path, lines, columns, first, "\t")
    for address, about in devices.items():
        rate = float(about["sampling rate"])
        content.origin = _start(about)
        times = None
        if "nSeq" in about["column"]:
            times = _times(content, table.whole(f"{address}/nSeq"), about, rate)
        sensors, labels = about.get("sensor", []), about.get("label", [])
        bits = about.get("resolution", [])
        for c, label in enumerate(labels):
            sensor = str(sensors[c]).upper() if c < len(sensors) else "RAW"
            # The resolutions of the sequence number and the digital channels may come first.
            depth = int(bits[len(bits) - len(labels) + c]) if len(bits) >= len(labels) else 0
            raw = table.numbers(f"{address}/{label}")
            values, unit = _convert(raw, sensor, depth, about)
            name = sensor if sensor not in ("RAW", "CUSTOM", "") else str(label)
            if unit == "counts":
                content.warn(f"{name!r} stays in counts of {depth} bits: no formula of this sensor and device is known")
            content.add(name if len(devices) == 1 else f"{address}.{name}", values, rate=rate, unit=unit, times=times)


def _read_header(path: Path, lines: list[str]) -> dict[str, dict[str, Any]]:
    for line in lines:
        text = line.lstrip("# ").strip()
        if text.startswith("{"):
            try:
                devices = json.loads(text)
                for about in devices.values():
                    if not (float(about["sampling rate"]) > 0 and isinstance(about["column"], list) and about["label"]):
                        raise KeyError("sampling rate")
                return dict(devices)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{path}: its header lacks or garbles {error}; expected JSON of OpenSignals") from None
    raise DataError(f"{path}: its header describes no device")


def _start(about: dict[str, Any]) -> datetime | None:
    """Local time of the first sample."""
    text = f"{str(about.get('date', '')).strip()} {str(about.get('time', '')).strip()}"
    for form in ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S"):
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None


def _times(content: Content, numbers: NDArray, about: dict[str, Any], rate: float) -> NDArray[np.float64] | None:
    """(T,) seconds, by the sequence numbers, if samples were lost on the way; None if none was."""
    size = int(numbers.max(initial=0)) + 1  # after its largest number the counter starts again at 0
    steps = np.diff(numbers)
    steps = np.where(steps > 0, steps, steps + size)
    lost = int((steps - 1).sum())
    if not lost:
        return None
    content.warn(f"{lost} samples were lost on the way, by the sequence numbers; times keep the gaps")
    return np.concatenate([[0.0], np.cumsum(steps)]) / rate


def _convert(raw: NDArray, sensor: str, bits: int, about: dict[str, Any]) -> tuple[NDArray, str]:
    """(values, unit) by the manufacturer's formula; counts where none is known."""
    if about.get("convertedValues") in (1, True):
        return raw, CONVERTED.get(sensor, "")
    # The first BITalino ("bitalino") has other sensors than the (r)evolution.
    device = str(about.get("device", "")).lower()
    if bits and device in SUPPLY:
        share, supply = raw / 2**bits, SUPPLY[device]
        if sensor == "EDA":
            return share * supply / EDA[device], "uS"
        if sensor in GAINS[device]:
            gain, factor, unit = GAINS[device][sensor]
            return (share - 0.5) * supply / gain * factor, unit
    return raw, "counts"


def read_biosppy(content: Content) -> None:
    lines = read_lines(content.path)
    settings: dict[str, str] = {}
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    for line in lines[:first]:
        key, _, value = line.lstrip("# ").partition(":=")
        settings[key.strip().lower()] = value.strip()
    try:
        rate = float(settings["sampling rate (hz)"])
        names = [name.strip() for name in settings["labels"].split("\t")]
    except (KeyError, ValueError):
        raise DataError(
            f"{content.path}: its header says {sorted(settings)}; expected 'Sampling Rate (Hz):=' and 'Labels:='"
        ) from None
    table = parse_table(content.path, lines, names, first, "\t")
    for name in names:
        content.add(name, table.numbers(name), rate=rate)
