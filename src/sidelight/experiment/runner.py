"""Runs an experiment: its jobs, the controls of its best method, and the report."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sidelight.config import Config, dump_config
from sidelight.data import Dataset
from sidelight.data.mapped import share_rows
from sidelight.errors import ConfigError, RunError, unknown
from sidelight.experiment.artifacts import is_stored
from sidelight.experiment.cells import MakeModels
from sidelight.experiment.failures import Failures, check_comparable, check_names, warn_of_failures
from sidelight.experiment.handed_over import check_executor, open_workers
from sidelight.experiment.handout import hand_out
from sidelight.experiment.mirror import mirror_of, open_mirror
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import UNDECIDED, Job, explain_missing_self_distillation, plan, plan_best_controls
from sidelight.experiment.pool import run_jobs
from sidelight.experiment.progress import Progress
from sidelight.experiment.provenance import Encoders, describe_environment, select_digests
from sidelight.experiment.resolve import resolve
from sidelight.experiment.run_folder import enter_run_folder
from sidelight.experiment.stacks import Fold, divide_folds, explain_separate
from sidelight.experiment.study import Study
from sidelight.experiment.sweep_folder import check_sweep
from sidelight.experiment.workers import Limits, Workers
from sidelight.methods import MethodSpec, parse_methods
from sidelight.protocols import split
from sidelight.protocols.neighbours import warn_similar_neighbours
from sidelight.protocols.strata import warn_single_class
from sidelight.sweeps import Sweep
from sidelight.tracking import Logger, LoggerMaker, Tracking
from sidelight.utils.atomic import write_atomic
from sidelight.utils.device import choose_device, default_workers, describe_device
from sidelight.utils.distributed import check_devices, check_same, from_first, get_world, is_first, joined, on_first
from sidelight.utils.machine import release_memory, usable_cores
from sidelight.utils.stopping import stoppable


def plan_jobs(config: Config, dataset: Dataset, specs: Mapping[str, MethodSpec]) -> list[Job]:
    """List the jobs that are known before the first result, and warn about folds that make a comparison weak.

    Args:
        config: the experiment's settings, with every default filled in.
        dataset: all rows.
        specs: the methods of the experiment, parsed.
    """
    folds = split(dataset, config.protocol, config.folds, config.select, config.seed, config.gap)
    warn_similar_neighbours(dataset, config.protocol)
    warn_single_class(
        dataset, {f"{part} rows of {f.name}": getattr(f, part) for f in folds for part in ("select", "test")}
    )
    return plan(config, specs, len(folds), list(config.label_fraction))


def execute(
    config: Config,
    dataset: Dataset,
    *,
    resume: bool = False,
    quiet: bool = False,
    encoders: Encoders | None = None,
    imports: Mapping[str, str] | None = None,
    only: Collection[str] = (),
    executor: Executor | str | None = None,
    until: float = math.inf,
    loggers: Sequence[Logger | LoggerMaker] = (),
    sweep: Sweep | None = None,
) -> Study:
    """Run every job that is not stored yet, then the controls of the best method; write results and report.

    A job that fails is stored in `failed/`, and the others go on (`Failures`).

    Args:
        config: the experiment's settings.
        dataset: all rows.
        resume: continue the run that the output folder holds.
        quiet: show no progress.
        encoders: modality -> the user's own encoder.
        imports: file or module of `--import` -> SHA-256 of its source.
        only: ids of jobs; the others are left as they are.
        executor: where cells run, as in `compare`; None for this machine.
        until: when the run has to stop, in seconds since the epoch.
        loggers: are told of every epoch, beside the trackers of `config.tracking`.
        sweep: the sweep of which each job is the best draw.

    Under torchrun every process calls it: all of them train each network together, and process 0 writes the folder.

    Raises:
        RunError: the folder holds another run, or finished jobs of this one without `resume`; the processes of
            torchrun have different data or settings; or so many jobs failed that nothing can be compared.
        UnfinishedError: the run was asked to stop, its time is over, or the executor has ended.
    """
    held = [dataset]
    del dataset
    return _execute(config, held, resume, quiet, encoders, imports, only, executor, until, loggers, sweep)


@joined()
def _execute(
    config: Config,
    held: list[Dataset],
    resume: bool,
    quiet: bool,
    encoders: Encoders | None,
    imports: Mapping[str, str] | None,
    only: Collection[str],
    executor: Executor | str | None,
    until: float,
    loggers: Sequence[Logger | LoggerMaker],
    sweep: Sweep | None,
) -> Study:
    """As `execute`. The data set comes in a list, because `joined` holds the arguments until the run ends."""
    dataset = held.pop()
    if executor is not None:
        check_executor(executor)
        if get_world().size > 1:
            raise ConfigError("the processes of torchrun share every job; start the run without it to use --scheduler.")
    config = resolve(config, dataset)
    for m in encoders or {}:
        if m not in dataset.inputs:
            raise ConfigError(f"encoders: {unknown('modality', m, dataset.inputs)}")
    mirror = None
    if "://" in config.output:
        if get_world().size > 1:
            raise ConfigError(
                f"output={config.output!r}: the processes of torchrun need a run folder that all of them see."
            )
        mirror = open_mirror(config.output)
        config = replace(config, output=str(mirror.folder))
    folder = Path(config.output)
    specs = parse_methods(config.methods)
    jobs = plan_jobs(config, dataset, specs)
    check_names(only, folder, jobs)
    device = choose_device(config.training.device)
    check_devices(device)
    now = describe_environment(dataset, encoders or {}, specs.values(), imports, device)
    if get_world().size > 1:
        check_same(settings=dump_config(config), data=now["data"]["sha256"], versions=json.dumps(now["versions"]))
    count = _count_workers(config, device, executor)
    sent = count > 1 or executor is not None
    tracking = Tracking(folder, config.tracking, loggers, sent) if is_first() else Tracking(folder)
    check = partial(check_sweep, folder, sweep)
    limits = Limits(f"{os.getpid()}-{secrets.token_hex(4)}", until)
    with (
        stoppable(limits.name, until),
        _locked(partial(enter_run_folder, folder, config, specs.values(), dataset, now, resume, check)),
        share_rows(dataset, folder) if count > 1 and executor is None else nullcontext(dataset) as rows,
        ExitStack() as opened,
    ):
        del dataset  # its arrays are freed here, unless the caller holds them too
        release_memory()
        tracking.prepare()
        made: dict[str, Any] = {"made_with": select_digests(now), "tracking": tracking, "sweep": sweep}
        make_models = partial(FoldModels, config, rows, folder, dict(encoders or {}), **made)
        # The controls of the best method are counted before it is known, for the progress bar.
        expected = len(jobs) + len(
            plan_best_controls(config, specs, jobs, dict.fromkeys(config.label_fraction, UNDECIDED))
        )
        others: Workers | None = None
        if executor is not None:
            handout = hand_out(folder, config, rows, now, encoders or {}, imports or {}, tracking, sweep)
            others = opened.enter_context(open_workers(executor, handout, limits, config.checkpoint_seconds))
        with Progress(folder, expected, quiet or not is_first()) as progress:
            if mirror:
                progress.say(f"working in {folder}, a copy of {mirror.url}")
            processes = f" in {get_world().size} processes" if get_world().size > 1 else ""
            if sweep is not None:
                progress.say(f"every job is the best of its draws: {sweep.trials} of each method and of the baseline")
            progress.say(f"training on {describe_device(device)}{processes}")
            parts = _divide(config, jobs, count, rows, encoders or {}, progress)
            own = dict(encoders or {}) | tracking.own
            run_all = partial(
                _run_all, make_models, config, jobs, progress, own, parts, count, limits, others, only=only
            )
            run_all()
            study = Study(folder)
            if study.waiting and only:
                return study
            # Only now is it known which method is best, and whose placebo has to run.
            found = from_first([study.find_best_method(f) for f in config.label_fraction])
            best = {share: method for share, method in zip(config.label_fraction, found) if method}
            check_comparable(study, best)
            extra = plan_best_controls(config, specs, jobs, best)
            progress.expect(len(jobs) + len(extra))
            progress.warn(explain_missing_self_distillation(config, specs, best))
            if extra:
                run_all(extra)
                study = Study(folder)
        if study.waiting and not only:
            raise RunError(
                f"{len(study.waiting)} jobs of {folder} were damaged during the run; continue with --resume "
                "(resume=True)."
            )
        on_first(study.finish)
        if mirror:
            mirror.push()
        warn_of_failures(study)
        return study


@contextmanager
def _locked(lock: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Hold the lock of the run folder in process 0; the others wait until it has checked the folder."""
    held = lock() if is_first() else nullcontext()
    del lock  # it holds the rows, which a run moves to files
    with held:
        on_first(lambda: None)
        yield


def _run_all(
    make_models: MakeModels,
    config: Config,
    jobs: list[Job],
    progress: Progress,
    own: Mapping[str, Any],
    parts: list[list[Fold]],
    count: int,
    limits: Limits,
    others: Workers | None,
    extra: list[Job] | None = None,
    only: Collection[str] = (),
) -> None:
    """Run `jobs`, or the `extra` jobs that follow them; the plan of the run lists both."""
    folder = Path(config.output)
    planned = [job.id for job in [*jobs, *(extra or [])]]
    on_first(lambda: write_atomic(folder / "plan.json", json.dumps({"jobs": planned}, indent=0)))
    todo = [job for job in (extra or jobs) if (not only or job.id in only) and not is_stored(folder, job)]
    on_first(partial(Failures(folder, config.max_failures).forget, todo))
    if mirror := mirror_of(folder):
        mirror.push()
    progress.recount()
    run_jobs(make_models, folder, todo, count, progress, own, parts, limits, others)


def _count_workers(config: Config, device: torch.device, executor: Executor | str | None) -> int:
    """The number of worker processes of this process; the processes of torchrun share every job.

    How many workers an executor has may change from hour to hour, and what is trained together must not.
    """
    if get_world().size > 1:
        return 1
    return config.jobs or (default_workers(device, usable_cores()) if executor is None else 1)


def _divide(
    config: Config, jobs: list[Job], workers: int, dataset: Dataset, encoders: Encoders, progress: Progress
) -> list[list[Fold]]:
    """Divide folds into parts whose jobs are trained together, and say so; [] if every job is trained by itself."""
    named = (*config.available, *config.privileged)
    size = sum(rows.nbytes for m, rows in dataset.inputs.items() if m in named and m not in dataset.lazy)
    if why := explain_separate(config, size, bool(encoders)):
        if config.training.stack != 1:
            progress.say(f"each network is trained by itself: {why}")
        return []
    # Of the whole plan, so that a resumed run divides them alike.
    parts = divide_folds(((job.seed, job.fold) for job in jobs), config, workers, size)
    largest = max(map(len, parts))
    if largest == 1:
        return []
    progress.say(f"up to {largest} folds and seeds are trained as one model (training.stack=1: one by one)")
    return parts
