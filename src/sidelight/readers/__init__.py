"""Readers: one per public data set, from its official layout to a prepared folder."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from sidelight.errors import ConfigError, unknown

if TYPE_CHECKING:
    from sidelight.readers.base import Reader

__all__ = ["READERS", "make_reader", "reader_class"]

SHARED_MODULES = {"base", "progress", "rgbd", "sequences", "synthetic", "tables", "tables_of_files", "voices"}
"""Modules of this folder that readers share; every other module is a reader."""


def find_readers() -> dict[str, str]:
    """Name of each reader -> its module, from the files of this folder; nothing is imported.

    The file name is the reader's name with "_" for "-": `casia_surf.py` holds the reader "casia-surf".
    """
    names = (module.name for module in iter_modules(__path__))
    return {name.replace("_", "-"): f"{__name__}.{name}" for name in sorted(names) if name not in SHARED_MODULES}


READERS: dict[str, str] = find_readers()
"""Name -> module. A reader is imported when it is asked for."""


def reader_class(name: str) -> type[Reader]:
    """Import the reader of that name; raises ConfigError for an unknown name."""
    from sidelight.readers.base import Reader

    if name not in READERS:
        raise ConfigError(unknown("reader", name, READERS))
    module = import_module(READERS[name])
    # A module may import other readers to derive from, so the class is found by its name, not by being the only one.
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Reader) and getattr(value, "name", None) == name:
            return value
    raise ConfigError(f"{module.__name__} holds no Reader with name = {name!r}; the name and the file name must match")


def make_reader(name: str, options: Mapping[str, Any] | None = None) -> Reader:
    """Build a reader with its options.

    Args:
        name: of the reader, a key of `READERS`.
        options: option -> value, typed or as text.

    Raises:
        ConfigError: an unknown reader, option or value.
    """
    from sidelight.config.io import read_arguments

    cls = reader_class(name)
    try:
        return cls(**read_arguments(cls, options or {}, f"reader {name!r}"))
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if repr(name) in message else f"reader {name!r}: {message}") from None
