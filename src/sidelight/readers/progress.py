"""A progress bar over the files of a data set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def progress_bar(items: Iterable[Any], total: int, description: str) -> Iterable[Any]:
    """Show a progress bar on stderr while the items are consumed.

    Args:
        items: passed through unchanged.
        total: number of items.
        description: shown beside the bar.

    Returns:
        The same items, in order.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    # A log file would fill with control characters, so the bar appears on a terminal only.
    return track(items, description, total, console=console, disable=not console.is_terminal)
