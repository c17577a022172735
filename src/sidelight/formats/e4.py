"""Empatica E4: a folder of headerless CSV files, whose first lines are start and sampling rate."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.formats.content import UNIX, Content
from sidelight.utils.files import read_text

SENSORS = {"ACC": "g", "BVP": "1", "EDA": "uS", "HR": "bpm", "TEMP": "degC"}
"""Files and their units; ACC is stored in 1/64 g, in ±2 g."""
STEPS_PER_G = 64


def matches(path: Path) -> bool:
    return any((path / f"{name}.csv").is_file() for name in (*SENSORS, "IBI"))


def read(content: Content) -> None:
    content.origin = UNIX
    folder = content.path
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; an E4 recording is a folder with ACC.csv, BVP.csv, EDA.csv, …")
    for name, unit in SENSORS.items() if not content.events_only else ():
        if (path := folder / f"{name}.csv").is_file() and path.stat().st_size:
            start, rate, values = _read_sensor(path, 3 if name == "ACC" else 1)
            values = values / STEPS_PER_G if name == "ACC" else values
            channels = ("x", "y", "z") if name == "ACC" else ()
            content.add(name, values, rate=rate, unit=unit, start=start, channels=channels)
    if (path := folder / "IBI.csv").is_file() and path.stat().st_size:
        _read_ibi(content, path)
    if (path := folder / "tags.csv").is_file():
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if line.strip():
                content.add_event(_time(line.split(",")[0], path, number), 0.0, "tag")


def _read_sensor(path: Path, columns: int) -> tuple[float, float, NDArray[np.float64]]:
    """(start in seconds of Unix time, rate in Hz, (T, C) values)."""
    lines = read_text(path).splitlines()
    if len(lines) < 3:
        raise DataError(f"{path} has {len(lines)} lines; expected the start, the sampling rate and the samples")
    start = _time(lines[0].split(",")[0], path, 1)
    rates = set(_numbers(path, lines[1:2], 2, columns)[0].tolist())
    if len(rates) != 1 or not 0 < (rate := rates.pop()) <= 1024:
        raise DataError(f"{path}: line 2 is {lines[1]!r}; expected the sampling rate in Hz")
    return start, rate, _numbers(path, lines[2:], 3, columns)


def _read_ibi(content: Content, path: Path) -> None:
    """Heart beats: seconds since the start at which each was seen, and the interval that ends there, in seconds."""
    lines = read_text(path).splitlines()
    start = _time(lines[0].split(",")[0], path, 1)
    if len(lines) > 1:
        beats = _numbers(path, lines[1:], 2, 2)
        content.add("IBI", beats[:, 1], unit="s", times=start + beats[:, 0])


def _time(cell: str, path: Path, line: int) -> float:
    """Seconds of Unix time; some public data sets write the UTC time as text instead."""
    try:
        return float(cell)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        raise DataError(
            f"{path}: line {line} is {cell!r}; expected a time in seconds since 1970 (the file has no header)"
        ) from None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _numbers(path: Path, lines: list[str], first: int, columns: int) -> NDArray[np.float64]:
    """(T, C) numbers; raises DataError that names the first line that does not hold C of them."""
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    import pandas as pd

    try:
        x = pd.read_csv(io.StringIO("\n".join(lines)), header=None, dtype=np.float64, skip_blank_lines=False).to_numpy()
        if x.shape == (len(lines), columns) and np.isfinite(x).all():
            return np.ascontiguousarray(x)
    except ValueError:  # pandas' errors of parsers are such
        pass
    for number, line in enumerate(lines, first):
        cells = line.split(",")
        try:
            good = len(cells) == columns and np.isfinite([float(c) for c in cells]).all()
        except ValueError:
            good = False
        if not good:
            last = "; it is the last line: is the file truncated?" if number == first + len(lines) - 1 else ""
            raise DataError(f"{path}: line {number} is {line[:60]!r}; expected {columns} number(s){last}")
    raise DataError(f"{path}: expected {columns} number(s) in each line")
