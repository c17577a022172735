"""Recording types, label maps, and rows that stay files until they are read."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidelight.recordings.registry import (
        RECORDING_TYPES,
        Array,
        Audio,
        Depth,
        Frames,
        Image,
        Labels,
        Raster,
        RecordingType,
        Segment,
        Signal,
        Size,
        Text,
        Video,
        recording_type,
    )

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
    "Segment",
    "Signal",
    "Size",
    "Text",
    "Video",
    "recording_type",
]


def __getattr__(name: str) -> Any:
    """Recording types are imported on first use: rows that stay files do not need the readers of sound and signals."""
    if name in __all__:
        return getattr(import_module("sidelight.recordings.registry"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
