"""`sidelight describe`: write the modalities.json of a folder of recordings, from its table and its files."""

from __future__ import annotations

import argparse
import json
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sidelight.data.raw import MODALITIES_FILE, TABLE_FILE, find_roles
from sidelight.data.sources.checked_files import FILE
from sidelight.data.sources.prepared import FORMAT, DatasetInfo, read_prepared
from sidelight.data.sources.table_modalities import ARRAY_FILES
from sidelight.data.sources.tables import read_frame
from sidelight.errors import ConfigError, DataError, listed, unknown
from sidelight.recordings.by_id import SOUNDS, VIDEOS
from sidelight.recordings.image_files import read_image_size
from sidelight.recordings.infer import describe_signal, expand_colours, read_size
from sidelight.recordings.pictures import probe_video
from sidelight.recordings.raster import describe_raster
from sidelight.recordings.registry import Segment, recording_type
from sidelight.utils.array_files import load_array
from sidelight.utils.atomic import write_atomic
from sidelight.utils.delimited import missing
from sidelight.utils.extras import optional
from sidelight.utils.files import check_file
from sidelight.utils.images import IMAGE_FILES
from sidelight.utils.rasters import RASTER_FILES
from sidelight.utils.text_files import table_suffix
from sidelight.utils.yaml12 import parse_yaml
from sidelight.verbs.text import commands, section

TABLES = (".csv", ".tsv", ".txt")
LOOKED_AT = 20
"""Files of each modality that are opened to describe it."""


@dataclass
class Guess:
    """Kind and settings of a modality, and what in them is a guess, in words."""

    settings: dict[str, Any]
    guesses: list[str]


def describe_verb(args: argparse.Namespace) -> None:
    """Write the file of a command line, and say what comes next."""
    given = _read_overrides(args.overrides)
    roles = {name: getattr(args, name) for name in ("target", "group", "split")}
    path, found = describe_folder(args.folder, given, overwrite=args.overwrite, **roles)
    print(path)
    for m, guess in found.items():
        shown = [f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in guess.settings.items() if k != "kind"]
        lines = [*shown, *(f"guess: {text}" for text in guess.guesses)]
        print(section(f"{m}: {guess.settings['kind']}", lines), end="")
    place = shlex.quote(str(args.folder))
    print(commands("Correct what is wrong in it, then:", [f"sidelight inspect {place}"]), end="")


def _read_overrides(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """["eda.rate=4", "eda.unit=uS"] -> {"eda": {"rate": 4, "unit": "uS"}}"""
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        m, dot, setting = name.partition(".")
        if not (equals and dot and m and setting):
            raise ConfigError(f"cannot read {word!r}: expected MODALITY.SETTING=VALUE, e.g. eda.rate=4")
        found.setdefault(m, {})[setting] = parse_yaml(value)
    return found


def describe_folder(
    folder: str | Path,
    given: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    target: Sequence[str] | None = None,
    group: str | None = None,
    split: str | None = None,
    overwrite: bool = False,
) -> tuple[Path, dict[str, Guess]]:
    """Write `modalities.json` beside the table of a folder.

    Args:
        folder: holds metadata.csv with columns `id` and `<modality>_file_name`.
        given: modality -> settings that are known, in place of what the files show.
        target: columns to predict; None: a usual name. So for `group` and `split`.
        group: column of groups.
        split: column of the official split.
        overwrite: replace an existing file.

    Returns:
        The file, and what was written of each modality.

    Raises:
        DataError: the table or a file cannot be read, or files show too little; names the setting to give.
        ConfigError: an unknown modality or setting.
    """
    folder, given = Path(folder), given or {}
    path = folder / MODALITIES_FILE
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists; replace it with --overwrite")
    table = _read_table(folder)
    names = [c.removesuffix(FILE) for c in table.columns if c.endswith(FILE)]
    for m in given:
        if m not in names:
            raise ConfigError(unknown("modality", m, names))
    roles = find_roles(str(folder / TABLE_FILE), table.columns, target or None, group or None, split or None, "id")
    targets = tuple(t.removesuffix(FILE) for t in roles.target)
    found = {m: _describe(folder, table, m, given.get(m, {}), m in targets) for m in names}
    for m, guess in found.items():
        kind = recording_type(expand_colours(guess.settings, folder), f"modality {m!r}")
        # What is written keeps the path of a table, so that the table can still be corrected.
        kept = {k: v for k, v in guess.settings.items() if k == "colours"}
        guess.settings = {k: v for k, v in kind.to_config().items() if k in guess.settings} | kept
    info = DatasetInfo(folder.resolve().name, "sidelight describe", targets, roles.group or "", roles.split or "")
    types = {m: guess.settings for m, guess in found.items()}
    text = json.dumps({"format": FORMAT, "rows": len(table), **asdict(info), "modalities": types}, indent=1)
    write_atomic(path, text + "\n")
    read_prepared(folder)
    return path, found


def _read_table(folder: Path) -> pd.DataFrame:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected one with {TABLE_FILE}")
    table = read_frame(check_file(folder / TABLE_FILE))
    if not any(c.endswith(FILE) for c in table.columns):
        raise DataError(
            f"{folder / TABLE_FILE} has no column <modality>{FILE}, so it has no files to describe: "
            f"`sidelight inspect {folder}` reads it as it is"
        )
    if "id" not in table.columns:
        raise DataError(f"{folder / TABLE_FILE} has no column 'id'; each row needs a name of its own")
    return table


def _describe(folder: Path, table: pd.DataFrame, m: str, given: Mapping[str, Any], is_target: bool) -> Guess:
    """Kind and settings of one modality, by its first files."""
    cells = table[m + FILE]
    files = [folder / text for text in dict.fromkeys(cells[~missing(cells)].astype(str).str.strip())]
    if not files:
        raise DataError(f"{folder / TABLE_FILE}: column {m + FILE!r} names no file")
    suffixes = {table_suffix(path) for path in files}
    kind = str(given.get("kind", "")) or _guess_kind(suffixes, m, is_target, folder)
    some = [path if path.is_dir() else check_file(path) for path in files[:LOOKED_AT]]
    describe = DESCRIBE.get(kind)
    guess = describe(some, given) if describe else Guess({}, [])
    if guess.settings.pop("deep", False) and kind == "image" and "kind" not in given:
        kind = "depth"
        guess.guesses.append("kind: images of 16 bits are depths in millimeters (step)")
    guess.settings = {"kind": kind, **guess.settings, **given}
    reader = recording_type(expand_colours(guess.settings, folder), f"modality {m!r}")
    # A segment that the table cuts may be all that fits; the first file shows whether the settings do.
    reader.probe(Segment(some[0]))
    return guess


def _guess_kind(suffixes: set[str], m: str, is_target: bool, folder: Path) -> str:
    kinds = {
        "image": IMAGE_FILES,
        "raster": RASTER_FILES,
        "video": VIDEOS,
        "audio": SOUNDS,
        "array": ARRAY_FILES,
        "signal": TABLES,
    }
    for kind, known in kinds.items():
        if suffixes <= {*known}:
            return "labels" if is_target and kind in ("image", "raster") else kind
    raise DataError(
        f"{folder / TABLE_FILE}: column {m + FILE!r} names files of {listed(sorted(suffixes))}; expected one kind: "
        f"images, videos, sound, arrays or tables. Say which: {m}.kind=frames for folders of images"
    )


def _describe_images(files: Sequence[Path], given: Mapping[str, Any]) -> Guess:
    modes: list[str] = []
    sizes = Counter(read_image_size(path, lambda _, mode: modes.append(mode)) for path in files)
    size = sizes.most_common(1)[0][0]
    told = [] if len(sizes) == 1 else [f"size: files differ ({len(sizes)} sizes); the most common is written"]
    deep = any(mode.startswith("I") for mode in modes)
    return Guess({"size": list(size)} | ({"deep": True} if deep else {}), told)


def _describe_rasters(files: Sequence[Path], given: Mapping[str, Any]) -> Guess:
    found = [describe_raster(path) for path in files]
    told = (
        []
        if all(each == found[0] for each in found)
        else ["channels and size: files differ; those of the first one are written"]
    )
    return Guess(found[0], told)


def _describe_videos(files: Sequence[Path], given: Mapping[str, Any]) -> Guess:
    videos = [probe_video(path) for path in files]
    rates = [video.rate for video in videos]
    rate = {"rate": round(rates[0], 3)} if max(rates) - min(rates) < 0.01 * rates[0] else {}
    shortest = min(len(video) for video in videos)
    text = f"frames and stride: clips of 16 neighbouring frames; the shortest of {len(videos)} videos has {shortest}"
    return Guess({"size": [112, 112], "frames": 16, "stride": 1, **rate}, ["size: 112 x 112, as public networks", text])


def _describe_sounds(files: Sequence[Path], given: Mapping[str, Any]) -> Guess:
    soundfile = optional("soundfile", "audio", "reading sound files")
    rates = {float(soundfile.info(str(path)).samplerate) for path in files}
    if len(rates) == 1:
        return Guess({"rate": rates.pop(), "seconds": 0.0}, [])
    return Guess(
        {"rate": 0.0, "resample_to": min(rates), "seconds": 0.0},
        [f"resample_to: files have {listed(sorted(rates))} Hz; the lowest is written"],
    )


def _describe_arrays(files: Sequence[Path], given: Mapping[str, Any]) -> Guess:
    shapes = {load_array(path, "").shape for path in files}
    return Guess({"array_shape": list(shapes.pop()) if len(shapes) == 1 else []}, [])


def _describe_labels(files: Sequence[Path], given: Mapping[str, Any]) -> Guess:
    return Guess({"size": read_size(files[0])}, [])


def _describe_signals(files: Sequence[Path], given: Mapping[str, Any]) -> Guess:
    return Guess(*describe_signal(files[0], given))


DESCRIBE: dict[str, Callable[[Sequence[Path], Mapping[str, Any]], Guess]] = {
    "image": _describe_images,
    "depth": _describe_images,
    "raster": _describe_rasters,
    "labels": _describe_labels,
    "video": _describe_videos,
    "audio": _describe_sounds,
    "array": _describe_arrays,
    "signal": _describe_signals,
}
