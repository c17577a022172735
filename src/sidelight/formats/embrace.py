"""Empatica EmbracePlus: Avro files of raw data, by fastavro."""

from __future__ import annotations

from typing import Any

import numpy as np

from sidelight.errors import DataError
from sidelight.formats.content import UNIX, Content
from sidelight.utils.extras import optional

UNITS = {"eda": "uS", "temperature": "degC", "bvp": "", "steps": "counts"}
INERTIAL = {"accelerometer": "g", "gyroscope": "deg/s"}


def read(content: Content) -> None:
    fastavro = optional("fastavro", "recordings", "reading Avro files")
    content.origin = UNIX
    with content.path.open("rb") as file:
        rows = [row.get("rawData") if isinstance(row, dict) else None for row in fastavro.reader(file)]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{content.path} has no field 'rawData'; expected the raw data of an Empatica EmbracePlus")
    if len(rows) > 1:
        raise DataError(f"{content.path} holds {len(rows)} recordings; expected one, as EmbracePlus files do")
    raw = dict(rows[0] or {})
    for name, unit in INERTIAL.items():
        sensor = raw.get(name) or {}
        if len(sensor.get("x") or []):
            x = np.stack([np.asarray(sensor[axis], np.float64) for axis in "xyz"], 1) * _scale(sensor, name, content)
            _add(content, name, sensor, x, unit, ("x", "y", "z"))
    for name, unit in UNITS.items():
        sensor = raw.get(name) or {}
        if len(sensor.get("values") or []):
            _add(content, name, sensor, np.asarray(sensor["values"], np.float64), unit, ())
    peaks = np.asarray((raw.get("systolicPeaks") or {}).get("peaksTimeNanos") or [], np.int64)
    if len(peaks) > 1:
        # The interval that ends at each peak, from whole nanoseconds.
        content.add("IBI", np.diff(peaks) / 1e9, unit="s", times=peaks[1:] / 1e9)
    for time in (raw.get("tags") or {}).get("tagsTimeMicros") or []:
        content.add_event(time / 1e6, 0.0, "tag")


def _add(content: Content, name: str, sensor: dict[str, Any], x: np.ndarray, unit: str, axes: tuple[str, ...]) -> None:
    rate = float(sensor.get("samplingFrequency") or 0)
    if not rate:
        raise DataError(f"{content.path}: {name!r} has samples and no samplingFrequency")
    content.add(name, x, rate=rate, unit=unit, start=sensor["timestampStart"] / 1e6, channels=axes)


def _scale(sensor: dict[str, Any], name: str, content: Content) -> float:
    """Physical unit that one count stands for."""
    about = sensor.get("imuParams") or {}
    if about.get("conversionFactor"):
        return float(about["conversionFactor"])
    try:
        return float(about["physicalMax"] - about["physicalMin"]) / float(about["digitalMax"] - about["digitalMin"])
    except (KeyError, TypeError, ZeroDivisionError):
        raise DataError(f"{content.path}: {name!r} is in counts, and its imuParams do not say their unit") from None
