"""A bar over the files of a data set, on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def bar(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    """The same items, shown on stderr as they pass where people read it."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, total, console=console, disable=not console.is_terminal)
