"""Readers of recordings by the field's own libraries: every stream at its own rate, unit and time."""

from __future__ import annotations

from sidelight.formats.registry import FORMATS, Format, read_events, read_recordings

__all__ = ["FORMATS", "Format", "read_events", "read_recordings"]
