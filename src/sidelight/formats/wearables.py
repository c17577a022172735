"""Text files of wearables: Shimmer (Consensys) and Polar (Sensor Logger, Flow)."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.formats.content import UNIX, Content
from sidelight.formats.tables import Table, parse_table, read_head, read_lines
from sidelight.signals.stamps import usual_rate

LOCAL = UNIX.replace(tzinfo=None)
"""Origin of a clock that shows local time without a zone."""
AXES = ("X", "Y", "Z", "W")


def matches_shimmer(path: Path) -> bool:
    return any(re.search(r"Timestamp\w*_(CAL|RAW)", line) for line in read_head(path)[:4])


def read_shimmer(content: Content) -> None:
    lines = read_lines(content.path)
    separator, at = "\t", 0
    if found := re.match(r'"?sep=(.)"?\s*$', lines[0]):
        separator, at = found[1], 1
    elif lines[0].count(",") > lines[0].count("\t"):
        separator = ","
    names = [name.strip().strip('"') for name in lines[at].rstrip(separator).split(separator)]
    units = (
        [unit.strip().strip('"') for unit in lines[at + 1].rstrip(separator).split(separator)]
        if len(lines) > at + 1
        else []
    )
    if len(units) != len(names):
        raise DataError(
            f"{content.path}: line {at + 2} has {len(units)} units, but line {at + 1} names {len(names)} columns"
        )
    table = parse_table(content.path, lines, names, at + 2, separator)
    clock = next((n for n in names if re.search(r"Timestamp_Unix_CAL$", n)), None)
    content.origin = UNIX if clock else None
    clock = clock or next(
        (n for n in names if re.search(r"Timestamp\w*_CAL$", n) and units[names.index(n)] == "ms"), None
    )
    if clock is None:
        raise DataError(f"{content.path} has no calibrated time stamps in ms: export it with Timestamp_Unix_CAL")
    times = table.numbers(clock) / 1e3
    device = clock.partition("_Timestamp")[0]
    groups: dict[str, list[str]] = {}
    for name in names:
        if "Timestamp" in name:
            continue
        short = name.removeprefix(f"{device}_").removesuffix("_CAL")
        axis = re.fullmatch(r"(.+)_([XYZW])", short)
        groups.setdefault(axis[1] if axis else short, []).append(name)
    for name, columns in groups.items():
        kinds = [units[names.index(c)] for c in columns]
        axes = [c.removesuffix("_CAL")[-1] for c in columns] if len(columns) > 1 else []
        values = table.numbers(*columns).reshape(len(table), -1)
        content.add_channels(name, values, axes, kinds, rate=usual_rate(times), times=times)


def matches_polar(path: Path) -> bool:
    return (read_head(path) or [""])[0].lower().startswith("phone timestamp;")


def read_polar(content: Content) -> None:
    """Polar Sensor Logger: a file per sensor, with the phone's clock and, for raw samples, the sensor's."""
    lines = read_lines(content.path)
    names = [name.strip() for name in lines[0].rstrip(";").split(";")]
    table = parse_table(
        content.path, [line.rstrip(";") if i == 0 else line for i, line in enumerate(lines)], names, 1, ";"
    )
    phone = _parse_local(table, names[0])
    sensor = next((n for n in names if n.lower().startswith("sensor timestamp")), None)
    times = phone
    if sensor is not None:
        ticks = table.whole(sensor)
        since = (ticks - ticks[0]) / 1e9
        # A packet of samples arrives some time after they were measured: the fastest one tells the clocks' difference.
        times = since + float((phone - since).min())
    content.origin = LOCAL
    columns = {
        n: re.fullmatch(r"(.+?)\s*\[(.+)\]", n)
        for n in names[1:]
        if "timestamp" not in n.lower() and "time since" not in n.lower()
    }
    axes = [n for n, m in columns.items() if m and m[1] in AXES]
    if axes:
        unit = str(columns[axes[0]][2])  # type: ignore[index]
        name = {"mg": "ACC", "dps": "GYRO", "deg/s": "GYRO", "G": "MAGN"}.get(unit, "XYZ")
        content.add(
            name, table.numbers(*axes), rate=usual_rate(times), unit=unit, times=times, channels=[a[0] for a in axes]
        )
    for column, found in columns.items():
        if column not in axes:
            name, unit = (found[1], found[2]) if found else (column, "")
            content.add(name, table.numbers(column), rate=usual_rate(times), unit=unit, times=times)


def _parse_local(table: Table, name: str) -> NDArray[np.float64]:
    """Seconds since 1970 on a clock that shows local time."""
    import pandas as pd

    cells = table.text(name)
    try:
        stamps = pd.to_datetime(pd.Series(cells), format="ISO8601")
    except ValueError:
        raise DataError(f"{table.path}: column {name!r} begins with {cells[0]!r}; expected ISO 8601 times") from None
    # One unit everywhere: pandas chooses it by how many digits the text has.
    return np.asarray(stamps.dt.as_unit("ns").astype("int64"), np.float64) / 1e9


def matches_flow(path: Path) -> bool:
    head = read_head(path)
    return len(head) > 2 and head[0].startswith("Name,Sport,Date,Start time") and head[2].startswith("Sample rate,Time")


def read_flow(content: Content) -> None:
    """Polar Flow: a line about the session, then a line a second."""
    lines = read_lines(content.path)
    session = dict(zip(lines[0].split(","), lines[1].split(","), strict=False))
    names = [name.strip() for name in lines[2].rstrip(",").split(",")]
    table = parse_table(content.path, lines, names, 3, ",")
    times = np.array([_clock(content.path, i + 4, cell) for i, cell in enumerate(table.text("Time"))])
    try:
        content.origin = datetime.strptime(f"{session['Date']} {session['Start time']}", "%d-%m-%Y %H:%M:%S")
    except (KeyError, ValueError):
        content.warn("the start of the session is no date and time: its clock starts at 0")
    for name in names:
        found = re.fullmatch(r"(.+?)\s*\((.+)\)", name)
        if name in ("Sample rate", "Time") or (found and "min/" in found[2]):
            continue  # a pace is written as minutes:seconds, and says what the speed says
        values = table.numbers(name)
        if np.isfinite(values).any():
            short, unit = (found[1], found[2]) if found else (name, "")
            content.add(short, values, rate=usual_rate(times), unit=unit, times=times)


def _clock(path: Path, line: int, text: str) -> float:
    """Seconds of hh:mm:ss."""
    if found := re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text):
        return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
    raise DataError(f"{path}: line {line}: the time is {text!r}; expected hh:mm:ss")
