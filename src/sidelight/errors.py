"""Errors that a user sees: each names what is wrong, what was expected, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sidelight.synonyms import meant


class SidelightError(Exception):
    """Base class of every error that sidelight raises on purpose."""


class DataError(SidelightError, ValueError):
    """The data are not what they were declared to be: names the file, row, modality and value."""


class ConfigError(SidelightError, ValueError):
    """A setting is unknown or cannot be used: names the setting and the nearest valid one."""


class RunError(SidelightError, RuntimeError):
    """A stored run, checkpoint or model file cannot be used as asked."""


class CheckpointError(RunError):
    """A checkpoint is damaged, or of another job; the job can be trained from its beginning."""


class DiskError(RunError):
    """A file or folder cannot be written: the disk is full, or not writable."""


class SidelightWarning(UserWarning):
    """Something legal that a careful user would want to know."""


def unknown(kind: str, name: object, valid: Iterable[object]) -> str:
    """The sentence for a name that does not exist: what was given, the name that was meant, and all valid ones."""
    names = [str(v) for v in valid]
    found = meant(str(name), names)
    hint = f" Did you mean {found!r}?" if found else ""
    return f"unknown {kind} {shown(str(name))}.{hint} Valid: {listed(names)}."


def listed(names: Sequence[object], most: int = 40) -> str:
    """Names for the end of a sentence; of many only the first."""
    shorter = [str(name) if len(str(name)) <= 100 else f"{str(name)[:100]}…" for name in names[:most]]
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return (", ".join(shorter) or "(none)") + more


def shown(value: object, limit: int = 100) -> str:
    """A value as Python writes it, cut where it is long: errors stay readable whatever they are about."""
    try:
        text = repr(value)
    except Exception:  # e.g. a number of more digits than Python writes, a list that holds itself
        return f"a {type(value).__name__}"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
