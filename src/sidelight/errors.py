"""Errors and warnings for users. Each names what is wrong, what was expected, and how to fix it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sidelight.synonyms import find_meant


class SidelightError(Exception):
    """Base class of every error that sidelight raises on purpose."""


class DataError(SidelightError, ValueError):
    """The data differ from their declaration; the message names the file, row, modality and value."""


class ConfigError(SidelightError, ValueError):
    """A setting is unknown or has an invalid value; the message names the setting and the nearest valid one."""


class RunError(SidelightError, RuntimeError):
    """A stored run, checkpoint or model file cannot be used as asked."""


class UnfinishedError(RunError):
    """The study was stopped before its end; everything is kept, and the same command goes on with it."""


class CheckpointError(RunError):
    """A checkpoint is damaged or belongs to another job; the job can be trained from its start."""


class DiskError(RunError):
    """A file or folder cannot be written: the disk is full, or not writable."""


class SidelightWarning(UserWarning):
    """Something valid that a careful user would want to know."""


def unknown(kind: str, name: object, valid: Iterable[object]) -> str:
    """Word the error for a name that does not exist.

    Args:
        kind: what the name stands for, e.g. "setting".
        name: the name that was given.
        valid: the names that exist.

    Returns:
        A sentence with the name, the one that was probably meant, and all valid ones.
    """
    names = [str(v) for v in valid]
    found = find_meant(str(name), names)
    hint = f" Did you mean {found!r}?" if found else ""
    return f"unknown {kind} {shown(str(name))}.{hint} Valid: {listed(names)}."


def listed(names: Sequence[object], most: int = 40) -> str:
    """Join names for the end of a sentence; only the first `most` of them."""
    shorter = [str(name) if len(str(name)) <= 100 else f"{str(name)[:100]}…" for name in names[:most]]
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return (", ".join(shorter) or "(none)") + more


def shown(value: object, limit: int = 100) -> str:
    """A value as Python writes it, cut after `limit` characters so that errors stay readable."""
    try:
        text = repr(value)
    except Exception:  # e.g. a number with more digits than Python prints, a list that contains itself
        return f"a {type(value).__name__}"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
