"""Checks of the arguments of `load`, before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sidelight.errors import ConfigError, shown
from sidelight.utils.names import check_modality

Modalities = Sequence[str] | Mapping[str, str | Sequence[str] | None]
"""Names, or name -> column prefix, list of columns or None."""


def check_modalities(given: Any) -> Modalities | None:
    """The modalities that a user names, checked; a single name becomes a list. Raises ConfigError."""
    if given is None:
        return None
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, Mapping | Sequence):
        raise ConfigError(f"modalities: expected names, or a mapping from names to columns, not {shown(given)}")
    for m in given:
        check_modality(m, "modalities", ConfigError)
    if isinstance(given, Mapping):
        for m, columns in given.items():
            if columns is not None and not isinstance(columns, str) and not _are_texts(columns):
                raise ConfigError(f"modalities: expected a prefix or columns of {m!r}, not {shown(columns)}")
    return given


def split_columns(columns: Any) -> Any:
    """The columns of a modality as `load` takes them: "gsr,scl", as a command line has it, is a list."""
    if isinstance(columns, str) and "," in columns:
        return [c.strip() for c in columns.split(",") if c.strip()]
    return columns


def _are_texts(value: object) -> bool:
    return isinstance(value, Sequence) and all(isinstance(v, str) for v in value)


def check_texts(given: Mapping[str, object], target: object) -> None:
    """Raise ConfigError for an argument that should be a name but is not a string.

    given: argument -> value. target: a name, or several.
    """
    for argument, value in given.items():
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{argument}: expected a text, not {shown(value)}")
    if target is not None and not isinstance(target, str) and not _are_texts(target):
        raise ConfigError(f"target: expected the name of a column, or several, not {shown(target)}")
