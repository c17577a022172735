"""Docstrings as this project writes them, in the form that Sphinx reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

CODE = re.compile(r"(:[\w:]+:)?(``[^`]+``|`[^`\n]+`)")
SPAN = re.compile(r"``(?:(?!\n\s*\n)[^`])+``|`(?:(?!\n\s*\n)[^`])+`")
"""Code that may run on in the next line."""
SPECIAL = re.compile(r"[*|]|_(?=\W|$)")


def to_rst(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """`name` is code, formulas are plain text (`|x|`, `s_i*`), and an indented block is set as it is written."""
    text = SPAN.sub(lambda code: " ".join(code[0].split()), "\n".join(lines))
    lines[:] = list(_rewritten(text.split("\n")))


def skip_foreign(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Leave out members that another library has put into a class, such as scikit-learn's `set_fit_request`."""
    return True if str(getattr(thing, "__module__", "")).startswith(("sklearn.", "torch.")) else None


def _rewritten(lines: list[str]) -> Iterator[str]:
    block: int | None = None  # the indent of the paragraph that a literal block follows
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        if block is not None:
            yield line
            continue
        yield plain(line)
        after = lines[number + 1 : number + 3]
        if line.strip() and len(after) == 2 and not after[0].strip() and after[1].startswith(" " * (indent + 4)):
            block = indent
            yield from ("", " " * indent + "::")


def plain(line: str) -> str:
    """A line in which stars, bars and trailing underscores mean themselves, and what stands in backticks is code."""
    parts, end = [], 0
    for code in CODE.finditer(line):
        joined = "\\ " if line[code.end() : code.end() + 1].isalnum() else ""  # `Step`s
        shown = code[0] if code[1] else f"``{code[2].strip('`')}``"  # :func:`crd` is a link
        parts += [SPECIAL.sub(r"\\\g<0>", line[end : code.start()]), shown, joined]
        end = code.end()
    return "".join([*parts, SPECIAL.sub(r"\\\g<0>", line[end:])])
