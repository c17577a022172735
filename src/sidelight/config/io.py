"""From a tree of dataclasses to flat dotted settings, and from typed values and `key=value` texts back; strict."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import PurePath
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from sidelight.errors import ConfigError, shown, unknown
from sidelight.synonyms import instead, meant
from sidelight.utils.yaml12 import parse_yaml

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


def arguments_help(documented: Any) -> dict[str, str]:
    """What the `Args:` of a class's or function's docstring says about each field or argument."""
    lines = inspect.cleandoc(documented.__doc__ or "").partition("Args:\n")[2]
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
    if "" in name.split("."):
        raise ConfigError(f"{shown(name)} is no name of a setting; expected e.g. transport.epsilon or folds.")
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
    if told := instead(name):
        raise ConfigError(f"there is no setting {name!r}: {told}.")
    likely = meant(name, [*known])
    plain = [other for other in known if "." not in other]
    inside = _inside(schema, section) if section else []
    candidates = same or inside or dict.fromkeys([*plain, *([likely] if likely else [])])
    raise ConfigError(unknown("setting", name, candidates))


def _inside(schema: type, section: str) -> list[str]:
    return [name for name in settings(schema) if name.startswith(f"{section}.")]


def build(schema: type[T], flat: Mapping[str, Any]) -> T:
    """An instance of `schema` from values by dotted name, either typed or as the texts of a command line."""
    import jsonargparse

    known = settings(cast(type, schema))
    for name, value in flat.items():
        if name in known:
            _check_value(known[name], value)
    values = {name: _prepare(known[name], value) for name, value in flat.items() if name in known}
    parser = _parser(cast(type, schema))
    try:
        made = schema(**vars(parser.instantiate(parser.parse_object(values))))
    except (jsonargparse.ArgumentError, TypeError, ValueError, OverflowError, RecursionError) as error:
        found = re.search(r'key "([\w.]+)"', str(error))
        if not found or found[1] not in values:
            raise ConfigError(" ".join(str(error).split())[:300]) from None
        raise _wrong(known[found[1]], flat[found[1]]) from None
    for name, value in flat.items():
        if name not in known:
            _put(made, find(cast(type, schema), name), value)
    return made


@cache
def _parser(schema: type) -> Any:
    """The parser of a schema's values; it keeps nothing of what it has read."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(schema)
    return parser


def _put(made: Any, setting: Setting, value: Any) -> None:
    """A value below a free setting: "options.kl.temperature", "2" -> made.options["kl"]["temperature"] = 2.

    Where the free setting says no more than Any of its values, texts are read as YAML reads them.
    """
    *sections, leaf = setting.name.split(".")
    place = made
    for section in sections:
        place = place.setdefault(section, {}) if isinstance(place, dict) else getattr(place, section, None)
        if place is None or isinstance(place, bool | int | float | str | list):
            raise ConfigError(f"{setting.name}: {section!r} is a value here, and a group of settings elsewhere.")
    if isinstance(value, str) and setting.type is not str:
        try:
            value = parse_yaml(value)
        except ConfigError as error:
            raise ConfigError(f"{setting.name}: cannot read {shown(value)}: {error}") from None
    elif isinstance(value, PurePath):
        value = str(value)
    if setting.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = _as_float(value)
    if setting.type is not Any and not isinstance(value, setting.type):
        raise _wrong(setting, value)
    check_finite_setting(setting.name, value)
    place[leaf] = value


def _as_float(value: int) -> float:
    """A whole number as floating point; infinity where it is too large."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


LARGEST_FLOAT = 3.4028235e38
"""Of float32, in which networks are trained."""


def check_finite_setting(name: str, value: Any) -> None:
    """Raises ConfigError for a number, or one in a list, that is NaN, infinite, or too large for float32."""
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, bool) or not isinstance(item, int | float):
            continue
        if isinstance(item, float) and math.isnan(item):
            raise ConfigError(f"{name}: expected a number, not NaN.")
        if abs(item) > LARGEST_FLOAT:
            told = "infinity" if item in (math.inf, -math.inf) else f"{shown(item, 20)}, which is too large for float32"
            raise ConfigError(f"{name}: expected a finite number, not {told}.")


def _check_value(setting: Setting, value: Any) -> None:
    """Raises ConfigError for what the parser would read for long, or take for a number that is none."""
    check_finite_setting(setting.name, value)
    if not isinstance(value, str) or setting.many or setting.type is str:
        return
    if len(value) > LONGEST_TEXT or re.search(r"[&*]", value):
        raise _wrong(setting, value)
    try:
        number = float(value)
    except ValueError:
        return
    if not math.isnan(number) and not math.isinf(number):  # those are words here, which the parser refuses
        check_finite_setting(setting.name, number)


LONGEST_TEXT = 200
"""Characters of a text that is read as a number or a word."""


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
    if not values:
        return {}
    parser.add_function_arguments(function, skip={p.name for p in taken if p.name not in names})
    try:
        made = vars(parser.parse_object(dict(values)))
    except (jsonargparse.ArgumentError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _wrong_argument(where, " ".join(str(error).split()), values) from None
    for name in values:
        check_finite_setting(f"{where}.{name}", made[name])
    return {name: made[name] for name in values}


def _wrong_argument(where: str, said: str, values: Mapping[str, Any]) -> ConfigError:
    """The parser's complaint in the words of the other settings."""
    found = re.search(r'key "(\w+)": Expected an? (.*?)\. Got value', said)
    if not found or found[1] not in values:
        return ConfigError(f"{where}: {said[:300]}")
    name, value = f"{where}.{found[1]}", values[found[1]]
    if "Literal[" in found[2] and isinstance(value, str):
        return ConfigError(unknown(f"value of {name}", value, re.findall(r"'([^']*)'", found[2])))
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    kind = next((words[kind] for kind in re.findall(r"\w+", found[2]) if kind in words), found[2])
    return ConfigError(f"{name}: expected {kind}, not {shown(value)}.")


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
    whole = int in (setting.type, *get_args(setting.type)) and not setting.many
    if whole and isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+", value):
        return int(value)  # the parser would read 010 as eight
    return [value] if setting.many and isinstance(value, int | float) else value


def _wrong(setting: Setting, value: Any) -> ConfigError:
    if get_origin(setting.type) is Literal and isinstance(value, str):
        return ConfigError(unknown(f"value of {setting.name}", value, get_args(setting.type)))
    hint = " Put it in quotes if it is a text." if "text" in setting.expected and value is not None else ""
    return ConfigError(f"{setting.name}: expected {setting.expected}, not {shown(value)}.{hint}")
