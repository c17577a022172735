"""Imports run one way through the house (docs/design.md), those for types and those inside of functions included."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import sidelight

HOUSE = """
synonyms cli_examples
errors
utils
config doctor signals transport
runs
cli_flags formats losses reference_models results video
recordings cli_verbs
data cli_parser
metrics protocols readers
networks report
inspection
advice extract sessions tasks
methods export
training sweeps
tracking
experiment imports
estimators suite testing verbs
cli sidelight
__main__
"""
"""Rooms (folders, and the files beside them), floor by floor: a room imports from the floors below its own."""
FLOORS = {room: floor for floor, rooms in enumerate(HOUSE.split("\n")) for room in rooms.split()}
SOURCE = Path(sidelight.__file__).parent


def imports(package: Path) -> dict[str, set[str]]:
    """Every module of a package by its dotted name -> the modules of the package that it names in an import."""
    files = {path.relative_to(package.parent).with_suffix(""): path for path in package.rglob("*.py")}
    paths = {".".join(name.parts).removesuffix(".__init__"): path for name, path in files.items()}
    found: dict[str, set[str]] = {name: set() for name in paths}
    for name, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno} imports relative to itself, which nothing else here does"
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= {module if module in paths else str(node.module) for module in inside}
        found[name] = (found[name] & set(paths)) - {name}
    return found


def room(module: str) -> str:
    return [*module.split("."), module][1]


def upward(modules: dict[str, set[str]], floors: dict[str, int]) -> list[str]:
    """The imports from a room of the same floor or a higher one."""
    pairs = [(a, b) for a, named in modules.items() for b in named if room(a) != room(b)]
    return sorted(f"{a} imports {b}" for a, b in pairs if floors[room(a)] <= floors[room(b)])


def circles(modules: dict[str, set[str]], most: int = 2) -> list[list[str]]:
    """Sets of more than `most` modules each of which leads to all of the others."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            new = modules[todo.pop()] - seen
            seen |= new
            todo += new
        return seen

    reach = {module: reached(module) for module in modules}
    around = {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in modules}
    return sorted(list(circle) for circle in around if len(circle) > most)


@cache
def modules_of_house() -> dict[str, set[str]]:
    return imports(SOURCE)


def test_every_room_has_its_floor():
    assert {room(module) for module in modules_of_house()} == set(FLOORS)


@pytest.mark.parametrize("name", FLOORS)
def test_a_room_imports_from_the_floors_below(name):
    assert upward({a: named for a, named in modules_of_house().items() if room(a) == name}, FLOORS) == []


@pytest.mark.parametrize("name", FLOORS)
def test_no_more_than_two_files_of_a_room_import_each_other(name):
    inside = {a: {b for b in named if room(b) == name} for a, named in modules_of_house().items() if room(a) == name}
    assert circles(inside) == []


def test_what_is_forbidden_is_found(tmp_path):
    house = tmp_path / "house"
    for path, text in {
        "__init__.py": "from house import roof\n",
        "ground/__init__.py": "",
        "ground/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.ground.b import B\n",
        "ground/b.py": "import house.ground.c\nimport os\nB = 1\n",
        "ground/c.py": "def late():\n    from house.ground import a\n",
        "ground/d.py": "from house.roof import up\n",
        "roof.py": "from house.ground.d import down\nfrom house.ground import a\n",
    }.items():
        (house / path).parent.mkdir(parents=True, exist_ok=True)
        (house / path).write_text(text)
    modules = imports(house)
    assert modules["house.roof"] == {"house.ground.a", "house.ground.d"}
    assert upward(modules, {"ground": 0, "roof": 1, "house": 2}) == ["house.ground.d imports house.roof"]
    assert circles(modules) == [["house.ground.a", "house.ground.b", "house.ground.c"]]
    assert circles(modules, most=1) == [*circles(modules), ["house.ground.d", "house.roof"]]
