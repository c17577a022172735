"""What the pages show can be typed: names exist, commands and settings are known, links lead somewhere."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from _site import method_pages

import sidelight
from helpers.pages import ROOT, Block, anchors, blocks, documents, links, pages
from sidelight import cli_parser
from sidelight.cli_parser import build_parser, parse
from sidelight.config import Config
from sidelight.config.io import settings
from sidelight.errors import SidelightError
from sidelight.methods import METHODS
from sidelight.readers import reader_class

SETTINGS = settings(Config)
TAKES_SETTINGS = ("run", "sweep", "refit", "suite")
SHOWN = re.compile(r"…|\.\.\.|^\|$")
"""What stands for something else: such a line is no command."""


def every(*languages: str) -> list[Block]:
    return [block for page in pages() for block in blocks(page, *languages)]


def missing_names(block: Block) -> Iterator[str]:
    """What a block imports from sidelight, or takes from it as `sl`, and what does not exist."""
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sidelight":
            module = import_module(node.module)
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sl":
            module, names = sidelight, [node.attr]
        else:
            continue
        yield from (name for name in names if not exists(module, name))


def exists(module: ModuleType, name: str) -> bool:
    """Whether a module has a name, or a package a module of it."""
    return hasattr(module, name) or (hasattr(module, "__path__") and bool(find_spec(f"{module.__name__}.{name}")))


def test_python_blocks_can_be_read_and_name_what_exists():
    found = every("python")
    assert len(found) > 40
    assert {f"{block.where}: {name}" for block in found for name in missing_names(block)} == set()


def test_the_picture_of_a_data_set_has_its_fields():
    block = next(
        block for block in every("python") if str(block.page) == "docs/design.md" and "@dataclass" in block.text
    )
    pictured = next(node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.ClassDef))
    shown = [node.target.id for node in pictured.body if isinstance(node, ast.AnnAssign)]
    assert shown == [field.name for field in fields(getattr(sidelight, pictured.name)) if field.name[0] != "_"]


def unknown_settings(args) -> Iterator[str]:
    names = [override.partition("=")[0] for override in args.overrides]
    if args.verb == "prepare" and args.name:
        options = {field.name for field in fields(reader_class(args.name))}
        yield from (name for name in names if name not in options)
    for name in names if args.verb in TAKES_SETTINGS else ():
        if name.startswith("options.") and name.split(".")[1] not in {*METHODS, "huber"}:  # of the pages' own method
            yield name
        if name not in SETTINGS and name.partition(".")[0] != "options":
            nested = [key for key, setting in SETTINGS.items() if setting.is_mapping and name.startswith(f"{key}.")]
            if not nested:
                yield name


def test_commands_are_understood(monkeypatch):
    monkeypatch.setattr(cli_parser, "build_parser", cache(cli_parser.build_parser))  # once, not for each command
    commands = [
        (block, words)
        for block in every("bash", "sh", "")
        for words in block.commands()
        for words in [words[words.index("-m") + 1 :] if words[:1] == ["torchrun"] else words]
        if words[:1] == ["sidelight"] and not any(SHOWN.search(word) for word in words)
    ]
    assert len(commands) > 100
    faults = []
    for block, words in commands:
        try:
            args = parse(words[1:])
        except (SidelightError, SystemExit) as error:
            faults.append(f"{block.where}: {' '.join(words)}: {error}")
        else:
            faults += [f"{block.where}: {' '.join(words)}: {name}" for name in unknown_settings(args)]
    assert faults == []


def test_other_commands_are_of_this_repository_or_of_programs_that_are_named():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    saved = {block.file for block in every("python", "yaml")} | {"check_onnx.py"}  # examples/check_onnx.py
    faults = []
    for block in every("bash", "sh"):
        for words in filter(None, block.commands()):
            match words:
                case ["make", target, *_]:
                    known = target in targets
                case ["python", file, *_] if file not in ("-c", "-m"):
                    known = file in saved or (ROOT / file).is_file()
                case ["pip", "install", what, *_]:
                    asked = re.match(r"(?:\.|sidelight)\[([\w,]+)\]$", what)
                    known = what in (".", "executorch") or (bool(asked) and {*asked[1].split(",")} <= {*extras})
                case ["tools/try_wheel.sh", *_]:
                    known = (ROOT / words[0]).is_file()
                case _:
                    known = words[0] in ("sidelight", "python", "torchrun", "hf", "tensorboard", "for", "done")
            if not known:
                faults.append(f"{block.where}: {' '.join(words)}")
    assert faults == []


def test_yaml_blocks_can_be_read_and_sections_have_known_settings():
    found = every("yaml")
    assert found
    for block in found:
        tree = yaml.safe_load(block.text)
        sections = {name.partition(".")[0] for name in SETTINGS if "." in name}
        for section in sections & set(tree):
            for key in tree[section]:
                assert f"{section}.{key}" in SETTINGS, f"{block.where}: {section}.{key}"


GENERATED = {ROOT / "docs" / "methods" / f"{name}.md": text for name, text in method_pages.pages().items()}


def broken(place: Path, text: str) -> Iterator[str]:
    """The links of a text that lead to no file, or to no heading of a page."""
    for target in links(text):
        name, _, anchor = target.partition("#")
        file = (place.parent / name).resolve() if name else place
        if not file.exists() and file not in GENERATED:
            yield f"{place.relative_to(ROOT)}: {target}"
        elif anchor and file.suffix == ".md" and anchor not in anchors(GENERATED.get(file) or file.read_text("utf-8")):
            yield f"{place.relative_to(ROOT)}: {target}: no such heading"


def test_links_lead_somewhere():
    found = documents() | GENERATED
    assert len(found) > 80
    assert [fault for place, text in found.items() for fault in broken(place, text)] == []


NOWHERE = ("[x](no.md)", "![x](docs/no.svg)", "[x](docs/faq.md#no)", "[x]: no.md", '<a href="no.md">')


@pytest.mark.parametrize("link", NOWHERE)
def test_a_link_that_leads_nowhere_is_found(link):
    assert list(broken(ROOT / "README.md", f"A page with\n\n{link}\n\nin it."))


def test_every_verb_is_shown_on_a_page():
    verbs = next(action.choices for action in build_parser()._actions if isinstance(action.choices, dict))
    shown = " ".join(page.read_text("utf-8") for page in pages())
    assert [verb for verb in verbs if f"sidelight {verb}" not in shown] == []


@pytest.mark.parametrize(
    "fault", ["from sidelight.losses import nothing_like_it", "import sidelight as sl\nsl.nothing()"]
)
def test_a_name_that_does_not_exist_is_found(fault):
    assert list(missing_names(Block(ROOT / "page.md", 1, "python", fault)))
