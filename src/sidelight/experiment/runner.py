"""Runs an experiment: its jobs, the controls of its best method, and its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sidelight.config import Config
from sidelight.data import Dataset
from sidelight.errors import ConfigError, RunError, unknown
from sidelight.experiment.artifacts import is_stored
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import UNDECIDED, Job, later, plan, without_self_distillation
from sidelight.experiment.pool import MakeModels, run_jobs
from sidelight.experiment.progress import Progress
from sidelight.experiment.provenance import Encoders, environment, made_with
from sidelight.experiment.resolve import resolve
from sidelight.experiment.run_folder import claimed
from sidelight.experiment.study import Study
from sidelight.methods import parse_methods
from sidelight.protocols import split
from sidelight.protocols.neighbours import warn_similar_neighbours
from sidelight.protocols.strata import warn_single_class
from sidelight.utils.atomic import write_atomic
from sidelight.utils.machine import usable_cores


def jobs_of(config: Config, dataset: Dataset) -> list[Job]:
    """The jobs of a resolved configuration that are known before the first result."""
    folds = split(dataset, config.protocol, config.folds, config.select, config.seed, config.gap)
    warn_similar_neighbours(dataset, config.protocol)
    warn_single_class(
        dataset, {f"{part} rows of {f.name}": getattr(f, part) for f in folds for part in ("select", "test")}
    )
    return plan(config, parse_methods(config.methods), len(folds), list(config.label_groups))


def execute(
    config: Config,
    dataset: Dataset,
    *,
    resume: bool = False,
    quiet: bool = False,
    encoders: Encoders | None = None,
    imports: Mapping[str, str] | None = None,
) -> Study:
    """Run every job that is not stored yet, then the controls of the best method; write results and report.

    Args:
        config: the settings.
        dataset: all rows.
        resume: continue what the output folder holds.
        quiet: no progress.
        encoders: modality -> the user's own encoder.
        imports: file or module of `--import` -> SHA-256 of its source.

    Raises:
        RunError: the folder holds another configuration, or a finished part of this one without `resume`.
    """
    config = resolve(config, dataset)
    for m in encoders or {}:
        if m not in dataset.inputs:
            raise ConfigError(f"encoders: {unknown('modality', m, dataset.inputs)}")
    folder = Path(config.output)
    specs, jobs = parse_methods(config.methods), jobs_of(config, dataset)
    now = environment(dataset, encoders or {}, specs.values(), imports)
    make_models = partial(FoldModels, config, dataset, folder, dict(encoders or {}), made_with=made_with(now))
    with claimed(folder, config, specs.values(), dataset, now, resume):
        expected = len(jobs) + len(later(config, specs, jobs, dict.fromkeys(config.label_groups, UNDECIDED)))
        with Progress(folder, expected, quiet) as progress:
            _run_all(make_models, config, jobs, progress, encoders or {})
            study = Study(folder)
            best = {labels: study.best_method(labels) for labels in config.label_groups}
            extra = later(config, specs, jobs, best)
            progress.expect(len(jobs) + len(extra))
            progress.warn(without_self_distillation(config, specs, best))
            if extra:
                _run_all(make_models, config, jobs, progress, encoders or {}, extra)
        study = Study(folder)
        if lost := len({job.id for job in [*jobs, *extra]}) - len(study.results):
            raise RunError(f"{lost} jobs of {folder} were damaged while it ran; go on with --resume (resume=True).")
        study.finish()
        return study


def _run_all(
    make_models: MakeModels,
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
    run_jobs(make_models, todo, config.jobs or usable_cores(), progress, encoders)
