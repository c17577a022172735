"""The ranges of a sweep: values to choose from, or an interval."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import UnionType
from typing import Any, get_args

from sidelight.config import Config, check
from sidelight.config.io import Setting, build, flatten
from sidelight.errors import ConfigError, shown
from sidelight.sweeps.concerns import find_swept
from sidelight.utils.yaml12 import parse_yaml

INTERVAL = re.compile(r"(?P<low>[^.].*?|\.\d.*?)\.\.(?P<high>[^:]+)(?::(?P<log>log))?(?::(?P<count>[^:]+))?")
EXPECTED = "expected values such as 10,30,60, or an interval such as 10..60 or 1e-4..1e-2:log"


@dataclass(frozen=True)
class Choices:
    """Values to choose from, in their order."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, both included.

    Args:
        low, high: the ends.
        log: whether numbers are drawn evenly on a logarithmic scale.
        whole: whether they are whole numbers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False


Range = Choices | Interval
Space = dict[str, Range]
"""Dotted name of a setting -> its range."""


def is_range(text: str) -> bool:
    """Whether the text of a setting is a range and not one value."""
    return "," in text or ".." in text


def parse_space(given: Mapping[str, Any], config: Config) -> Space:
    """Read the ranges of a sweep.

    Args:
        given: dotted name of a setting -> a text such as `1e-4..1e-2:log` or `10,30,60`, a list of values, or a range.
        config: the experiment's settings.

    Raises:
        ConfigError: a setting that does not exist or that a sweep cannot change, or a range that cannot be read, is
            empty, or has values that the setting cannot have.
    """
    if not given:
        raise ConfigError(
            "a sweep needs the range of at least one setting, e.g. training.learning_rate=1e-4..1e-2:log."
        )
    space: Space = {}
    for name, value in given.items():
        setting = find_swept(name, config)
        if setting.name in space:
            raise ConfigError(f"{setting.name} has two ranges; give it one.")
        space[setting.name] = value if isinstance(value, Choices | Interval) else _parse_range(setting, value, config)
    return space


def _parse_range(setting: Setting, given: Any, config: Config) -> Range:
    if isinstance(given, str) and ".." in given:
        return _parse_interval(setting, given, config)
    if isinstance(given, str):
        given = [part.strip() for part in given.split(",")]
        if len(given) > 1 and not given[-1]:
            raise ConfigError(f"{setting.name}: {EXPECTED}; a value is empty.")
    if not isinstance(given, Sequence):
        given = [given]
    if not given or given == [""]:
        raise ConfigError(f"{setting.name}: its range is empty; {EXPECTED}.")
    values = [read_value(setting, value, config) for value in given]
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{setting.name}: {shown(value)} is given twice.")
    return Choices(tuple(values))


def _parse_interval(setting: Setting, text: str, config: Config) -> Range:
    """`1e-4..1e-2:log`, or with a number of points, which become values to choose from: `1e-4..1e-2:log:5`."""
    found = INTERVAL.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{setting.name}: cannot read {shown(text)}; {EXPECTED}.")
    whole, ends = is_whole(setting), []
    for end in (found["low"], found["high"]):
        try:
            ends.append(float(end))
        except ValueError:
            ends.append(math.nan)
        if not math.isfinite(ends[-1]):
            raise ConfigError(f"{setting.name}: the end {shown(end.strip())} of {shown(text)} is not a number.")
        if whole and ends[-1] != int(ends[-1]):
            raise ConfigError(f"{setting.name}: expected whole numbers, not {shown(text)}.")
    if whole is None:  # a setting of a method: its ends tell
        whole = all(isinstance(parse_yaml(end), int) for end in (found["low"], found["high"]))
    low, high = ends
    if low >= high:
        raise ConfigError(f"{setting.name}: {shown(text)} is empty: its first end must be below its second one.")
    if found["log"] and low <= 0:
        raise ConfigError(f"{setting.name}: {shown(text)}: a logarithmic range begins above 0, not at {low:g}.")
    for end in ends:
        read_value(setting, int(end) if whole else end, config)
    interval = Interval(low, high, bool(found["log"]), whole)
    if not found["count"]:
        return interval
    if not re.fullmatch(r"\d{1,4}", found["count"]) or int(found["count"]) < 2:
        raise ConfigError(
            f"{setting.name}: the number of points in {shown(text)} must be a whole number from 2 to 9999."
        )
    points = (read_value(setting, point, config) for point in spread(interval, int(found["count"])))
    return Choices(tuple(dict.fromkeys(points)))


def spread(interval: Interval, count: int) -> list[float | int]:
    """`count` points of an interval from end to end, at equal distances on its scale; whole ones are rounded."""
    low, high = interval.low, interval.high
    shares = [i / (count - 1) for i in range(count)]
    if interval.log:
        points = [low * (high / low) ** share for share in shares]
    else:
        points = [low + (high - low) * share for share in shares]
    # Twelve digits, so that 1e-4..1e-2 in three points is 1e-3 and not 0.0010000000000000002.
    return [round(point) if interval.whole else float(f"{point:.12g}") for point in points]


def is_whole(setting: Setting) -> bool | None:
    """Whether a setting takes whole numbers; None if its type is unknown (a method's own), or it takes no numbers."""
    kinds = get_args(setting.type) if isinstance(setting.type, UnionType) else (setting.type,)
    if float in kinds:
        return False
    if int in kinds:
        return True
    if setting.type is Any:
        return None
    raise ConfigError(f"{setting.name} takes no numbers, so it has no interval; list the values to try: a,b,c.")


def read_value(setting: Setting, value: Any, config: Config) -> Any:
    """A value as the setting stores it.

    Raises:
        ConfigError: the setting cannot have this value.
    """
    made = with_settings(config, {setting.name: value})
    read: Any = made
    for part in setting.name.split("."):
        read = read[part] if isinstance(read, dict) else getattr(read, part)
    return read


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """The settings of an experiment with some of them changed, checked.

    Args:
        config: the experiment's settings.
        settings: dotted name -> value.

    Raises:
        ConfigError: a value that its setting cannot have.
    """
    flat = dict(flatten(Config, asdict(config), warn=False))
    made = build(Config, flat | dict(settings))
    check(made)
    return made


def describe_range(one: Range) -> str:
    """A range as text, from which the same range can be read."""
    if isinstance(one, Choices):
        return ",".join(describe_value(value) for value in one.values)
    return f"{one.low:g}..{one.high:g}{':log' if one.log else ''}"


def describe_value(value: Any) -> str:
    """A value as text: numbers with at most six digits, words of YAML for true, false and null."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def describe_settings(settings: Mapping[str, Any]) -> str:
    """`transport.k=30, training.batch_size=64`; "the settings of the experiment" if nothing concerns the network."""
    return ", ".join(f"{name}={describe_value(v)}" for name, v in settings.items()) or "the settings of the experiment"


def space_to_dict(space: Mapping[str, Range]) -> dict[str, Any]:
    """A space as JSON can hold it."""
    return {name: {"values": list(r.values)} if isinstance(r, Choices) else asdict(r) for name, r in space.items()}


def space_from_dict(stored: Mapping[str, Any]) -> Space:
    """The space of `space_to_dict`."""
    return {name: Choices(tuple(r["values"])) if "values" in r else Interval(**r) for name, r in stored.items()}


def count_points(ranges: Iterable[Range]) -> int | None:
    """The number of points of a grid; None if a range is an interval."""
    sizes = [len(r.values) if isinstance(r, Choices) else None for r in ranges]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)
