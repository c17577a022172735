"""Keyword arguments of public functions: unknown ones are answered with the nearest name, renamed ones are accepted."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from sidelight.errors import ConfigError, SidelightWarning, unknown

P = ParamSpec("P")
R = TypeVar("R")


def known_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: an unknown keyword argument raises a ConfigError that names the nearest parameter."""
    names = list(inspect.signature(function).parameters)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                raise ConfigError(unknown(f"argument of {function.__name__}", name, names))
        return function(*args, **kwargs)

    return checked


def renamed_keywords(**renamed: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: a keyword argument may still be given under its old name, with a warning.

    Args:
        renamed: old name -> the parameter's name today, e.g. `labels="label_fraction"`.

    Raises:
        ConfigError: when called with the old and the new name of one parameter.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given: dict[str, Any] = dict(kwargs)
            for old in given.keys() & renamed.keys():
                new = renamed[old]
                if new in given:
                    raise ConfigError(f"{old} is the old name of {new}, and both are given. Keep {new} only.")
                warn_renamed("argument", old, new, stacklevel=3)
                given[new] = given.pop(old)
            return function(*args, **given)  # type: ignore[arg-type]

        return call

    return decorate


def warn_renamed(kind: str, old: str, new: str, stacklevel: int = 4) -> None:
    """Warn that a setting or argument was renamed.

    Args:
        kind: what it is, e.g. "setting" or "argument".
        old: the name that was given.
        new: its name today.
        stacklevel: as in `warnings.warn`.
    """
    warnings.warn(f"{kind} {old!r} is now called {new!r}.", SidelightWarning, stacklevel=stacklevel)
