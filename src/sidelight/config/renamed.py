"""Settings that were renamed, and words that mean "none": one table each, read wherever a setting comes in.

To rename a setting, rename its field in `schema.py` and add a line to `RENAMED`. The old name is then accepted in YAML
files, `key=value` texts, flags, Python keywords, the defaults of data sets and stored runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from sidelight.errors import ConfigError
from sidelight.utils.keywords import renamed_keywords, warn_renamed

C = TypeVar("C")

RENAMED: dict[str, str] = {"label_groups": "label_fraction"}
"""Old dotted name of a setting -> its name today."""

NULL: dict[str, Any] = {
    "placebo": ["none"],
    "self_distillation": ["none"],
    "reference": ["none"],
    "student.hallucinate": "no",
    "impute": "no",
}
"""Dotted name of a setting that may be null (None) -> the value that null stands for, as it is stored."""


def current_name(name: str, warn: bool = True) -> str:
    """Today's name of a setting.

    Args:
        name: a dotted name, old or new.
        warn: whether to warn about an old name; stored runs are read without a warning.
    """
    new = RENAMED.get(name)
    if new is None:
        return name
    if warn:
        warn_renamed("setting", name, new)
    return new


def current_names(values: Mapping[str, Any], prefix: str = "", warn: bool = True) -> dict[str, Any]:
    """A mapping whose keys are settings, with today's name for each of them.

    Args:
        values: settings by name, all in one section.
        prefix: the section, with a dot behind it, e.g. "training."; "" for the settings outside of any section.
        warn: as in `current_name`.

    Raises:
        ConfigError: `values` holds a setting under its old and under its new name.
    """
    renamed: dict[str, Any] = {}
    for key, value in values.items():
        old = f"{prefix}{key}"
        new = current_name(old, warn)
        leaf = new.removeprefix(prefix)
        if new != old and leaf in values:
            raise ConfigError(f"{old} is the old name of {new}, and both are given. Keep {new} only.")
        renamed[key if new == old else leaf] = value
    return renamed


def accept_old_names(section: type[C]) -> type[C]:
    """Class decorator: the constructor of `Config` takes old names of settings too, with a warning."""
    names = {old: new for old, new in RENAMED.items() if "." not in old}
    section.__init__ = renamed_keywords(**names)(section.__init__)  # type: ignore[method-assign]
    return section
