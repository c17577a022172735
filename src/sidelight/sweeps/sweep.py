"""A sweep: its ranges, how they are sampled, and the draws of every row of the table."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from sidelight.config import Config
from sidelight.errors import ConfigError, unknown
from sidelight.results.budget import TEACHER
from sidelight.sweeps import search
from sidelight.sweeps.concerns import select_concerned
from sidelight.sweeps.space import (
    Choices,
    Space,
    count_points,
    describe_settings,
    describe_value,
    space_from_dict,
    space_to_dict,
    with_settings,
)

Sampler = Literal["grid", "random", "tpe", "one-at-a-time"]
SAMPLERS: tuple[str, ...] = get_args(Sampler)
TRIALS = 20
"""The number of draws of "random" and "tpe" unless it is given."""
MOST_DRAWS = 1000
"""The most draws of a sweep."""
LONGEST_NAME = 100


@dataclass(frozen=True)
class Draw:
    """One training of a row of the table: what differs from the settings of the experiment.

    Args:
        settings: dotted name -> value, of the swept settings that concern the network.
        replica: 0, or the number of earlier draws of the same row with the same settings, from which this one differs
            in its initial weights, the order of its rows and its dropout.
    """

    settings: Mapping[str, Any]
    replica: int = 0

    @property
    def name(self) -> str:
        """A name for its folder: `transport.k=10`; `base~2` for the third draw of unchanged settings."""
        text = ",".join(f"{name}={describe_value(value)}" for name, value in self.settings.items()) or "base"
        plain = re.sub(r"[^\w.,=+-]", "_", text)[:LONGEST_NAME]
        exact = repr([*self.settings.items()])
        # Six digits may stand for two values, and some characters cannot be in the name of a folder.
        if plain != text or any(isinstance(v, float) and float(f"{v:.6g}") != v for v in self.settings.values()):
            plain += f"-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"
        return plain + (f"~{self.replica}" if self.replica else "")

    def __str__(self) -> str:
        repeated = f", weights {self.replica + 1}" if self.replica else ""
        return f"{describe_settings(self.settings)}{repeated}"


@dataclass(frozen=True)
class Sweep:
    """The ranges of a sweep and how they are sampled.

    Args:
        space: dotted name of a setting -> its range.
        sampler: "grid", "random", "tpe" or "one-at-a-time".
        trials: the number of draws of each method and of the baseline.
        config: the experiment's settings, from which each draw differs.
    """

    space: Space
    sampler: str
    trials: int
    config: Config

    def to_dict(self) -> dict[str, Any]:
        """What sweep.json stores, and what must not change when a sweep is resumed."""
        return {"space": space_to_dict(self.space), "sampler": self.sampler, "trials": self.trials}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], config: Config) -> Sweep:
        """The sweep of `to_dict`."""
        return cls(space_from_dict(stored["space"]), str(stored["sampler"]), int(stored["trials"]), config)

    @cached_property
    def points(self) -> list[dict[str, Any]]:
        """The drawn values of all swept settings, in their order, alike for every fold; [] for "tpe".

        Random draws depend on `seed` and their number alone, so more trials begin with the same draws.
        """
        if self.sampler == "tpe":
            return []
        if self.sampler == "random":
            return [search.draw_random(self.space, self.config.seed, number) for number in range(self.trials)]
        if self.sampler == "one-at-a-time":
            return list(_vary_one(self.space, self.config))
        values = [one.values for one in self.space.values() if isinstance(one, Choices)]
        return [dict(zip(self.space, point)) for point in itertools.product(*values)]

    def concerning(self, method: str) -> Space:
        """The ranges of the settings that concern a method, `baseline` or `teacher`."""
        return select_concerned(method, self.space, self.config)

    def draws(self, method: str) -> list[Draw]:
        """The draws of a method, of the baseline or of the teacher; [] where earlier ones decide the next ("tpe").

        All rows of the table have equally many draws, so that none has more chances than another: a draw whose
        settings make no difference to a row repeats the row's training with other initial weights, order and dropout.
        The teacher alone has one draw for each of its settings, because the students of several draws share it.
        """
        if self.sampler == "tpe":
            points: list[dict[str, Any]] = [] if self.concerning(method) else [{}] * self.trials
        else:
            points = [select_concerned(method, point, self.config) for point in self.points]
        seen: Counter[str] = Counter()
        draws = []
        for point in points:
            draw = Draw(point, seen[repr(point)])
            seen[repr(point)] += 1
            if method != TEACHER or not draw.replica:
                draws.append(draw)
        return draws

    def check(self) -> None:
        """Check the settings of every draw; raises ConfigError."""
        for point in self.points:
            with_settings(self.config, point)


def make_sweep(space: Space, config: Config, sampler: str = "", trials: int | None = None) -> Sweep:
    """Make a sweep of these ranges.

    Args:
        space: the ranges, as `parse_space` returns them.
        config: the experiment's settings.
        sampler: one of `SAMPLERS`; "": "grid" if every range is a list of values, else "random".
        trials: the number of draws of "random" and "tpe"; None: 20.

    Raises:
        ConfigError: the sampler does not exist or does not suit the ranges, or there would be too many draws.
    """
    points = count_points(space.values())
    sampler = sampler or ("random" if points is None or trials is not None else "grid")
    if sampler not in SAMPLERS:
        raise ConfigError(unknown("sampler", sampler, SAMPLERS))
    if trials is not None and not 1 <= trials <= MOST_DRAWS:
        raise ConfigError(f"trials must be a whole number from 1 to {MOST_DRAWS}, got {trials}.")
    if sampler in ("grid", "one-at-a-time"):
        if points is None:
            name = next(name for name, one in space.items() if not isinstance(one, Choices))
            raise ConfigError(
                f"{name}: the sampler {sampler!r} takes values, not an interval. List them, name their number "
                f"({name}=…..…:5), or choose --sampler random."
            )
        if trials is not None:
            raise ConfigError(
                f"trials: the sampler {sampler!r} draws every point once. Leave it out, or choose --sampler random."
            )
        if sampler == "one-at-a-time":
            points = sum(len(one.values) for one in space.values() if isinstance(one, Choices)) + 1
        if points > MOST_DRAWS:
            sizes = " x ".join(str(len(one.values)) for one in space.values() if isinstance(one, Choices))
            raise ConfigError(
                f"the grid has {points:,} points ({sizes}), and every method and the baseline would be trained once "
                f"for each of them in every fold; at most {MOST_DRAWS:,} are allowed. List fewer values, or draw some "
                "of them: --sampler random --trials 50."
            )
        sweep = Sweep(space, sampler, points, config)
        return Sweep(space, sampler, len(sweep.points), config)
    search.require_optuna(sampler)
    return Sweep(space, sampler, TRIALS if trials is None else trials, config)


def _vary_one(space: Space, config: Config) -> Iterator[dict[str, Any]]:
    """The settings of the experiment, and each of them changed to each of its other values, one at a time."""
    base = {name: _value_of(config, name) for name in space}
    yield base
    for name, one in space.items():
        assert isinstance(one, Choices)
        yield from (base | {name: value} for value in one.values if value != base[name])


def _value_of(config: Config, name: str) -> Any:
    """The value of a setting in the experiment; for a method's own, its default if it is not set."""
    from sidelight.methods import METHODS

    read: Any = config
    parts = name.split(".")
    for part in parts:
        read = read.get(part) if isinstance(read, dict) else getattr(read, part)
        if read is None and parts[0] == "options":
            return METHODS[parts[1]].defaults().get(parts[2])
    return read
