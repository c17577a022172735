"""Finds the recording type of files from the files themselves, for manifests that do not say it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sidelight.errors import ConfigError, DataError, SidelightError, listed
from sidelight.recordings.colours import read_colour_table
from sidelight.recordings.image_files import check_nothing, read_image_mode, read_image_size
from sidelight.recordings.pictures import Picture, probe_video
from sidelight.recordings.recording_type import RecordingType
from sidelight.recordings.registry import RECORDING_TYPES, recording_type
from sidelight.recordings.series import VIDEOS
from sidelight.signals.csv import SECONDS
from sidelight.signals.stamps import usual_rate
from sidelight.utils.delimited import Delimited, read_delimited
from sidelight.utils.dialect import build_dialect
from sidelight.utils.extras import optional
from sidelight.utils.files import check_file
from sidelight.utils.images import IMAGE_FILES

SOUNDS = (".wav", ".flac", ".ogg", ".mp3")
TABLES = (".csv", ".tsv")
ARRAYS = (".npy", ".npz", ".safetensors")
KIND_OF = {
    **dict.fromkeys(VIDEOS, "video"),
    **dict.fromkeys(SOUNDS, "audio"),
    **dict.fromkeys(TABLES, "signal"),
    **dict.fromkeys(IMAGE_FILES, "image"),
    **dict.fromkeys(ARRAYS, "array"),
    ".txt": "text",
}
"""Suffix -> kind."""
TIME_NAMES = ("time", "timestamp", "t", "time_s", "seconds", "time_ms", "t_ms", "timestamp_ms")
"""Usual names of the column of times in a signal."""
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
            missing = _signal_settings(first, given)
        elif kind == "frames" and "pattern" not in given:
            missing["pattern"] = _frame_pattern(first)
        elif _needs_size(kind) and "size" not in given:
            missing["size"] = list(read_image_size(first, check_nothing))
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


def _signal_settings(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Time column, columns and rate of a table of samples, as far as they are not given."""
    found: dict[str, Any] = {}
    written = {
        name: given[name]
        for name in ("separator", "decimal", "encoding", "header")
        if given.get(name) not in (None, "")
    }
    table = read_delimited(path, build_dialect(written))
    low = [name.lower() for name in table.names]
    time = given.get("time", next((table.names[low.index(name)] for name in TIME_NAMES if name in low), ""))
    if "time" not in given and time and not given.get("rate"):
        found["time"] = time
        if time.lower().endswith("_ms") and "time_unit" not in given:
            found["time_unit"] = "ms"
    if "columns" not in given:
        found["columns"] = [name for name in table.names if name and name != time]
    if given.get("rate") or given.get("resample_to"):
        return found
    if not time:
        raise DataError(
            f"{path} has no column of times (columns: {listed(table.names)}): give its sampling rate in Hz (rate: 64), "
            "or name the column (time: clock)"
        )
    found["rate"] = _measured_rate(table, str(time), str(given.get("time_unit") or found.get("time_unit", "s")))
    return found


def _measured_rate(table: Delimited, time: str, unit: str) -> float:
    """Samples a second of the first file, a whole number where it is one within 1 %."""
    if time not in table.names:
        raise DataError(f"{table.path} has no column {time!r}; columns: {listed(table.names)}")
    cells = pd.to_numeric(table.cells[table.names.index(time)], errors="coerce")
    rate = usual_rate(np.asarray(cells, np.float64) * SECONDS.get(unit, 1.0))
    if not 0 < rate < np.inf:
        raise DataError(f"{table.path}: column {time!r} holds no rising times; give the sampling rate in Hz (rate: 64)")
    return float(round(rate)) if round(rate) and abs(rate / round(rate) - 1) < 0.01 else rate


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
