"""`sidelight run`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sidelight.config import Config, dump_config
from sidelight.errors import ConfigError
from sidelight.utils.machine import launched
from sidelight.utils.phases import recording
from sidelight.utils.stopping import parse_duration, stops_on_sigterm
from sidelight.verbs.settings import execution_of, experiment_of

if TYPE_CHECKING:
    from sidelight.experiment import Job


def run_verb(args: argparse.Namespace) -> int:
    if launched()[1] == 1:
        return _run(args)
    from sidelight.utils.distributed import joined

    with joined():  # before anything that can fail, so that one process alone says why
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    config = experiment_of(args)
    from sidelight import experiment

    if args.dry_run:
        if launched()[0] > 0:
            return 0
        config, jobs = experiment.plan(config, args.own.encoders)
        print_plan(config, describe_plan(config, jobs))
        return 0
    limit = None if args.time_limit is None else parse_duration(args.time_limit, "--time-limit")
    if args.profile:
        config = _alone(config, args.scheduler)
    profile = recording() if args.profile else nullcontext()
    with stops_on_sigterm(config.checkpoint_seconds, limit), profile as recorder:
        study = experiment.run(config, time_limit=limit, **execution_of(args))
    if launched()[0] == 0:
        study.print()
    if recorder is not None:
        trace = Path(study.folder) / "trace.json"
        recorder.write_trace(trace)
        print(f"\n{recorder.format()}\ntrace, for chrome://tracing or Perfetto: {trace}")
    return 1 if study.failures else 0


def _alone(config: Config, scheduler: str | None) -> Config:
    """The settings of a run that is profiled: this process does everything, because others record nothing."""
    if scheduler is not None or launched()[1] > 1:
        raise ConfigError("--profile measures this process alone; leave out --scheduler, and start without torchrun.")
    if config.jobs > 1:
        raise ConfigError(f"--profile measures this process alone; leave out jobs={config.jobs}, or say jobs=1.")
    return replace(config, jobs=1)


def print_plan(config: Config, plan: str) -> None:
    """Print the settings as YAML, with the plan as comments: an experiment.yaml."""
    print(dump_config(config) + "".join(f"# {line}\n" for line in plan.splitlines()), end="")


def describe_plan(config: Config, jobs: Sequence[Job]) -> str:
    """How many networks of which kind would be trained."""
    counts = Counter((job.label_fraction, job.method + (f" ({job.control})" if job.control else "")) for job in jobs)
    folds, seeds = len({job.fold for job in jobs}), len({job.seed for job in jobs})
    lines = [f"plan: {len(jobs)} jobs over {folds} folds x {seeds} seeds"]
    for labels in sorted({labels for labels, _ in counts}):
        kinds = ", ".join(f"{name} {n}" for (share, name), n in counts.items() if share == labels)
        lines.append(f"  labels of {labels:.0%} of the training groups: {kinds}")
    if config.select_labels in ("auto", "inner") and any(job.label_fraction < 1 for job in jobs):
        lines.append("  where labels are few, epochs are chosen in 3 inner folds: 4 trainings in place of one")
    for control, chosen in (("placebo", config.placebo), ("self-distillation", config.self_distillation)):
        if "best" in chosen:
            lines.append(f"  and the {control} of the method that is chosen, without test rows")
    return "\n".join(lines)
