"""C3D (motion capture), by ezc3d, and Garmin FIT, by fitdecode."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from sidelight.errors import DataError
from sidelight.formats.c3d_check import check_c3d
from sidelight.formats.content import UNIX, Content
from sidelight.utils.extras import optional

DEGREES = 180 / 2**31
"""Degrees that one semicircle of FIT stands for."""
NUMBERED = ("", *range(2, 20))
"""C3D continues lists of more than 255 names in LABELS2, LABELS3, …"""


def read_c3d(content: Content) -> None:
    ezc3d = optional("ezc3d", "recordings", "reading C3D files")
    check_c3d(content.path)
    try:
        file = ezc3d.c3d(str(content.path))
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise DataError(f"cannot read {content.path}: truncated or no C3D file ({error})") from None
    about = file["parameters"]
    rate = float(_values(about, "POINT", "RATE", [0])[0])
    points, first = file["data"]["points"], int(file["header"]["points"]["first_frame"])
    start = first / rate if rate else 0.0
    unit = str(_values(about, "POINT", "UNITS", [""])[0])
    residuals = file["data"]["meta_points"]["residuals"]
    for p, name in enumerate(_names(about, "POINT", points.shape[1])):
        # An unseen marker has residual −1, and is stored as 0 or NaN.
        seen = residuals[0, p] >= 0
        content.add(name, points[:3, p].T, rate=rate, unit=unit, start=start, channels=("x", "y", "z"), present=seen)
    analogs = file["data"]["analogs"][0]
    if len(analogs):
        fast = float(_values(about, "ANALOG", "RATE", [0])[0])
        units = [str(u) for u in _values(about, "ANALOG", "UNITS", [])]
        for a, name in enumerate(_names(about, "ANALOG", len(analogs))):
            content.add(name, analogs[a], rate=fast, unit=units[a] if a < len(units) else "", start=start)
    labels, contexts = (_values(about, "EVENT", key, []) for key in ("LABELS", "CONTEXTS"))
    times = np.asarray(_values(about, "EVENT", "TIMES", np.zeros((2, 0))), float)
    for e in range(times.shape[1] if times.ndim == 2 else 0):
        words = [str(x[e]) for x in (contexts, labels) if e < len(x)]
        content.add_event(60 * times[0, e] + times[1, e], 0.0, " ".join(words).strip() or "event")  # minutes, seconds


def _values(about: Any, group: str, name: str, default: Any) -> Any:
    """A parameter of the file, `default` if it is absent or empty."""
    found = about[group][name]["value"] if group in about and name in about[group] else default
    return found if len(found) else default


def _names(about: Any, group: str, count: int) -> list[str]:
    names = [str(n).strip() for i in NUMBERED for n in _values(about, group, f"LABELS{i}", [])][:count]
    return [*names, *(f"{group.lower()}{i + 1}" for i in range(len(names), count))]


def read_fit(content: Content) -> None:
    fitdecode = optional("fitdecode", "recordings", "reading FIT files")
    content.origin = UNIX
    series: dict[str, tuple[list[float], list[float], str]] = {}
    with fitdecode.FitReader(str(content.path), check_crc=fitdecode.CrcCheck.RAISE) as file:
        for message in file:
            if not isinstance(message, fitdecode.FitDataMessage):
                continue
            if message.name == "record":
                _read_record(message, series)
            elif message.name in ("event", "lap"):
                _read_event(content, message)
    for name, (times, values, unit) in series.items():
        content.add(name, np.array(values), unit=unit, times=np.array(times))


def _read_record(message: Any, series: dict[str, tuple[list[float], list[float], str]]) -> None:
    """Append the numbers of a record to their series."""
    time = _seconds(message.get_value("timestamp", fallback=None))
    if time is None:
        return
    for field in message.fields:
        value, unit = field.value, field.units or ""
        if field.name == "timestamp" or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if unit == "semicircles":
            value, unit = value * DEGREES, "deg"
        times, values, _ = series.setdefault(field.name, ([], [], unit))
        times.append(time)
        values.append(float(value))


def _read_event(content: Content, message: Any) -> None:
    start = _seconds(message.get_value("start_time", fallback=None))
    time = _seconds(message.get_value("timestamp", fallback=None))
    if message.name == "lap" and start is not None:
        length = message.get_value("total_elapsed_time", fallback=None)
        content.add_event(start, float(length) if isinstance(length, int | float) else 0.0, "lap")
    elif message.name == "event" and time is not None:
        words = [message.get_value(key, fallback=None) for key in ("event", "event_type")]
        content.add_event(time, 0.0, " ".join(str(w) for w in words if w is not None))


def _seconds(value: Any) -> float | None:
    """Seconds of Unix time of a FIT time, which is UTC; None for a time since the device was switched on."""
    if not isinstance(value, datetime):
        return None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
