"""Text for the terminal: sections with indented, wrapped lines."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable


def width() -> int:
    """Columns to write in: those of the terminal, between 40 and 100."""
    return max(40, min(shutil.get_terminal_size().columns, 100))


def section(title: str, lines: Iterable[str]) -> str:
    """A title with its lines beneath it, indented and wrapped; "" without lines.

    Args:
        title: the first line.
        lines: the lines; each starts at the indent, and what does not fit goes on two columns further in.
    """
    wrapped = [
        textwrap.fill(
            line, width(), initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )
        for line in lines
    ]
    return "\n".join([title, *wrapped, ""]) if wrapped else ""


def commands(title: str, words: Iterable[str]) -> str:
    """A title with commands beneath it, each on one line of its own so that it can be copied."""
    return "\n".join([title, *(f"  {command}" for command in words), ""])


def entry(name: str, *paragraphs: str) -> None:
    """A name and what there is to say about it, wrapped to the terminal (addresses and formulas stay whole)."""
    print(name)
    for text in paragraphs:
        if text.startswith(" "):
            print(textwrap.indent(text, "  "))
            continue
        print(textwrap.fill(text, width(), initial_indent="  ", subsequent_indent="  ", break_long_words=False))
    print()
