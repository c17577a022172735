"""A page of the reference for every package that names what is public (`__all__`)."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import sidelight
from _site.docstrings import plain
from _site.pages import write_pages

ALSO = ("sidelight.errors", "sidelight.metrics", "sidelight.networks.build", "sidelight.networks.network")
"""Modules whose names users import, though no package names them."""


def write(folder: Path) -> None:
    """Write the pages of the reference, and their index."""
    modules = [*packages(), *(import_module(name) for name in ALSO)]
    pages = {f"{module.__name__}.rst": page(module) for module in modules}
    write_pages(folder, {**pages, "index.rst": index(modules)})


def packages() -> Iterator[ModuleType]:
    """Every package that says what is public; sidelight itself first."""
    yield sidelight
    for found in pkgutil.iter_modules(sidelight.__path__, "sidelight."):
        if found.ispkg and hasattr(module := import_module(found.name), "__all__"):
            yield module


def public(module: ModuleType) -> dict[str, Any]:
    """What a module names as public and `sidelight` itself does not have: name -> object."""
    names = getattr(module, "__all__", None) or [
        name for name, thing in vars(module).items()
        if name[0] != "_" and getattr(thing, "__module__", "") == module.__name__
    ]  # fmt: skip
    things = {name: getattr(module, name) for name in names}
    if module is sidelight:
        return things
    top = [getattr(sidelight, name) for name in sidelight.__all__]
    return {name: thing for name, thing in things.items() if not any(thing is other for other in top)}


def page(module: ModuleType) -> str:
    """The page of a module: what it says of itself, a table of its names, and each of them."""
    title = module.__name__
    things = public(module)
    elsewhere = [name for name in getattr(module, "__all__", []) if name not in things]
    lines = [
        title,
        "=" * len(title),
        "",
        f".. automodule:: {title}",
        "   :no-members:",
        "",
        f".. currentmodule:: {title}",
        "",
    ]
    if elsewhere:
        links = ", ".join(f":py:obj:`~sidelight.{name}`" for name in elsewhere)
        lines += [f"Also here, described with :doc:`sidelight <sidelight>`: {links}.", ""]
    listed = {name: thing for name, thing in things.items() if inspect.isclass(thing) or inspect.isroutine(thing)}
    if listed:
        lines += [".. list-table::", "   :widths: auto", ""]
        for name, thing in listed.items():
            lines += [f"   * - :py:obj:`{name} <{title}.{name}>`", f"     - {sentence(thing)}"]
        lines += [""]
    for name, thing in things.items():
        lines += [*entry(name, thing), ""]
    return "\n".join(lines)


def sentence(thing: Any) -> str:
    """The first paragraph of a docstring, in the form that Sphinx reads."""
    return plain(" ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split()))


def entry(name: str, thing: Any) -> list[str]:
    """The directive that describes an object: by its docstring, or a registry by what it holds."""
    if inspect.isclass(thing):
        return [f".. autoclass:: {name}", "   :members:"]
    if inspect.isroutine(thing):
        return [f".. autofunction:: {name}"]
    lines = [f".. py:data:: {name}", f"   :type: {type(thing).__name__}", ""]
    if isinstance(thing, dict | tuple | list | set | frozenset) and all(isinstance(key, str) for key in thing):
        lines += ["   " + ", ".join(f"``{key}``" for key in thing) + "."]
    return lines


def index(modules: list[ModuleType]) -> str:
    """The index of the reference."""
    title = "API reference"
    intro = "Made from the docstrings. What is not here is not public and may change without notice."
    rows = [f"   {module.__name__}" for module in modules]
    return "\n".join([title, "=" * len(title), "", intro, "", ".. toctree::", "   :maxdepth: 1", "", *rows, ""])
