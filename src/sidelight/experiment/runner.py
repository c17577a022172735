"""Runs an experiment: its folder, its jobs, and what is resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from sidelight.config import Config
from sidelight.data import Dataset
from sidelight.data.rows import is_lazy
from sidelight.errors import ConfigError, DataError, RunError, unknown
from sidelight.experiment.cell import Cell
from sidelight.experiment.environment import Encoders, environment, made_with
from sidelight.experiment.folder import claimed
from sidelight.experiment.jobs import UNDECIDED, Job, later, plan, without_self_distillation
from sidelight.experiment.pool import MakeCell, run_jobs
from sidelight.experiment.progress import Progress
from sidelight.experiment.record import is_stored
from sidelight.experiment.study import Study
from sidelight.methods import Recipe, check_options, parse_methods
from sidelight.protocols import resolve, split
from sidelight.protocols.neighbours import warn_of_neighbours
from sidelight.protocols.strata import warn_of_one_class
from sidelight.results.store import write_atomic
from sidelight.tasks import asked_task
from sidelight.utils.machine import usable_cores


def settle(config: Config, dataset: Dataset) -> Config:
    """The configuration with every default that depends on the data filled in, and refused where it cannot work."""
    available, privileged = dataset.resolve(config.available, config.privileged)
    (_check_subsets if config.student.drop else _check_available)(config, dataset, available)
    budgets = list(config.label_groups) or list(dataset.question.get("label_groups", [])) or [1.0]
    output = config.output or str(Path("runs") / dataset.name)
    config = replace(
        config,
        available=list(available),
        privileged=list(privileged),
        protocol=resolve(dataset, config.protocol),
        label_groups=budgets,
        impute="mean" if "mean" in (config.impute, dataset.impute) else "no",
        output=output,
    )
    _check_views(config, dataset)
    for setting in ("encoders", "weights"):
        for m in getattr(config.network, setting):
            if m not in dataset.inputs:
                raise ConfigError(f"network.{setting}: {unknown('modality', m, dataset.inputs)}")
    if config.student.freeze and config.student.init == "random":
        raise ConfigError("student.freeze keeps encoders as the teacher left them; it needs student.init=teacher.")
    if config.teacher.crossfit:  # a row's name says what was run
        config = replace(
            config,
            methods=_crossfitted(config.methods),
            placebo=_crossfitted(config.placebo),
            self_distillation=_crossfitted(config.self_distillation),
        )
    task = asked_task(config, dataset)
    check_options(config)
    shapes = {m: dataset.shape(m) for m in (*available, *privileged)}
    for recipe in parse_methods(config.methods):
        recipe.check(config, task, shapes)
    _check_self_distillation(config)
    return config


def _check_self_distillation(config: Config) -> None:
    """A baseline as the teacher needs a method whose teacher it can replace."""
    reasons = {recipe.name: recipe.irreplaceable for recipe in parse_methods(config.methods)}
    for name in config.self_distillation:
        if reasons.get(name):
            raise ConfigError(f"self_distillation: {name!r} {reasons[name]}. Leave it out there.")
    if "none" not in config.self_distillation and all(reasons.values()):
        listed = "; ".join(f"{name!r} {reason}" for name, reason in reasons.items())
        raise ConfigError(f"self_distillation: no method can have it: {listed}. Set self_distillation=none.")


def _check_views(config: Config, dataset: Dataset) -> None:
    """Of a class per pixel, label maps and all images have to be seen in the same view."""
    if not (dataset.size and config.augment.moves):
        return
    rows = {repr(m): dataset.inputs[m] for m in (*config.available, *config.privileged)}
    for what, x in {**rows, "the target": dataset.target}.items():
        pixels = x.ndim >= 4 or what == "the target"
        if pixels and not (is_lazy(x) and x.kind.lazy):
            raise ConfigError(
                f"{dataset.name} has a class per pixel, and {what} is kept in arrays, of which no view is drawn: leave "
                "augment.crop and augment.flip as they are, or give image files (a prepared folder)."
            )


def _crossfitted(names: Sequence[str]) -> list[str]:
    def named(name: str) -> str:
        whole = name in ("best", "all", "none") or "@" in name or Recipe.parse(name).alone
        return name if whole else f"{name}@crossfit"

    return list(dict.fromkeys(map(named, names)))


def _check_available(config: Config, dataset: Dataset, available: Sequence[str]) -> None:
    """A deployed student reads its modalities in every row, so a row without one is an error unless it is imputed."""
    for m in available:
        missing = np.flatnonzero(~dataset.present[m])
        if len(missing) and dataset.impute == "no":
            raise DataError(
                f"{dataset.name}: {m!r} is available, but {dataset.row(int(missing[0]))} lacks it ({len(missing)} rows "
                "do). Give the values, leave the rows out, fill them with the train rows' mean (--impute mean), or "
                "train one student for any subset of the modalities (student.drop=0.3)."
            )


def _check_subsets(config: Config, dataset: Dataset, available: Sequence[str]) -> None:
    """A student for any subset needs at least two modalities, and of every row at least one of them."""
    if len(available) < 2:
        raise ConfigError(
            f"student.drop leaves available modalities out, but there is only {available[0]!r}. Name another one in "
            "available, or set student.drop=0."
        )
    nothing = np.flatnonzero(~np.any([dataset.present[m] for m in available], axis=0))
    if len(nothing):
        raise DataError(
            f"{dataset.name}: {dataset.row(int(nothing[0]))} has none of the available modalities "
            f"{', '.join(available)} ({len(nothing)} such rows). Leave these rows out."
        )


def jobs_of(config: Config, dataset: Dataset) -> list[Job]:
    """The plan of a settled configuration."""
    folds = split(dataset, config.protocol, config.folds, config.select, config.seed, config.gap)
    warn_of_neighbours(dataset, config.protocol)
    warn_of_one_class(
        dataset, {f"{part} rows of {f.name}": getattr(f, part) for f in folds for part in ("select", "test")}
    )
    return plan(config, len(folds), list(config.label_groups))


def execute(
    config: Config, dataset: Dataset, *, resume: bool = False, quiet: bool = False, encoders: Encoders | None = None
) -> Study:
    """Run every job that is not stored yet, then the controls of the best method; write results and report.

    Raises:
        RunError: the folder holds another configuration, or a finished part of this one without `resume`.
    """
    config = settle(config, dataset)
    for m in encoders or {}:
        if m not in dataset.inputs:
            raise ConfigError(f"encoders: {unknown('modality', m, dataset.inputs)}")
    folder = Path(config.output)
    jobs = jobs_of(config, dataset)
    now = environment(dataset, encoders or {}, config.methods)
    make_cell = partial(Cell, config, dataset, folder, dict(encoders or {}), made_with=made_with(now))
    with claimed(folder, config, dataset, now, resume):
        expected = len(jobs) + len(later(config, jobs, dict.fromkeys(config.label_groups, UNDECIDED)))
        with Progress(folder, expected, quiet) as progress:
            _run_all(make_cell, config, jobs, progress, encoders or {})
            study = Study(folder)
            best = {labels: study.best_method(labels) for labels in config.label_groups}
            extra = later(config, jobs, best)
            progress.expect(len(jobs) + len(extra))
            progress.warn(without_self_distillation(config, best))
            if extra:
                _run_all(make_cell, config, jobs, progress, encoders or {}, extra)
        study = Study(folder)
        if lost := len({job.id for job in [*jobs, *extra]}) - len(study.results):
            raise RunError(f"{lost} jobs of {folder} were damaged while it ran; go on with --resume (resume=True).")
        study.finish()
        return study


def _run_all(
    make_cell: MakeCell,
    config: Config,
    jobs: list[Job],
    progress: Progress,
    encoders: Encoders,
    extra: list[Job] | None = None,
) -> None:
    """Run `jobs`, or the `extra` ones that follow them."""
    folder = Path(config.output)
    write_atomic(folder / "plan.json", json.dumps({"jobs": [job.id for job in [*jobs, *(extra or [])]]}, indent=0))
    todo = [job for job in (extra or jobs) if not is_stored(folder, job)]
    progress.recount()
    run_jobs(make_cell, todo, config.jobs or usable_cores(), progress, encoders)
