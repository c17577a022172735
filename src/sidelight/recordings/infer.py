"""Finds the recording type of files from the files themselves, for manifests that do not say it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError, SidelightError, listed, unknown
from sidelight.recordings.base import RecordingType
from sidelight.recordings.by_id import SOUNDS, SUFFIXES, VIDEOS
from sidelight.recordings.colours import read_colour_table
from sidelight.recordings.image_files import check_nothing, read_image_mode, read_image_size
from sidelight.recordings.pictures import Picture, probe_video
from sidelight.recordings.raster import describe_raster
from sidelight.recordings.registry import RECORDING_TYPES, recording_type
from sidelight.recordings.signal_table import TIMES, UNITS, choose_measured, find_time, find_time_unit, round_rate
from sidelight.utils.delimited import Delimited, read_delimited
from sidelight.utils.dialect import build_dialect
from sidelight.utils.extras import optional
from sidelight.utils.files import check_file
from sidelight.utils.images import IMAGE_FILES
from sidelight.utils.rasters import RASTER_FILES
from sidelight.utils.units import is_unit

TABLES = (".csv", ".tsv")
KIND_OF = {
    **dict.fromkeys(VIDEOS, "video"),
    **dict.fromkeys(SOUNDS, "audio"),
    **dict.fromkeys(TABLES, "signal"),
    **dict.fromkeys(IMAGE_FILES, "image"),
    **dict.fromkeys(RASTER_FILES, "raster"),
    **dict.fromkeys(SUFFIXES["array"], "array"),
    ".txt": "text",
}
"""Suffix -> kind."""
AS_THEY_ARE = ("image", "array")
"""Kinds whose files are read as they are, unless a manifest gives settings."""


def find_kind(files: Sequence[str], settings: Mapping[str, Any], where: str) -> str:
    """The kind of a modality's files.

    Args:
        files: their names, at least one.
        settings: settings of the recording type; `kind`, where it is given, is the answer.
        where: name of the modality in errors.

    Raises:
        DataError: a suffix of no kind, or files of several kinds.
    """
    if "kind" in settings:
        return str(settings["kind"])
    found: dict[str, str] = {}
    for file in files:
        suffix = Path(file).suffix.lower()
        if suffix not in KIND_OF and suffix:
            known = listed(list(KIND_OF))
            raise DataError(f"{where}: {file}: no kind of recording has files {suffix}; expected {known}")
        found.setdefault(KIND_OF.get(suffix, "frames"), file)
    if len(found) > 1 and set(found) != {"image", "array"}:
        pairs = ", ".join(f"{file} ({kind})" for kind, file in found.items())
        raise DataError(f"{where}: its files are of several kinds: {pairs}; give every row a file of one kind")
    return "array" if len(found) > 1 else next(iter(found))


def complete_type(first: Path, settings: Mapping[str, Any], folder: Path, where: str) -> RecordingType:
    """The recording type with these settings, completed by what the first file says: rate, columns or size.

    Args:
        first: a file of the modality.
        settings: its kind, and settings that a user gives.
        folder: to which the path of a table of colours is relative.
        where: name of the modality in errors.

    Raises:
        DataError: the file is unreadable, or does not say what is needed.
        ConfigError: a wrong setting.
    """
    given = expand_colours(settings, folder)
    kind = str(given.get("kind", ""))
    if kind == "image" and "channels" not in given and _is_depth(first):
        given["kind"] = kind = "depth"
    missing: dict[str, Any] = {}
    try:
        if kind == "audio" and not given.get("rate") and not given.get("resample_to"):
            missing["rate"] = _sound_rate(first)
        elif kind == "signal":
            missing = describe_signal(first, given)[0]
        elif kind == "raster":
            missing = describe_raster(first)
        elif kind == "frames" and "pattern" not in given:
            missing["pattern"] = _frame_pattern(first)
        elif _needs_size(kind) and "size" not in given:
            missing["size"] = read_size(first)
    except SidelightError as error:
        raise type(error)(f"{where}: {error}") from None
    return recording_type({**missing, **given}, where)


def expand_colours(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings with the content of the table in place of its path (`Labels.colours`)."""
    given = dict(settings)
    if isinstance(given.get("colours"), str):
        given["colours"] = read_colour_table(folder / given["colours"])
    return given


def _needs_size(kind: str) -> bool:
    made = RECORDING_TYPES.get(kind)
    return made is not None and issubclass(made, Picture) and kind not in ("video", "frames")


def read_size(path: Path) -> list[int]:
    """[height, width] of an image, a depth image or a label map."""
    if path.suffix.lower() in RASTER_FILES:
        size: list[int] = describe_raster(path)["size"]
        return size
    return list(read_image_size(path, check_nothing))


def _is_depth(path: Path) -> bool:
    """Whether an image has 16 bits and one channel, which no kind but depth reads."""
    return path.suffix.lower() == ".png" and read_image_mode(path).startswith("I")


def _sound_rate(path: Path) -> float:
    if path.suffix.lower() in VIDEOS:
        rate = probe_video(path).audio_rate
        if rate is None:
            raise DataError(f"{path} has no sound track")
        return float(rate)
    check_file(path)
    soundfile = optional("soundfile", "audio", "reading sound files")
    try:
        return float(soundfile.info(str(path)).samplerate)
    except soundfile.LibsndfileError as error:
        raise DataError(f"cannot read {path}: truncated or no sound file ({error.error_string})") from None


def describe_signal(path: Path, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Find the columns, the unit, the time and the rate of a table of samples.

    Args:
        path: the table.
        given: settings that are known.

    Returns:
        Settings of a `Signal`, and what in them is a guess, in words.

    Raises:
        DataError: no column of numbers, or neither times nor a rate.
    """
    written = {
        name: given[name]
        for name in ("separator", "decimal", "encoding", "header")
        if given.get(name) not in (None, "")
    }
    table = read_delimited(path, build_dialect(written))
    numbers = {name: _numbers(table, name) for name in table.names if name}
    columns = [name for name, x in numbers.items() if np.isfinite(x).all()]
    time = str(given.get("time", "")) or find_time(columns)
    if time and time not in numbers:
        raise DataError(f"{path}: {unknown('column', time, table.names)}")
    measured = choose_measured(columns, time)
    if not measured:
        raise DataError(f"{path}: no column holds numbers in every line; columns: {listed(table.names)}")
    settings: dict[str, Any] = {"columns": measured}
    guesses = ["columns: all that hold measurements"]
    units = table.dialect.units or {}
    known = {units[c].strip() for c in measured if c in units and is_unit(units[c])}
    settings["unit"] = known.pop() if len(known) == 1 else "1"
    if settings["unit"] == "1":
        guesses.append("unit: none is known")
    if not time:
        if "rate" not in given:
            raise DataError(
                f"{path}: no column of times (expected {listed(TIMES)}), so its sampling rate is not known: give "
                "it in Hz (rate: 64; for describe: MODALITY.rate=64), or name the column (time: clock)"
            )
        return settings, guesses
    scale = str(given.get("time_unit", "")) or find_time_unit(time, units)
    steps = np.diff(numbers[time]) * UNITS.get(scale, 1.0)
    if not len(steps) or not np.median(steps) > 0:
        raise DataError(f"{path}: column {time!r} does not rise from line to line")
    rate = round_rate(len(steps) / steps.sum(), steps.sum())
    guesses.append(f"time, time_unit and rate: {time!r} in {scale} gives {rate:g} Hz")
    return settings | {"time": time, "time_unit": scale, "rate": rate}, guesses


def _numbers(table: Delimited, name: str) -> NDArray[np.float64]:
    return np.asarray(pd.to_numeric(table.cells[table.names.index(name)], errors="coerce"), np.float64)


def _frame_pattern(folder: Path) -> str:
    """The names of a folder's frames, from the first of them: img_00001.jpg -> img_{:05d}.jpg."""
    if not folder.is_dir():
        raise DataError(f"{folder}: the folder of frames does not exist")
    for name in sorted(path.name for path in folder.iterdir()):
        match = re.fullmatch(r"([^{}]*?)(\d+)(\.\w+)", name)
        if match and match[3].lower() in IMAGE_FILES:
            return f"{match[1]}{{:0{len(match[2])}d}}{match[3]}"
    raise DataError(f"{folder} holds no numbered images; name their pattern (pattern: img_{{:05d}}.jpg)")


def change_type(kind: RecordingType, settings: Mapping[str, Any], folder: Path, where: str) -> RecordingType:
    """A declared type with some settings replaced.

    Raises:
        ConfigError: another kind, or a wrong setting.
    """
    if settings.get("kind", kind.kind) != kind.kind:
        raise ConfigError(f"{where} is of kind {kind.kind!r}, not {settings['kind']!r}; give other settings only")
    return recording_type({**kind.to_config(), **expand_colours(settings, folder)}, where)
