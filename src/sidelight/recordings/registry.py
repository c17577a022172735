"""The recording types that a prepared folder may name, and how their settings are read from JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from sidelight.config.io import read_arguments
from sidelight.errors import ConfigError, listed, shown, unknown
from sidelight.recordings.base import RecordingType, Segment, Size
from sidelight.recordings.label_maps import Labels
from sidelight.recordings.pictures import Depth, Frames, Image, Video
from sidelight.recordings.raster import Raster
from sidelight.recordings.row_array import Rows
from sidelight.recordings.series import Array, Audio, Signal, Text
from sidelight.synonyms import find_meant

__all__ = [
    "RECORDING_TYPES",
    "Array",
    "Audio",
    "Depth",
    "Frames",
    "Image",
    "Labels",
    "Raster",
    "RecordingType",
    "Rows",
    "Segment",
    "Signal",
    "Size",
    "Text",
    "Video",
    "recording_type",
]

RECORDING_TYPES: dict[str, type[RecordingType]] = {
    kind.kind: kind for kind in (Video, Frames, Image, Depth, Raster, Labels, Audio, Signal, Array, Text, Rows)
}


MOST_VALUES = 2**30
"""Values of a row, at most; a wrong unit of a size or a length would else fill the memory before anything tells."""


def recording_type(config: Mapping[str, Any], where: str = "") -> RecordingType:
    """Build the recording type that `to_config` wrote.

    Args:
        config: kind and settings.
        where: name of the modality in errors.

    Raises:
        ConfigError: names an unknown, missing or wrong setting.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"{where or 'a recording'} is {shown(config)}; expected its kind and settings")
    given = dict(config)
    name = given.pop("kind", None)
    if name is None and given:
        near = find_meant("kind", [*given])
        hint = f" Did you mean it by {near!r}?" if near else ""
        raise ConfigError(f"{where or 'a recording'}: no kind is given.{hint} Kinds: {listed([*RECORDING_TYPES])}.")
    if not isinstance(name, str) or name not in RECORDING_TYPES:
        raise ConfigError(
            f"{where}: {unknown('kind', name, RECORDING_TYPES)}" if where else unknown("kind", name, RECORDING_TYPES)
        )
    what, made_of = f"{where or 'a recording'} of kind {name!r}", RECORDING_TYPES[name]
    known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(made_of)}
    lost = [repr(setting) for setting, needed in known.items() if needed and setting not in given]
    if lost and known.keys() >= given.keys():  # else a setting may be spelt wrongly, which is said first
        raise ConfigError(f"{what} needs a value of {' and '.join(lost)}")
    try:
        made = made_of(**read_arguments(made_of, given, what))
        if (values := math.prod(made.shape or ())) > MOST_VALUES:
            raise ConfigError(f"a row has {values:,} values with these settings; expected at most {MOST_VALUES:,}")
        return made
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if what in message else f"{what}: {message}") from None
