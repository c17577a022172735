"""Flatten a schema of nested dataclasses to dotted settings, and build it from typed values or `key=value` texts."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from sidelight.config.renamed import NULL, current_names
from sidelight.errors import ConfigError, shown, unknown
from sidelight.synonyms import find_advice, find_meant
from sidelight.utils.yaml12 import parse_yaml

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One setting of a schema: its dotted name, type, default and help."""

    name: str
    type: Any
    default: Any
    help: str

    @property
    def is_list(self) -> bool:
        """Whether its value is a list."""
        return get_origin(self.type) is list

    @property
    def is_mapping(self) -> bool:
        """Whether its value is a mapping, whose keys the schema does not know."""
        return get_origin(self.type) is dict

    @property
    def expected(self) -> str:
        """The type in words, for an error."""
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
        if get_origin(self.type) is Literal:
            return "one of " + ", ".join(get_args(self.type))
        types = get_args(self.type) or (self.type,)
        return ("a list, each item " if self.is_list else "") + " or ".join(words[t] for t in types)


@cache
def settings(schema: type) -> dict[str, Setting]:
    """The settings of `schema` by dotted name."""
    return {setting.name: setting for setting in _leaves(schema, "")}


def _leaves(section: type, prefix: str) -> Iterator[Setting]:
    types, help_texts = get_type_hints(section), arguments_help(section)
    for leaf in fields(section):
        if is_dataclass(types[leaf.name]):
            yield from _leaves(cast(type, types[leaf.name]), f"{prefix}{leaf.name}.")
        else:
            default = leaf.default if leaf.default_factory is MISSING else leaf.default_factory()
            yield Setting(prefix + leaf.name, types[leaf.name], default, help_texts.get(leaf.name, ""))


def arguments_help(documented: Any) -> dict[str, str]:
    """Field or argument -> its text in the `Args:` section of a class's or function's docstring."""
    lines = inspect.cleandoc(documented.__doc__ or "").partition("Args:\n")[2]
    return {name: " ".join(text.split()) for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", lines, re.M)}


def flatten(schema: type, tree: Mapping[Any, Any], prefix: str = "", warn: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of every setting in a nested mapping.

    Args:
        schema: the dataclass of the settings.
        tree: settings, nested at the dots or with dotted names; old names of renamed settings are accepted.
        prefix: the section that `tree` is, with a dot behind it; "" for the whole.
        warn: whether to warn about old names.

    Raises:
        ConfigError: a name that is not a setting of `schema`.
    """
    for key, value in current_names(tree, prefix, warn).items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if _holds_names(schema, name):
                yield find(schema, name).name, dict(value)
            else:
                yield from flatten(schema, value, f"{name}.", warn)
        elif value is not None or not _inside(schema, name):  # an empty section is allowed
            yield find(schema, name).name, value


def _holds_names(schema: type, name: str) -> bool:
    """Whether a mapping is the value of a modality's or a method's setting, whose keys may be any text: colours."""
    start, *rest = name.split(".")
    setting = settings(schema).get(start)
    return len(rest) > 1 and setting is not None and setting.is_mapping


def find(schema: type, name: str) -> Setting:
    """The setting called `name`.

    Raises:
        ConfigError: there is no such setting; the error names the nearest one, or what to do instead.
    """
    known = settings(schema)
    if "" in name.split("."):
        raise ConfigError(f"{shown(name)} is not a setting; expected e.g. transport.epsilon or folds.")
    if name in known and not known[name].is_mapping:
        return known[name]
    for setting in known.values():
        if setting.is_mapping and name.startswith(f"{setting.name}."):
            rest = name.removeprefix(f"{setting.name}.")
            if not rest or "" in rest.split(".") or ("." in rest and get_args(setting.type)[1] is not Any):
                raise ConfigError(f"{setting.name}: expected a name without a dot, not {rest!r}.")
            return Setting(name, get_args(setting.type)[1], None, setting.help)
    if name in known:
        raise ConfigError(f"{name!r} is a group of settings; {known[name].help}")
    if inside := _inside(schema, name):
        raise ConfigError(f"{name!r} is a group of settings: {', '.join(inside)}.")
    section, _, leaf = name.rpartition(".")
    # Of a section that does not exist, the section is what is wrong.
    if advice := find_advice(name) or ("" if _inside(schema, section) else find_advice(section)):
        raise ConfigError(f"unknown setting {name!r}: {advice}.")
    # Candidates for the error: settings of that name in other sections, else the section's, else the top level's.
    same = [other for other in known if other.rpartition(".")[2] == leaf]
    likely = find_meant(name, [*known])
    plain = [other for other in known if "." not in other]
    inside = _inside(schema, section) if section else []
    candidates = same or inside or dict.fromkeys([*plain, *([likely] if likely else [])])
    raise ConfigError(unknown("setting", name, candidates))


def _inside(schema: type, section: str) -> list[str]:
    """The settings of a section; empty if there is no such section."""
    return [name for name in settings(schema) if name.startswith(f"{section}.")]


def build(schema: type[T], flat: Mapping[str, Any]) -> T:
    """Build an instance of `schema`.

    Args:
        schema: the dataclass of the settings.
        flat: values by dotted name, typed or as texts of a command line.

    Raises:
        ConfigError: a name or value that the schema does not allow.
    """
    known = settings(cast(type, schema))
    flat = {name: NULL[name] if name in NULL and value in (None, "null") else value for name, value in flat.items()}
    for name, value in flat.items():
        if name in known:
            _check_value(known[name], value)
    values = {name: _prepare(known[name], value) for name, value in flat.items() if name in known}
    if all(_is_typed(known[name], value) for name, value in values.items()):  # as a stored run's are
        made = _construct(schema, values)
    else:
        made = _convert(schema, values, flat)
    for name, value in flat.items():
        if name not in known:
            _put(made, find(cast(type, schema), name), value)
    return made


def _is_typed(setting: Setting, value: Any) -> bool:
    """Whether a value is of its type already, so that the parser, which takes 15 ms, would return it as it is."""
    if type(value) is type(setting.default) and value == setting.default:
        return True
    if setting.is_list:
        return type(value) is list and all(_is_of(get_args(setting.type)[0], item) for item in value)
    return _is_of(setting.type, value)


def _is_of(kind: Any, value: Any) -> bool:
    """Whether a value is of a type of one value, in which no other type could read it."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if isinstance(value, str):  # "5" is a number where text or a number may stand
        words = [word for other in kinds if get_origin(other) is Literal for word in get_args(other)]
        return kinds == (str,) or (bool not in kinds and value in words)
    return type(value) in kinds and not {int, float} <= {*kinds}  # whichever comes first decides what 1 becomes


def _construct(schema: type[T], values: Mapping[str, Any]) -> T:
    """Build a schema from values of the right types by dotted name."""
    types = _types_of(cast(type, schema))
    made: dict[str, Any] = {}
    for leaf in fields(cast(Any, schema)):
        if is_dataclass(types[leaf.name]):
            inside = {k.partition(".")[2]: v for k, v in values.items() if k.startswith(f"{leaf.name}.")}
            made[leaf.name] = _construct(cast(type, types[leaf.name]), inside)
        elif leaf.name in values:
            value = values[leaf.name]
            made[leaf.name] = [*value] if isinstance(value, list) else value
    return schema(**made)


_types_of: Callable[[type], dict[str, Any]] = cache(get_type_hints)
"""The types of a schema's fields."""


def _convert(schema: type[T], values: Mapping[str, Any], flat: Mapping[str, Any]) -> T:
    """Build a schema from values that jsonargparse converts; its errors are rewritten in the words of the others.

    Args:
        schema: the dataclass of the settings.
        values: prepared values by dotted name.
        flat: the same as they were given, for errors.
    """
    import jsonargparse

    known, parser = settings(cast(type, schema)), _parser(cast(type, schema))
    try:
        return schema(**vars(parser.instantiate(parser.parse_object(dict(values)))))
    except (jsonargparse.ArgumentError, TypeError, ValueError, OverflowError, RecursionError) as error:
        found = re.search(r'key "([\w.]+)"', str(error))
        if not found or found[1] not in values:
            raise ConfigError(" ".join(str(error).split())[:300]) from None
        raise _wrong(known[found[1]], flat[found[1]]) from None


@cache
def _parser(schema: type) -> Any:
    """The parser of a schema's values. It has no state, so one is enough."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(schema)
    return parser


def _put(made: Any, setting: Setting, value: Any) -> None:
    """Store a value inside a mapping: "options.kl.temperature", "2" -> made.options["kl"]["temperature"] = 2.

    Texts are read as YAML, unless the mapping's values are declared as texts.
    """
    *sections, leaf = setting.name.split(".")
    place = made
    for section in sections:
        place = place.setdefault(section, {}) if isinstance(place, dict) else getattr(place, section, None)
        if place is None or isinstance(place, bool | int | float | str | list):
            raise ConfigError(f"{setting.name}: {section!r} is given both as a value and as a group of settings.")
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
    """A whole number as a float; infinity if it is too large."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


LARGEST_FLOAT = 3.4028235e38
"""The largest float32; networks are trained in float32."""


def check_finite_setting(name: str, value: Any) -> None:
    """Raise ConfigError for a number, alone or in a list, that is NaN, infinite, or too large for float32."""
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, bool) or not isinstance(item, int | float):
            continue
        if isinstance(item, float) and math.isnan(item):
            raise ConfigError(f"{name}: expected a number, not NaN.")
        if abs(item) > LARGEST_FLOAT:
            infinite = item in (math.inf, -math.inf)
            given = "infinity" if infinite else f"{shown(item, 20)}, which is too large for float32"
            raise ConfigError(f"{name}: expected a finite number, not {given}.")


def _check_value(setting: Setting, value: Any) -> None:
    """Raise ConfigError for texts that the parser is slow to read, or reads as numbers that they are not."""
    check_finite_setting(setting.name, value)
    if not isinstance(value, str) or setting.is_list or setting.type is str:
        return
    if len(value) > LONGEST_TEXT or re.search(r"[&*]", value):
        raise _wrong(setting, value)
    try:
        number = float(value)
    except ValueError:
        return
    if not math.isnan(number) and not math.isinf(number):  # the parser refuses these words
        check_finite_setting(setting.name, number)


LONGEST_TEXT = 200
"""Most characters of a text that stands for a number or a word."""


def read_arguments(function: Callable[..., Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check values against a function's signature and return them as its keyword arguments.

    Args:
        function: its parameters with a default, or by keyword only, may be set.
        values: parameter -> value, typed or as text.
        where: what errors name before the parameter, e.g. "options.kl".

    Returns:
        Parameter -> value of the declared type, only for those in `values`.

    Raises:
        ConfigError: a parameter that `function` does not have, or a value of another type.
    """
    import jsonargparse

    taken = inspect.signature(function).parameters.values()
    names = [p.name for p in taken if p.kind is p.KEYWORD_ONLY or (p.default is not p.empty)]
    for name in values:
        if name not in names:
            raise ConfigError(unknown(f"setting of {where}", name, names))
    if not values:
        return {}
    parser = _function_parser(function, frozenset(p.name for p in taken if p.name not in names))
    try:
        made = vars(parser.parse_object(dict(values)))
    except (jsonargparse.ArgumentError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _wrong_argument(where, " ".join(str(error).split()), values) from None
    for name in values:
        check_finite_setting(f"{where}.{name}", made[name])
    return {name: made[name] for name in values}


@cache
def _function_parser(function: Callable[..., Any], left_out: frozenset[str]) -> Any:
    """The parser of a function's parameters, which takes 10 ms to make. It has no state, so one is enough."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(function, skip=set(left_out))
    return parser


def _wrong_argument(where: str, complaint: str, values: Mapping[str, Any]) -> ConfigError:
    """The parser's complaint, worded as for other settings."""
    found = re.search(r'key "(\w+)": Expected an? (.*?)\. Got value', complaint)
    if not found or found[1] not in values:
        return ConfigError(f"{where}: {complaint[:300]}")
    name, value = f"{where}.{found[1]}", values[found[1]]
    if "Literal[" in found[2] and isinstance(value, str):
        return ConfigError(unknown(f"value of {name}", value, re.findall(r"'([^']*)'", found[2])))
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    listed = re.sub("<class 'tuple'>|tuple", "a list", found[2])
    listed = re.sub(r"<class 'dict'>|(dict|Mapping)(\[[^]]*\])?", "a mapping (name: value)", listed)
    kind = next((words[kind] for kind in re.findall(r"\w+", found[2]) if kind in words), listed)
    return ConfigError(f"{name}: expected {kind}, not {shown(value)}.")


def _prepare(setting: Setting, value: Any) -> Any:
    """A value as the parser takes it."""
    if value is None and NoneType not in get_args(setting.type):
        raise _wrong(setting, value)
    if isinstance(value, PurePath) and setting.type is str:
        return str(value)
    if isinstance(value, bool) and get_origin(setting.type) is Literal:  # YAML 1.1 reads yes and no as booleans
        return "yes" if value else "no"
    if isinstance(value, int) and str(value) in get_args(setting.type):  # YAML reads 32 as a number
        return str(value)
    if setting.is_list and isinstance(value, str):
        text = re.sub(r"^\[(.*)\]$", r"\1", value.strip())
        return [part.strip().strip("'\"") for part in text.split(",") if part.strip()]
    whole = int in (setting.type, *get_args(setting.type)) and not setting.is_list
    if whole and isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+", value):
        return int(value)  # the parser would read 010 as eight
    return [value] if setting.is_list and isinstance(value, int | float) else value


def _wrong(setting: Setting, value: Any) -> ConfigError:
    """The error for a value of the wrong type."""
    if get_origin(setting.type) is Literal and isinstance(value, str):
        return ConfigError(unknown(f"value of {setting.name}", value, get_args(setting.type)))
    hint = " Put it in quotes if it is a text." if "text" in setting.expected and value is not None else ""
    return ConfigError(f"{setting.name}: expected {setting.expected}, not {shown(value)}.{hint}")
