"""From a tree of dataclasses to flat dotted settings, and from YAML and `key=value` texts back; strict about both."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path, PurePath
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import yaml

from sidelight.errors import ConfigError, unknown

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One leaf of a tree of dataclasses: its dotted name, type, default and help."""

    name: str
    type: Any
    default: Any
    help: str

    @property
    def many(self) -> bool:
        return get_origin(self.type) is list

    @property
    def free(self) -> bool:
        """Whether names below it are not the schema's: whoever reads them knows which there are."""
        return get_origin(self.type) is dict

    @property
    def expected(self) -> str:
        """The type in words, for an error message."""
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
        if get_origin(self.type) is Literal:
            return "one of " + ", ".join(get_args(self.type))
        kinds = get_args(self.type) or (self.type,)
        return ("a list, each item " if self.many else "") + " or ".join(words[kind] for kind in kinds)


@cache
def settings(schema: type) -> dict[str, Setting]:
    """Every setting of `schema` by its dotted name."""
    return {setting.name: setting for setting in _leaves(schema, "")}


def _leaves(section: type, prefix: str) -> Iterator[Setting]:
    types, about = get_type_hints(section), arguments_help(section)
    for leaf in fields(section):
        if is_dataclass(types[leaf.name]):
            yield from _leaves(cast(type, types[leaf.name]), f"{prefix}{leaf.name}.")
        else:
            default = leaf.default if leaf.default_factory is MISSING else leaf.default_factory()
            yield Setting(prefix + leaf.name, types[leaf.name], default, about.get(leaf.name, ""))


def arguments_help(section: type) -> dict[str, str]:
    """What the docstring's `Args:` says about each field."""
    lines = inspect.cleandoc(section.__doc__ or "").partition("Args:\n")[2]
    return {name: " ".join(text.split()) for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", lines, re.M)}


def flatten(schema: type, tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted names and values of a nested mapping; every name must exist."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(schema, value, f"{name}.")
        elif value is not None or not _inside(schema, name):  # an empty section is no mistake
            yield find(schema, name).name, value


def find(schema: type, name: str) -> Setting:
    """The setting of that dotted name."""
    known = settings(schema)
    if name in known and not known[name].free:
        return known[name]
    for setting in known.values():
        if setting.free and name.startswith(f"{setting.name}."):
            rest = name.removeprefix(f"{setting.name}.")
            if not rest or "" in rest.split(".") or ("." in rest and get_args(setting.type)[1] is not Any):
                raise ConfigError(f"{setting.name}: {rest!r} is no name of one of them; expected a name without a dot.")
            return Setting(name, get_args(setting.type)[1], None, setting.help)
    if name in known:
        raise ConfigError(f"{name!r} is a group of settings; {known[name].help}")
    if inside := _inside(schema, name):
        raise ConfigError(f"{name!r} is a group of settings: {', '.join(inside)}.")
    section, _, leaf = name.rpartition(".")
    same = [other for other in known if other.rpartition(".")[2] == leaf]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    plain = [other for other in known if "." not in other]
    raise ConfigError(unknown("setting", name, same or _inside(schema, section) or dict.fromkeys(plain + near)))


def _inside(schema: type, section: str) -> list[str]:
    return [name for name in settings(schema) if name.startswith(f"{section}.")]


def build(schema: type[T], flat: Mapping[str, Any]) -> T:
    """An instance of `schema` from values by dotted name, either typed or as the texts of a command line."""
    import jsonargparse

    known = settings(cast(type, schema))
    values = {name: _prepare(known[name], value) for name, value in flat.items() if name in known}
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(schema)
    try:
        made = schema(**vars(parser.instantiate(parser.parse_object(values))))
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        found = re.search(r'key "([\w.]+)"', str(error))
        if not found or found[1] not in values:
            raise ConfigError(" ".join(str(error).split())) from None
        raise _wrong(known[found[1]], flat[found[1]]) from None
    for name, value in flat.items():
        if name not in known:
            _put(made, find(cast(type, schema), name), value)
    return made


def _put(made: Any, setting: Setting, value: Any) -> None:
    """A value below a free setting: "options.kl.temperature", "2" -> made.options["kl"]["temperature"] = 2.

    Where the free setting says no more than Any of its values, texts are read as YAML reads them.
    """
    *sections, leaf = setting.name.split(".")
    place = made
    for section in sections:
        place = place.setdefault(section, {}) if isinstance(place, dict) else getattr(place, section)
    if setting.type is Any or (setting.type is float and isinstance(value, str)):
        value = yaml.load(value, Loader=_Loader) if isinstance(value, str) else value
    elif isinstance(value, PurePath):
        value = str(value)
    if setting.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if setting.type is not Any and not isinstance(value, setting.type):
        raise _wrong(setting, value)
    place[leaf] = value


def read_arguments(function: Callable[..., Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The keyword arguments of `function` that `values` gives, checked against its signature; `where` names them.

    Raises:
        ConfigError: an argument that it does not have, or a value of another type.
    """
    import jsonargparse

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    taken = inspect.signature(function).parameters.values()
    names = [p.name for p in taken if p.kind is p.KEYWORD_ONLY or (p.default is not p.empty)]
    for name in values:
        if name not in names:
            raise ConfigError(unknown(f"setting of {where}", name, names))
    parser.add_function_arguments(function, skip={p.name for p in taken if p.name not in names})
    try:
        return {name: vars(parser.parse_object(dict(values)))[name] for name in values}
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise _wrong_argument(where, " ".join(str(error).split()), values) from None


def _wrong_argument(where: str, said: str, values: Mapping[str, Any]) -> ConfigError:
    """The parser's complaint in the words of the other settings."""
    found = re.search(r'key "(\w+)": Expected an? (.*?)\. Got value', said)
    if not found or found[1] not in values:
        return ConfigError(f"{where}: {said}")
    name, value = f"{where}.{found[1]}", values[found[1]]
    if "Literal[" in found[2] and isinstance(value, str):
        return ConfigError(unknown(f"value of {name}", value, re.findall(r"'([^']*)'", found[2])))
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    kind = next((words[kind] for kind in re.findall(r"\w+", found[2]) if kind in words), found[2])
    return ConfigError(f"{name}: expected {kind}, not {value!r}.")


def _prepare(setting: Setting, value: Any) -> Any:
    if value is None and NoneType not in get_args(setting.type):
        raise _wrong(setting, value)
    if isinstance(value, PurePath) and setting.type is str:
        return str(value)
    if isinstance(value, bool) and get_origin(setting.type) is Literal:  # another YAML reader's idea of yes and no
        return "yes" if value else "no"
    if setting.many and isinstance(value, str):
        text = re.sub(r"^\[(.*)\]$", r"\1", value.strip())
        return [part.strip().strip("'\"") for part in text.split(",") if part.strip()]
    return [value] if setting.many and isinstance(value, int | float) else value


def _wrong(setting: Setting, value: Any) -> ConfigError:
    if get_origin(setting.type) is Literal and isinstance(value, str):
        return ConfigError(unknown(f"value of {setting.name}", value, get_args(setting.type)))
    hint = " Put it in quotes if it is a text." if "text" in setting.expected and value is not None else ""
    return ConfigError(f"{setting.name}: expected {setting.expected}, not {value!r}.{hint}")


def read_yaml(path: Path) -> Mapping[Any, Any]:
    """The mapping that a YAML file holds."""
    try:
        tree = yaml.load(path.read_text("utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"cannot read the experiment: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"this is not YAML: {' '.join(str(error).split())}") from None
    if tree is not None and not isinstance(tree, Mapping):
        raise ConfigError(f"expected settings, one `name: value` a line, not {tree!r:.60}.")
    return tree or {}


def write_yaml(value: Any) -> str:
    """A dataclass as YAML that every reader understands alike."""
    return yaml.dump(asdict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of words and numbers (`impute: no` is a word, `1e-3` a number), and no key twice."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] in ("int", "null", "merge")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"the setting {key!r} is given twice.")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some YAML reader would take for a number, a truth value or a date."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _resolve(readers: Iterable[Any], tag: str, pattern: str, first: str) -> None:
    for reader in readers:
        reader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_resolve([_Loader], "bool", r"(true|True|TRUE|false|False|FALSE)$", "tTfF")
_FLOAT = r"([-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
_resolve([_Loader, _Dumper], "float", _FLOAT, "-+.0123456789")
