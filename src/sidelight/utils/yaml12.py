"""YAML as experiments are written in it: words and numbers of YAML 1.2, within limits, every fault one sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from sidelight.errors import ConfigError, SidelightError, shown
from sidelight.utils.files import read_text, told_by_content

LARGEST = 2**20
"""Characters of a text that is read as YAML: an experiment has a few thousand."""
MOST_NODES = 10_000
"""Values, lists and mappings of a text, an alias counted as all that it stands for."""
DEEPEST = 20
"""Levels of lists and mappings inside of one another."""


def read_yaml(path: Path) -> Mapping[Any, Any]:
    """The mapping that a YAML file holds; raises ConfigError for everything else."""
    tree = parse_yaml(read_text(path, ConfigError), path)
    if tree is not None and not isinstance(tree, Mapping):
        told = told_by_content(path, of_text=True) or shown(tree, 60)
        raise ConfigError(f"expected settings, one `name: value` a line, not {told}.")
    return tree or {}


def parse_yaml(text: str, path: Path | None = None) -> Any:
    """The value of a YAML text.

    Args:
        text: of one document.
        path: the file that it comes from, whose first bytes may say why it is no YAML.

    Raises:
        ConfigError: the text is no YAML, too large, too deep, names what would be built from it (`!!python/…`), or has
            aliases that stand for more than a file may hold.
    """
    if len(text) > LARGEST:
        raise ConfigError(f"this has {len(text)} characters; expected settings, at most {LARGEST}.")
    try:
        return yaml.load(text, Loader=_Loader)
    except SidelightError:
        raise
    except RecursionError:
        raise ConfigError("this is not YAML: its values lie too deep inside of one another.") from None
    except Exception as error:  # beside YAMLError, a tag whose text is wrong (`!!int x`) raises whatever Python does
        told = told_by_content(path, of_text=True) if path is not None else ""
        raise ConfigError(f"this is not YAML: {told or _said(error)}") from None


def _said(error: Exception) -> str:
    """What is wrong and where, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    if "digits" in str(error):
        return "a number has more than 4300 digits"
    return " ".join(str(error).split())[:200]


def write_yaml(value: Any) -> str:
    """A dataclass as YAML that every reader understands alike."""
    return yaml.dump(asdict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of words and numbers (`impute: no` is a word, `1e-3` a number), no key twice, within limits."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] in ("null", "merge")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str):
        super().__init__(stream)
        self.nodes = self.depth = 0
        self.sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next value; counts what it holds, so that aliases cannot grow into more than was written."""
        before, alias = self.nodes, self.check_event(yaml.AliasEvent)
        self.nodes, self.depth = self.nodes + 1, self.depth + 1
        if self.depth > DEEPEST:
            raise ConfigError(f"its values lie more than {DEEPEST} levels deep inside of one another.")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        if alias:
            if id(node) not in self.sizes:
                raise ConfigError("an alias (*name) stands for a value that holds it.")
            self.nodes += self.sizes[id(node)]
        if self.nodes > MOST_NODES:
            raise ConfigError(
                f"it holds more than {MOST_NODES} values, aliases (*name) counted as what they stand for."
            )
        self.sizes.setdefault(id(node), self.nodes - before)
        return node

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        """A whole number: 010 is ten, as in YAML 1.2, and 1:30 no number at all."""
        text = self.construct_scalar(node)
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                raise ConfigError(f"the setting {shown(key)} is given twice.")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some YAML reader would take for a number, a truth value or a date."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _resolve(readers: Iterable[Any], tag: str, pattern: str, first: str) -> None:
    for reader in readers:
        reader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_Dumper.add_multi_representer(str, _Dumper.represent_str)  # a text of a class of its own is a text
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole)
_resolve([_Loader], "int", r"([-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+)$", "-+0123456789")
_resolve([_Loader], "bool", r"(true|True|TRUE|false|False|FALSE)$", "tTfF")
_FLOAT = r"([-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
_resolve([_Loader, _Dumper], "float", _FLOAT, "-+.0123456789")
