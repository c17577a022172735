"""The recordings of one session: found in its folder, read once a file, put on the session's clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sidelight.data.sources.channels import Channels, parse_channels
from sidelight.errors import ConfigError, DataError, listed, unknown
from sidelight.formats import read_recordings
from sidelight.formats.registry import FORMATS, find_format
from sidelight.recordings.by_id import SOUNDS, VIDEOS
from sidelight.sessions.settings import Sensor
from sidelight.sessions.times import column, parse_times
from sidelight.signals.audio import read_audio
from sidelight.signals.recording import Recording, check_rate
from sidelight.signals.stamps import usual_rate
from sidelight.utils.delimited import MISSING, read_delimited
from sidelight.utils.extras import optional
from sidelight.utils.images import take_channels


@dataclass(frozen=True, eq=False)
class FileStream:
    """A file whose windows stay segments of it."""

    path: Path
    seconds: float


Stream = Recording | FileStream


def find_file(folder: Path, pattern: str, what: str) -> Path | None:
    """Find the one file of a session that matches a pattern; None if there is none.

    Raises:
        DataError: several match.
    """
    if not pattern:
        return folder
    if not any(sign in pattern for sign in "*?["):
        return path if (path := folder / pattern).exists() else None
    found = sorted(p for p in folder.glob(pattern) if not p.name.startswith("."))
    if len(found) > 1:
        raise DataError(
            f"{folder}: {what}: {len(found)} files match {pattern!r} ({listed([p.name for p in found], 4)}); name one"
        )
    return found[0] if found else None


def read_streams(session: Path, sensors: Mapping[str, Sensor]) -> dict[str, Stream]:
    """Read the sensors of a session.

    Args:
        session: its folder, or its one file.
        sensors: modality -> where it is.

    Returns:
        Modality -> recording or file; without optional sensors that the session lacks.

    Raises:
        DataError: a missing file or recording; names session and sensor.
    """
    opened: dict[tuple[Path, str], dict[str, Recording]] = {}
    streams: dict[str, Stream] = {}
    for m, sensor in sensors.items():
        path = find_file(session, sensor.file, f"sensor {m!r}")
        if path is None:
            if sensor.optional:
                continue
            raise DataError(
                f"{session}: sensor {m!r}: there is no {sensor.file!r} in it (optional: true lets sessions lack it)"
            )
        stream = _read(path, m, sensor, opened)
        if stream is not None:
            streams[m] = stream
    return streams


def _read(path: Path, m: str, sensor: Sensor, opened: dict[tuple[Path, str], dict[str, Recording]]) -> Stream | None:
    if sensor.kind:
        return FileStream(path, _measure(path, m, sensor))
    if sensor.columns:
        return _convert(_read_columns(path, m, sensor), sensor)
    if path.suffix.lower() in SOUNDS and not sensor.format:
        return _convert(read_audio(path, modality=m), sensor)
    key = (path, sensor.format)
    if key not in opened:
        takes_rate = find_format(path, sensor.format).takes_rate if sensor.format or _known(path, m) else False
        given = read_recordings(path, format=sensor.format, rate=sensor.rate or None if takes_rate else None)
        opened[key] = {}
        for of_file in [*given]:
            recording = given.pop(of_file)
            # Rows are float32, and a session then takes half the memory while its other files are read.
            opened[key][of_file] = replace(recording, values=recording.values.astype(np.float32, copy=False))
    found = opened[key]
    name = sensor.name or (m if m in found else next(iter(found)) if len(found) == 1 else "")
    channels = None if name in found else parse_channels(m, name)
    name = channels.of if channels else name
    if name not in found:
        if sensor.optional and name:
            return None
        raise DataError(
            f"{path}: sensor {m!r}: {unknown('recording', name, found)}"
            if name
            else f"{path}: sensor {m!r}: it holds several recordings; name one (name: …): {listed(list(found))}"
        )
    recording = found[name] if channels is None else _pick(found[name], m, channels)
    return _convert(replace(recording, modality=m), sensor)


def _pick(recording: Recording, m: str, channels: Channels) -> Recording:
    """Some channels of a recording, `ACC[2]`."""
    numbers = channels.numbers(m, recording.channels)
    values = take_channels(recording.values, 1, numbers, f"{recording.source}: sensor {m!r}: {channels.of!r}")
    return replace(
        recording, values=values, channels=tuple(recording.channels[i] for i in numbers if recording.channels)
    )


def _known(path: Path, m: str) -> bool:
    """True for a file of a known format; raises DataError that names what a plain table needs."""
    try:
        find_format(path)
    except DataError as error:
        if path.suffix.lower() in (".csv", ".tsv", ".txt"):
            raise DataError(
                f"{path}: sensor {m!r}: it is a plain table; name its columns, and its column of times or its rate "
                "(columns: [gsr], time: timestamp, time_unit: ms)"
            ) from error
        raise
    return True


def _convert(recording: Recording, sensor: Sensor) -> Recording:
    if sensor.unit:
        recording = replace(recording, unit=sensor.unit)
    return recording.to(sensor.convert_to) if sensor.convert_to else recording


def _measure(path: Path, m: str, sensor: Sensor) -> float:
    """Length in seconds of a file whose windows are segments."""
    if sensor.kind == "frames":
        from sidelight.video.frames import find_frames

        rate = float(sensor.settings.get("rate", 0) or sensor.rate)
        check_rate(rate, f"sensors.{m}: rate of its frames", ConfigError)
        pattern = sensor.settings.get("pattern")
        return len(find_frames(path, pattern) if pattern else find_frames(path)) / rate
    if sensor.kind == "audio" and path.suffix.lower() not in VIDEOS:
        soundfile = optional("soundfile", "audio", "reading sound files")
        about = soundfile.info(str(path))
        return float(about.frames / about.samplerate)
    from sidelight.video.container import probe

    return float(probe(path).seconds)


def _read_columns(path: Path, m: str, sensor: Sensor) -> Recording:
    """Columns of a plain table, by their times or at a rate. A row with an empty cell was not measured."""
    table = read_delimited(path)
    if not len(table):
        raise DataError(f"{path} has a header and no rows")
    values = np.stack([_numbers(table.lines, column(table, c), f"{path}: column {c!r}") for c in sensor.columns], 1)
    there = np.isfinite(values).all(1)
    if not sensor.time:
        if not sensor.rate:
            raise DataError(
                f"{path}: sensor {m!r}: name the column of its times (time: …) or its rate in Hz (rate: 64)"
            )
        times, origin = np.arange(len(values)) / sensor.rate, None
        if there.all():
            return Recording(values, sensor.rate, sensor.unit or "1", 0.0, sensor.columns, m, str(path))
    else:
        where = f"{path}: column {sensor.time!r}"
        times, origin = parse_times(column(table, sensor.time), where, table.lines, sensor.time_unit, sensor.rate)
        for i in np.flatnonzero(np.isnan(times))[:1]:
            raise DataError(f"{where}: line {table.lines[i]} is empty; every row needs its time")
    if not there.any():
        raise DataError(f"{path}: sensor {m!r}: no row has a number in every one of {listed(sensor.columns)}")
    values, times = values[there], times[there]
    rate = sensor.rate if sensor.time_unit != "samples" and sensor.rate else usual_rate(times)
    return Recording(values, rate, sensor.unit or "1", 0.0, sensor.columns, m, str(path), times, origin)


def _numbers(lines: NDArray[np.int64], cells: pd.Series, where: str) -> NDArray[np.float64]:
    """(N,) numbers, NaN in empty cells."""
    numbers = np.asarray(pd.to_numeric(cells, errors="coerce"), np.float64)
    text = cells.astype(str).str.strip()
    bad = ~np.isfinite(numbers) & ~(cells.isna() | text.str.lower().isin(MISSING)).to_numpy()
    for i in np.flatnonzero(bad)[:1]:
        raise DataError(f"{where}: line {lines[i]} is {text.iloc[i]!r}; expected a number")
    return numbers


def list_formats() -> str:
    """The formats, for errors."""
    return listed(list(FORMATS))
