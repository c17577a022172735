"""Errors that a user sees: each names what is wrong, what was expected, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SidelightError(Exception):
    """Base class of every error that sidelight raises on purpose."""


class DataError(SidelightError, ValueError):
    """The data are not what they were declared to be: names the file, row, modality and value."""


class ConfigError(SidelightError, ValueError):
    """A setting is unknown or cannot be used: names the setting and the nearest valid one."""


class RunError(SidelightError, RuntimeError):
    """A stored run, checkpoint or model file cannot be used as asked."""


class DiskError(RunError):
    """A file or folder cannot be written: the disk is full, or not writable."""


class SidelightWarning(UserWarning):
    """Something legal that a careful user would want to know."""


def unknown(kind: str, name: object, valid: Iterable[object]) -> str:
    """The sentence for a name that does not exist: what was given, the nearest valid name, and all of them."""
    names = [str(v) for v in valid]
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {str(name)!r}.{hint} Valid: {', '.join(names) or '(none)'}."
