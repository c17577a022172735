"""Keyword arguments of public functions that do not exist, answered like settings: with the one that was meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from sidelight.errors import ConfigError, unknown

P = ParamSpec("P")
R = TypeVar("R")


def known_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """The function; a keyword argument that it does not have raises a ConfigError that names the nearest it has."""
    names = list(inspect.signature(function).parameters)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                raise ConfigError(unknown(f"argument of {function.__name__}", name, names))
        return function(*args, **kwargs)

    return checked
