"""Every value that released implementations gave is held against something."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from helpers.support import READ, reference

READERS = {"reference", "references", "with_rows"}
UNUSED = {"label"}
"""Inputs on which none of the values depends."""


def held_to_the_reference() -> Iterator[Callable[..., None]]:
    """The tests of this folder that read it."""
    for path in sorted(Path(__file__).parent.rglob("test_*.py")):
        if path != Path(__file__) and re.search(r"\breferences?\(", path.read_text()):
            functions = vars(
                importlib.import_module(".".join(path.relative_to(Path(__file__).parent).with_suffix("").parts))
            ).items()
            yield from (f for name, f in functions if name.startswith("test_") and READERS & names(f))


def names(function: Any) -> set[str]:
    """What a function's code mentions."""
    return set(function.__code__.co_names)


def cases(function: Any) -> Iterator[dict[str, Any]]:
    """The arguments with which pytest runs it."""
    columns = []
    for mark in getattr(function, "pytestmark", []):
        if mark.name != "parametrize":
            continue
        asked, values = mark.args
        one = [asked] if isinstance(asked, str) else list(asked)
        columns.append([dict(zip(one, [v] if len(one) == 1 else v)) for v in values])
    for chosen in product(*columns):
        yield {name: value for column in chosen for name, value in column.items()}


@pytest.mark.parametrize("size", [32, 128])
def test_every_value_of_the_reference_is_read(size):
    keys = set(reference(size))
    READ.clear()
    for function in held_to_the_reference():
        for arguments in cases(function):
            if arguments.get("size", size) == size:
                function(**arguments)
    assert keys - READ == UNUSED
