"""Read and write YAML 1.2 for experiments, with limits on size and depth, and errors of one sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from sidelight.errors import ConfigError, SidelightError, shown
from sidelight.utils.files import describe_content, read_text

LARGEST = 2**20
"""Most characters of a YAML text; an experiment has a few thousand."""
MOST_NODES = 10_000
"""Most values, lists and mappings of a text; an alias counts as all that it stands for."""
DEEPEST = 20
"""Most levels of nested lists and mappings."""


def read_yaml(path: Path) -> Mapping[Any, Any]:
    """Read a YAML file that contains a mapping; raises ConfigError for everything else."""
    tree = parse_yaml(read_text(path, ConfigError), path)
    if tree is not None and not isinstance(tree, Mapping):
        content = describe_content(path, of_text=True) or shown(tree, 60)
        raise ConfigError(f"expected settings, one `name: value` per line, not {content}.")
    return tree or {}


def parse_yaml(text: str, path: Path | None = None) -> Any:
    """Parse a YAML text.

    Args:
        text: one document.
        path: the file that it comes from, whose first bytes may explain why it is not YAML.

    Raises:
        ConfigError: the text is not YAML, too large, too deep, has a tag that would build an object (`!!python/…`), or
            has aliases that stand for too many values.
    """
    if len(text) > LARGEST:
        raise ConfigError(f"this has {len(text)} characters; expected settings, at most {LARGEST}.")
    try:
        return yaml.load(text, Loader=_Loader)
    except SidelightError:
        raise
    except RecursionError:
        raise ConfigError("this is not YAML: its values are nested too deeply.") from None
    except Exception as error:  # a tag with a wrong text (`!!int x`) raises Python's errors, not YAMLError
        content = describe_content(path, of_text=True) if path is not None else ""
        raise ConfigError(f"this is not YAML: {content or _describe_error(error)}") from None


def _describe_error(error: Exception) -> str:
    """What is wrong and where, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    if "digits" in str(error):
        return "a number has more than 4300 digits"
    return " ".join(str(error).split())[:200]


def write_yaml(value: Any) -> str:
    """Write a dataclass as YAML that YAML 1.1 and 1.2 readers read alike."""
    return yaml.dump(asdict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)


class _Loader(yaml.SafeLoader):
    """Loads words and numbers as in YAML 1.2 (`impute: no` is a word, `1e-3` a number) and refuses repeated keys."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] in ("null", "merge")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str):
        super().__init__(stream)
        self.nodes = self.depth = 0
        self.sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next value. It counts the values inside, so that aliases cannot multiply without a limit."""
        before, alias = self.nodes, self.check_event(yaml.AliasEvent)
        self.nodes, self.depth = self.nodes + 1, self.depth + 1
        if self.depth > DEEPEST:
            raise ConfigError(f"its values are nested more than {DEEPEST} levels deep.")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        if alias:
            if id(node) not in self.sizes:
                raise ConfigError("an alias (*name) stands for a value that contains it.")
            self.nodes += self.sizes[id(node)]
        if self.nodes > MOST_NODES:
            raise ConfigError(
                f"it has more than {MOST_NODES} values, with aliases (*name) counted as what they stand for."
            )
        self.sizes.setdefault(id(node), self.nodes - before)
        return node

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        """A whole number as in YAML 1.2: 010 is ten, and 1:30 is not a number."""
        text = self.construct_scalar(node)
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                raise ConfigError(f"the setting {shown(key)} is given twice.")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that a YAML reader may take for a number, a bool or a date."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _resolve(readers: Iterable[Any], tag: str, pattern: str, first: str) -> None:
    for reader in readers:
        reader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_Dumper.add_multi_representer(str, _Dumper.represent_str)  # subclasses of str are written as texts
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole)
_resolve([_Loader], "int", r"([-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+)$", "-+0123456789")
_resolve([_Loader], "bool", r"(true|True|TRUE|false|False|FALSE)$", "tTfF")
_FLOAT = r"([-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
_resolve([_Loader, _Dumper], "float", _FLOAT, "-+.0123456789")
