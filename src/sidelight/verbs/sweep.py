"""`sidelight sweep`: ranges on the command line, in the file of the experiment, and ready ones."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidelight.config import Config
from sidelight.config.io import find
from sidelight.config.renamed import current_name
from sidelight.errors import ConfigError, shown, unknown
from sidelight.experiment.sweep_folder import read_sweep
from sidelight.sweeps import READY, is_range
from sidelight.sweeps.space import space_from_dict
from sidelight.utils.stopping import parse_duration, stops_on_sigterm
from sidelight.utils.yaml12 import read_yaml
from sidelight.verbs.run import describe_plan, print_plan
from sidelight.verbs.settings import execution_of, experiment_of, source_of

if TYPE_CHECKING:
    from sidelight.experiment import Job
    from sidelight.sweeps import Sweep

SECTION = "sweep"
"""The section of an experiment.yaml that holds ranges, and perhaps `sampler` and `trials`."""


def sweep_verb(args: argparse.Namespace) -> int:
    source_of(args)
    asked = read_request(args)
    args.overrides = asked.overrides
    config = experiment_of(args, asked.settings, (SECTION,))
    from sidelight import experiment
    from sidelight.data.load import load_for
    from sidelight.experiment.inputs import stop_time
    from sidelight.experiment.sweep import build_sweep, run_sweep

    make = partial(build_sweep, space=asked.space, sampler=asked.sampler, trials=asked.trials)
    make(config)  # what is wrong with the ranges is said before the data are read
    if args.dry_run:
        config, jobs = experiment.plan(config, args.own.encoders)
        print_plan(config, f"{describe_plan(config, jobs)}\n{describe_sweep(make(config), jobs)}")
        return 0
    limit = None if args.time_limit is None else parse_duration(args.time_limit, "--time-limit")
    with stops_on_sigterm(config.checkpoint_seconds, limit):
        study = run_sweep(config, [load_for(config)], make, until=stop_time(config, limit), **execution_of(args))
    study.print()
    return 1 if study.failures else 0


@dataclass
class Request:
    """What a command line asks for.

    Args:
        space: dotted name of a setting -> its range, as it was given.
        sampler, trials: as in `sl.sweep`.
        settings: the settings of a ready sweep, unless the command line gives others.
        overrides: the texts that give settings one value.
    """

    space: dict[str, Any] = field(default_factory=dict)
    sampler: str = ""
    trials: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)


def read_request(args: argparse.Namespace) -> Request:
    """Read the ranges that a command line asks for; each source adds to the ones before.

    Raises:
        ConfigError: an unknown ready sweep, or a section `sweep` that cannot be read.
    """
    asked = Request()
    if args.source is not None and Path(args.source).suffix.lower() in (".yaml", ".yml"):
        _add_section(asked, args.source)
    for name in args.ready:
        if name not in READY:
            raise ConfigError(f"{unknown('ready sweep', name, READY)} A range is given as setting=range.")
        ready = READY[name]
        asked.space |= ready.space
        asked.sampler = ready.sampler
        asked.settings = {"methods": [*ready.methods], "placebo": [*ready.methods]}
    for text in args.overrides:
        name, _, value = text.partition("=")
        setting = find(Config, current_name(name.strip()))
        asked.space.pop(setting.name, None)
        if not setting.is_list and is_range(value):
            asked.space[setting.name] = value.strip()
        else:
            asked.overrides.append(text)
    asked.sampler = args.sampler or ("random" if args.trials is not None and not args.sampler else asked.sampler)
    asked.trials = args.trials if args.trials is not None else asked.trials
    return asked


def _add_section(asked: Request, source: str) -> None:
    """Add the section `sweep` of an experiment.yaml, or the ranges of a stored sweep, beside its config.yaml."""
    if Path(source).name == "config.yaml" and (stored := read_sweep(Path(source).parent)):
        asked.space |= space_from_dict(stored["space"])
        asked.sampler = stored["sampler"]
        asked.trials = stored["trials"] if asked.sampler in ("random", "tpe") else None
        return
    section = read_yaml(Path(source)).get(SECTION)
    if section is None:
        return
    if not isinstance(section, Mapping):
        raise ConfigError(
            f"{source}: {SECTION}: expected ranges, e.g. transport.k: [10, 30, 60], not {shown(section)}."
        )
    rest = dict(section)
    sampler, trials = rest.pop("sampler", ""), rest.pop("trials", None)
    if not isinstance(sampler, str) or isinstance(trials, bool) or not isinstance(trials, int | None):
        raise ConfigError(f"{source}: {SECTION}: expected sampler: a word, and trials: a whole number.")
    asked.space |= {str(name): value for name, value in rest.items()}
    asked.sampler, asked.trials = sampler, trials


def describe_sweep(sweep: Sweep, jobs: Sequence[Job]) -> str:
    """How many draws each row of the table has, and how many networks are trained."""
    from sidelight.results.budget import WITHOUT_NETWORK
    from sidelight.sweeps.space import describe_range

    jobs = [job for job in jobs if job.method not in WITHOUT_NETWORK]  # nothing is drawn for them
    lines = [f"sweep: {sweep.sampler}, {sweep.trials} draws of each method and of the baseline"]
    for name, one in sweep.space.items():
        concerned = [m for m in dict.fromkeys(job.method for job in jobs) if name in sweep.concerning(m)]
        lines.append(f"  {name}={describe_range(one)} (concerns {', '.join(concerned)})")
    total = sum(len(sweep.draws(job.method)) or sweep.trials for job in jobs)
    lines.append(f"  {total} trainings for {len(jobs)} networks; a draw that changes nothing for a row is drawn again")
    return "\n".join(lines)
