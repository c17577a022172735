"""Sweeps: every row of the table is the best of several draws of settings, chosen on the select rows of its fold."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

from sidelight.config import Config
from sidelight.data import Dataset
from sidelight.errors import ConfigError, RunError
from sidelight.experiment.inputs import read_inputs, stop_time
from sidelight.experiment.provenance import Encoders
from sidelight.experiment.resolve import resolve
from sidelight.experiment.runner import execute
from sidelight.experiment.study import Study
from sidelight.sweeps import Choices, Draw, Interval, Sweep, make_sweep, parse_space
from sidelight.sweeps.space import with_settings
from sidelight.utils.distributed import get_world

MakeSweep = Callable[[Config], Sweep]
"""Settings with every default filled in -> the sweep."""


def sweep(
    data: Dataset | str | Path | Mapping[str, Any] | Any,
    space: Mapping[str, Any],
    available: Sequence[str] = (),
    privileged: Sequence[str] = (),
    methods: Sequence[str] = ("auto", "pkdot"),
    *,
    trials: int | None = None,
    sampler: str = "",
    encoders: Encoders | None = None,
    resume: bool = False,
    quiet: bool = False,
    only: Collection[str] = (),
    executor: Executor | str | None = None,
    time_limit: float | None = None,
    **settings: Any,
) -> Study:
    """Compare methods, each with the best of several draws of settings.

    Every method, placebo and the baseline has equally many draws. In each fold, each of them chooses its own draw on
    the fold's select rows, and this draw alone is tested. docs/sweeps.md says what that makes fair, and what it costs.

        study = sl.sweep("phone-watch", {"training.learning_rate": "1e-4..1e-2:log", "transport.k": [10, 30, 60]},
                         methods=["pkdot"], trials=20)

    Args:
        data, available, privileged, methods, encoders, resume, quiet, only, executor, time_limit, settings: as in
            `compare`.
        space: dotted name of a setting -> a list of values, or a text such as "10,30,60" or "1e-4..1e-2:log".
        trials: the number of draws of "random" and "tpe"; None: 20.
        sampler: "grid" (every combination), "one-at-a-time" (the settings of the experiment with one of them
            changed), "random", or "tpe", which learns from the draws before. The last two need Optuna (extra `search`).
            "": "grid" if every range is a list, else "random".

    Raises:
        ConfigError, DataError, RunError: name what is wrong, and the mend.
        UnfinishedError: the sweep was stopped, and can be resumed.
    """
    if not isinstance(space, Mapping):
        raise ConfigError('space: expected the ranges of settings, e.g. {"transport.k": [10, 30, 60]}.')
    config, dataset = read_inputs(data, available, privileged, methods, encoders, settings)
    make = partial(build_sweep, space=space, sampler=sampler, trials=trials)
    rows = [dataset]
    del dataset  # a run frees its arrays, unless somebody else holds them
    until = stop_time(config, time_limit)
    return run_sweep(
        config, rows, make, resume=resume, quiet=quiet, encoders=encoders, only=only, executor=executor, until=until
    )


def build_sweep(config: Config, space: Mapping[str, Any], sampler: str = "", trials: int | None = None) -> Sweep:
    """Read the ranges of a sweep of these settings; raises ConfigError."""
    return make_sweep(parse_space(space, config), config, sampler, trials)


def run_sweep(
    config: Config,
    rows: list[Dataset],
    make: MakeSweep,
    *,
    resume: bool = False,
    quiet: bool = False,
    encoders: Encoders | None = None,
    imports: Mapping[str, str] | None = None,
    only: Collection[str] = (),
    executor: Executor | str | None = None,
    until: float = math.inf,
) -> Study:
    """Run (or resume) a sweep.

    Args:
        config: the experiment's settings.
        rows: the data set, which is taken out of the list, so that the run can free its arrays.
        make: settings with every default filled in -> the sweep.
        resume, quiet, encoders, imports, only, executor, until: as in `execute`.
    """
    if get_world().size > 1:
        raise RunError("a sweep is run by one process, which starts workers (--jobs); start it without torchrun.")
    made = make(resolve(config, rows[0]))
    check_draws(made, rows[0])
    return execute(
        config, rows.pop(), resume=resume, quiet=quiet, encoders=encoders, imports=imports, only=only,
        executor=executor, until=until, sweep=made,
    )  # fmt: skip


def check_draws(sweep: Sweep, dataset: Dataset) -> None:
    """Check every draw against the data, before anything is trained; raises ConfigError or DataError."""
    points = list(sweep.points)
    for name, one in sweep.space.items() if not points else ():
        ends = one.values if isinstance(one, Choices) else _ends(one)
        points += [{name: value} for value in ends]
    for point in points:
        try:
            resolve(with_settings(sweep.config, point), dataset)
        except ConfigError as error:
            raise ConfigError(f"the draw {Draw(point)}: {error}") from None


def _ends(one: Interval) -> tuple[float, float]:
    return (int(one.low), int(one.high)) if one.whole else (one.low, one.high)
