"""Cells: jobs that one worker runs, because they share the teacher of a fold and seed, or train as one model."""

from __future__ import annotations

import hashlib
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from sidelight.errors import SidelightWarning
from sidelight.experiment.artifacts import is_stored
from sidelight.experiment.assemble import run_job
from sidelight.experiment.leases import hold
from sidelight.experiment.mirror import mirror_of
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.stacks import run_stacked
from sidelight.training.compute import compute_on
from sidelight.utils.distributed import from_first, is_first
from sidelight.utils.stopping import Stopped, should_stop, stoppable

MakeModels = Callable[[int, int], FoldModels]
"""(fold, seed) -> models."""

_turn = threading.RLock()
"""Held by whoever runs a cell: torch's seeds and numbers of threads are those of the whole process."""


@dataclass(frozen=True)
class Cell:
    """Jobs that are run by one worker, in an order in which teachers come before their students.

    A cell depends on no other one. It may be run again at any time: stored jobs are skipped, and others go on from
    their checkpoints.
    """

    jobs: tuple[Job, ...]

    @property
    def id(self) -> str:
        """The name of the cell, which depends on its jobs alone."""
        first = self.jobs[0]
        digest = hashlib.sha256("/".join(job.id for job in self.jobs).encode()).hexdigest()
        return f"f{first.fold}-s{first.seed}-{digest[:12]}"

    @property
    def folds(self) -> list[str]:
        """The names of its folds and seeds."""
        return sorted({f"f{job.fold}-s{job.seed}" for job in self.jobs})


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Attributes:
        state: "done"; "busy": another process works on a fold of the cell; "stopped": it was asked to stop.
        warnings: what is to be shown to the user.
    """

    state: Literal["done", "busy", "stopped"]
    warnings: tuple[str, ...] = ()


def group_cells(jobs: Iterable[Job], parts: Sequence[Sequence[tuple[int, int]]] = ()) -> list[Cell]:
    """Group jobs into cells: those of one fold and seed, or of several.

    Args:
        jobs: the jobs, ordered by seed and fold.
        parts: the (seed, fold) of jobs that are trained together; those that are not named are trained one by one.
    """
    part_of = {fold: number for number, part in enumerate(parts) for fold in part}
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        where = (job.seed, job.fold)
        groups.setdefault(part_of.get(where, where), []).append(job)
    return [Cell(tuple(group)) for group in groups.values()]


def run_cell(
    make_models: MakeModels,
    folder: Path,
    cell: Cell,
    name: str = "",
    until: float = math.inf,
    on_finished: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run the jobs of a cell that are not stored yet, in this process.

    Args:
        make_models: builds the models of a fold and seed.
        folder: the run folder.
        cell: the cell.
        name: the name by which it is asked to stop.
        until: when it has to stop, in seconds since the epoch.
        on_finished: called after each job.
    """
    with _turn, stoppable(name, until):
        if should_stop():
            return Outcome("stopped")
        with hold(folder, cell.folds if is_first() else ()) as held:
            if not from_first(held):
                return Outcome("busy")
            with _exchanging(folder, cell, on_finished) as on_finished:
                jobs = [job for job in cell.jobs if not is_stored(folder, job)]
                try:
                    if jobs:
                        _run(make_models, jobs, on_finished)
                except Stopped:
                    return Outcome("stopped")
        return Outcome("done")


@contextmanager
def _exchanging(folder: Path, cell: Cell, on_finished: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Exchange the files of a cell with the URL of a run folder that has one; yields what is called after each job."""
    mirror = mirror_of(folder) if is_first() else None
    if mirror is None:
        yield on_finished
        return

    def send() -> None:
        mirror.push(cell.folds)
        on_finished()

    mirror.pull(cell.folds)
    yield send
    mirror.push(cell.folds)


def run_quietly(run: Callable[[], Outcome]) -> Outcome:
    """Run a cell in a worker; what it warns of is returned."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", SidelightWarning)
        outcome = run()
    return Outcome(outcome.state, tuple(str(warning.message) for warning in caught))


def _run(make_models: MakeModels, jobs: list[Job], on_finished: Callable[[], None]) -> None:
    """Run the jobs of one fold and seed one by one, or those of several together."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that the results are the same here and in a pool
    try:
        if len({(job.fold, job.seed) for job in jobs}) > 1:
            run_stacked(make_models, jobs, on_finished)
            return
        models = make_models(jobs[0].fold, jobs[0].seed)
        with compute_on(models.device, models.config.training):
            for job in jobs:
                models.failures.attempt(job, partial(run_job, models, job))
                on_finished()
                if from_first(should_stop()):
                    raise Stopped
    finally:
        torch.set_num_threads(threads)
