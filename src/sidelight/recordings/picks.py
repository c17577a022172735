"""Channels of a file by their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sidelight.errors import ConfigError


def check_pick(channels: Iterable[int], what: str) -> tuple[int, ...]:
    """Numbers of channels as a tuple; raises ConfigError for a negative or repeated one. `what` begins the error."""
    picked = tuple(channels)
    counts = Counter(number for number in picked if isinstance(number, int))
    for number in picked:
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ConfigError(f"{what} is {list(picked)}; expected numbers of channels, from 0 on")
        if counts[number] > 1:
            raise ConfigError(f"{what}: channel {number} is named {counts[number]} times")
    return picked


def nested_pick(already: tuple[int, ...], channels: tuple[int, ...]) -> tuple[int, ...]:
    """Channels of the channels that are picked already."""
    for number in channels:
        if already and number >= len(already):
            raise ConfigError(f"channel {number} is asked for; there are {len(already)}, from 0 (pick: {[*already]})")
    return tuple(already[number] for number in channels) if already else channels
