"""Checks of the arguments of `load`, before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sidelight.errors import ConfigError, shown
from sidelight.utils.names import check_modality

Recipe = str | Sequence[str] | Mapping[str, Any] | None
"""How a modality is found: a column prefix, channels of another ("image[3]"), columns, settings, or by its name."""
Modalities = Sequence[str] | Mapping[str, Recipe]
"""Names, or name -> recipe."""


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
        for m, how in given.items():
            if isinstance(how, Mapping):
                if not all(isinstance(name, str) for name in how) or not isinstance(how.get("of", ""), str):
                    raise ConfigError(f"modalities: {m!r}: expected settings such as of, kind, pick, not {shown(how)}")
            elif how is not None and not isinstance(how, str) and not _are_texts(how):
                raise ConfigError(
                    f"modalities: expected a prefix, columns, channels such as image[3], or settings of {m!r}, not "
                    f"{shown(how)}"
                )
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
