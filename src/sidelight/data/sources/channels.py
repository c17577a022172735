"""Channels of one file, array or group of columns as modalities of their own: `red = image[0]`, `nir = image[3]`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sidelight.data.arguments import Modalities, Recipe
from sidelight.data.raw import Raw
from sidelight.errors import ConfigError, DataError, shown, unknown
from sidelight.recordings.picks import check_pick
from sidelight.utils.images import take_channels
from sidelight.utils.names import CHANNELS

if TYPE_CHECKING:
    from sidelight.recordings.base import RecordingType


MOST = 1_000_000
"""Number of the last channel in a range, at most."""
SHOWN = 10
"""Channels that an error lists."""


@dataclass(frozen=True)
class Channels:
    """Some channels of a modality.

    Args:
        of: the modality.
        pick: numbers, from 0, or names of its channels.
    """

    of: str
    pick: tuple[int | str, ...]

    def numbers(self, m: str, names: Sequence[str]) -> tuple[int, ...]:
        """The numbers of the channels; raises ConfigError for a name that is none of `names`."""
        found: list[int] = []
        for channel in self.pick:
            if isinstance(channel, int):
                self._check_number(m, channel, names)
                found.append(channel)
                continue
            matching = [i for i, name in enumerate(names) if channel in (name, name.removeprefix(f"{self.of}."))]
            if not matching:
                where = f"modality {m!r} = {self}"
                if not names:
                    raise ConfigError(f"{where}: the channels of {self.of!r} have no names; give their numbers, from 0")
                raise ConfigError(f"{where}: {unknown('channel', channel, names)}")
            found.append(matching[0])
        return check_pick(found, f"modality {m!r} = {self}")

    def _check_number(self, m: str, number: int, names: Sequence[str]) -> None:
        """Raise ConfigError if the channel that is called so is not the one that counting from 0 finds."""
        called = {name.removeprefix(f"{self.of}."): i for i, name in enumerate(names)}.get(str(number), number)
        if called != number:
            counted = f"; counted from 0 it would be {names[number]!r}" if number < len(names) else ""
            raise ConfigError(
                f"modality {m!r} = {self}: a channel of {self.of!r} is called {names[called]!r}{counted}. Name the "
                f"whole column: {self.of}[{names[called]}]"
            )

    def __str__(self) -> str:
        shown = [*map(str, self.pick)]
        if len(shown) > SHOWN:
            shown = [*shown[: SHOWN - 1], "…", shown[-1]]
        return f"{self.of}[{','.join(shown)}]"

    def to_config(self) -> dict[str, Any]:
        """As settings, JSON-able."""
        return {"of": self.of, "pick": list(self.pick)}


def parse_channels(m: str, how: Recipe) -> Channels | None:
    """The channels that a recipe names, as "image[3]" or as {of: image, pick: [3]}; None for any other recipe.

    Raises:
        ConfigError: a channel that is negative or named twice.
    """
    if isinstance(how, Mapping):
        if set(how) != {"of", "pick"}:
            return None
        of, picked = how["of"], how["pick"]
        picked = [picked] if isinstance(picked, int | str) else picked
        if not isinstance(picked, Sequence) or not picked:
            raise ConfigError(f"modality {m!r}: pick is {shown(how['pick'])}; expected numbers or names of channels")
    else:
        found = CHANNELS.fullmatch(how.strip()) if isinstance(how, str) else None
        if not found:
            return None
        of, picked = found[1].strip(), _parse_list(found[2], f"modality {m!r} = {how.strip()}")  # type: ignore[union-attr]
    pick = tuple(picked)
    for channel in pick:
        if isinstance(channel, bool) or not isinstance(channel, int | str) or (channel != 0 and not channel):
            raise ConfigError(f"modality {m!r}: channel {shown(channel)}; expected a number or a name")
        if isinstance(channel, int) and channel < 0:
            raise ConfigError(f"modality {m!r}: channel {channel} of {of!r}; channels count from 0")
    for channel, n in Counter(pick).items():
        if n > 1:
            raise ConfigError(f"modality {m!r}: channel {channel!r} of {of!r} is named {n} times")
    return Channels(of, pick)


def _parse_list(text: str, where: str) -> list[int | str]:
    """The channels between the brackets: numbers, `first:end` without the end, or names, separated by commas."""
    channels: list[int | str] = []
    for part in (part.strip() for part in text.split(",")):
        if not (span := re.fullmatch(r"([0-9]{1,18}):([0-9]{1,18})", part)):
            channels.append(int(part) if re.fullmatch(r"-?[0-9]{1,18}", part) else part)
            continue
        first, end = int(span[1]), int(span[2])
        if not first < end <= MOST:
            raise ConfigError(
                f"{where}: {part} is no range of channels; expected first:end, up to {MOST}, without the end"
            )
        channels += range(first, end)
    return channels


def plan_sources(modalities: Modalities | None) -> tuple[Modalities | None, dict[str, Channels]]:
    """Separate the modalities that are channels of others.

    Args:
        modalities: what a user asks for.

    Returns:
        What a reader has to read, the sources of channels among it, and modality -> channels.

    Raises:
        ConfigError: a wrong or repeated channel, or two modalities of the same channels.
    """
    if not isinstance(modalities, Mapping):
        return modalities, {}
    picked: dict[str, Channels] = {}
    for m, how in modalities.items():
        if (channels := parse_channels(m, how)) is not None:
            same = next((other for other, already in picked.items() if already == channels), None)
            if same:
                raise ConfigError(f"modalities {same!r} and {m!r} both are {channels}; give one another channel")
            picked[m] = channels
    asked = {m: how for m, how in modalities.items() if m not in picked}
    for m, channels in picked.items():
        if channels.of in picked:
            source = picked[channels.of]
            raise ConfigError(f"modality {m!r} = {channels}: {channels.of!r} is {source} itself; name that")
        asked.setdefault(channels.of, None)
    return asked, picked


def pick_from_type(m: str, channels: Channels, kind: RecordingType) -> RecordingType:
    """The recording type of some channels of a modality's files; raises ConfigError where they have none."""
    from sidelight.recordings.series import Signal

    names = kind.columns if isinstance(kind, Signal) else ()
    try:
        made = kind.pick_channels(channels.numbers(m, names))
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if repr(m) in text else f"modality {m!r} = {channels}: {text}") from None
    object.__setattr__(made, "of", kind.of or channels.of)  # it is new, and nobody else has it yet
    return made


def pick_channels(raw: Raw, picked: Mapping[str, Channels], modalities: Modalities | None) -> None:
    """Add the modalities that are channels of others to `raw`, and remove those that nobody asked for.

    Args:
        raw: a reader's result. What it already holds of `picked`, it has read by itself.
        picked: modality -> channels.
        modalities: what the user asked for, in this order.

    Raises:
        DataError: a number that the source does not have.
        ConfigError: a name that it does not have.
    """
    if not picked:
        return
    assert isinstance(modalities, Mapping)
    for m, channels in picked.items():
        if m not in raw.inputs:
            _add_channels(raw, m, channels)
    for of in {channels.of for channels in picked.values()} - set(modalities):
        tables: tuple[dict[str, Any], ...] = (raw.inputs, raw.present, raw.lengths, raw.schema, raw.recipes)
        for table in (*tables, raw.features, raw.standard):
            table.pop(of, None)
    raw.inputs = {m: raw.inputs[m] for m in modalities}


def _add_channels(raw: Raw, m: str, channels: Channels) -> None:
    of, x = channels.of, raw.inputs[channels.of]
    schema = raw.schema.get(of, {})
    names = raw.features.get(of) or tuple(schema.get("columns") or schema.get("channels") or ())
    numbers = channels.numbers(m, names)
    if not isinstance(x, np.ndarray):
        raise DataError(f"{raw.name}: modality {m!r} = {channels}: the rows of {of!r} are files without channels")
    # Images and clips have their channels in front, vectors and signals at the end.
    axis = 1 if x.ndim >= 4 else x.ndim - 1
    try:
        raw.inputs[m] = take_channels(x, axis, numbers, f"{of!r}")
    except DataError as error:
        raise DataError(f"{raw.name}: modality {m!r} = {channels}: {error}") from None
    for arrays in (raw.present, raw.lengths):
        if of in arrays:
            arrays[m] = arrays[of]
    if of in raw.standard:
        raw.standard[m] = raw.standard[of]
    if of in raw.features:
        raw.features[m] = tuple(raw.features[of][i] for i in numbers)
    else:
        raw.recipes[m] = channels.to_config()
    if schema:
        key = "columns" if schema.get("columns") else "channels"
        raw.schema[m] = schema | ({key: [names[i] for i in numbers]} if names and schema.get(key) else {})
