"""Which jobs of a run are trained together, and their training in stacks."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sidelight.config import Config
from sidelight.config.encoder_names import SIMPLE
from sidelight.errors import CheckpointError, ConfigError, DiskError, RunError, SidelightWarning
from sidelight.experiment.assemble import run_job
from sidelight.experiment.failures import describe_error
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.together import Together
from sidelight.training.checkpoint import load_checkpoint
from sidelight.training.compute import compute_on
from sidelight.training.fit_stacked import fit_stacked, group_jobs, load_trained
from sidelight.training.job import Trained, TrainingJob
from sidelight.training.loop import History
from sidelight.utils.device import choose_device
from sidelight.utils.distributed import get_world

FOLDS_AT_ONCE = 8
"""The most folds (of any seed) whose jobs are trained together by default: their rows are held at the same time."""
MODELS_AT_ONCE = 16
"""The most models of a stack by default: a step of more waits for memory."""
LEAST = 4
"""The fewest models that are stacked by default: fewer are trained sooner one after the other."""
BYTES_AT_ONCE = 2**28
"""The largest size of the rows of all folds that are trained together by default."""
Fold = tuple[int, int]
"""(seed, fold)"""
Waiting = tuple[FoldModels, TrainingJob]


def explain_separate(config: Config, row_bytes: int, own_encoders: bool) -> str:
    """Why the jobs of a run cannot be trained together, as the end of a sentence; "" if they can.

    Args:
        config: the experiment's settings, with every default filled in.
        row_bytes: the size of all rows.
        own_encoders: whether the user has encoders of their own.
    """
    if config.training.stack == 1:
        return "training.stack=1"
    if choose_device(config.training.device).type != "cpu" or get_world().size > 1:
        return "stacks are trained by one process on a CPU"
    if config.training.accumulate > 1:
        return f"training.accumulate={config.training.accumulate} is for encoders that are too large for it"
    if config.training.compile:
        return "training.compile=true compiles the encoders of one network"
    if own_encoders:
        return "your own encoders may not run for several models at once"
    named = [*config.network.encoders.values(), config.network.encoder]
    if large := [name for name in named if name not in SIMPLE]:
        return f"a network such as {large[0]} hardly waits for Python"
    if config.training.stack == 0 and row_bytes * 2 > BYTES_AT_ONCE:
        return "every fold holds its own preprocessed rows, which are too many here (training.stack=4 insists)"
    return ""


def divide_folds(folds: Iterable[Fold], config: Config, workers: int, row_bytes: int) -> list[list[Fold]]:
    """Divide the folds of all seeds into parts, the jobs of each of which are trained together by one worker.

    Args:
        folds: the (seed, fold) of every job of the run.
        config: the experiment's settings.
        workers: the number of processes.
        row_bytes: the size of all rows.
    """
    ordered = sorted(set(folds))
    most = config.training.stack or min(FOLDS_AT_ONCE, max(1, BYTES_AT_ONCE // max(row_bytes, 1)))
    parts = math.ceil(len(ordered) / most)
    if not config.training.stack:
        parts = min(len(ordered), math.ceil(max(parts, workers) / workers) * workers)
    return [[ordered[i] for i in part.tolist()] for part in torch.arange(len(ordered)).tensor_split(parts)]


def run_stacked(
    make_models: Callable[[int, int], FoldModels], jobs: Sequence[Job], on_finished: Callable[[], None]
) -> None:
    """Run the jobs of several folds together.

    Jobs of one method and control form a round: they differ in fold, seed and label fraction, so they train networks of
    the same structure, and no two of them need the same teacher at the same time.

    Args:
        make_models: (fold, seed) -> the models of a fold.
        jobs: the jobs, in an order in which teachers come before their students.
        on_finished: called after each job.
    """
    models: dict[Fold, FoldModels] = {}
    for job in jobs:
        if (job.seed, job.fold) not in models:
            models[job.seed, job.fold] = make_models(job.fold, job.seed)
    stacks = Stacks(next(iter(models.values())))
    together = Together(stacks.train)
    for own in models.values():
        own.train = partial(_wait, together)

    def run(job: Job) -> None:
        own = models[job.seed, job.fold]
        own.failures.attempt(job, partial(run_job, own, job))
        on_finished()

    rounds: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        rounds.setdefault((job.method, job.control), []).append(job)
    with compute_on(stacks.device, stacks.config.training):
        # A resumed run may miss the teachers of some folds, and the students of all.
        for members in sorted(rounds.values(), key=lambda members: members[0].spec is not None):
            members.sort(key=lambda job: (job.label_fraction, job.seed, job.fold))
            together.run([partial(run, job) for job in members])
            stacks.forget()


def _wait(together: Together[Waiting, Trained], models: FoldModels, job: TrainingJob) -> Any:
    """Train a job of some models when all others wait too; torch's random numbers go on as if it were alone.

    Raises:
        RunError: the training of this job failed; the others go on.
    """
    trained = together.ask((models, job))
    if trained.error:
        raise RunError(trained.error)
    torch.set_rng_state(trained.random)
    return trained.history


class Stacks:
    """Trains what waits at the same time: in stacks where that is possible and pays, else one after the other.

    Args:
        models: any models of the run, for its folder and settings.
    """

    def __init__(self, models: FoldModels):
        self.config, self.folder, self.device = models.config, models.folder / "checkpoints", models.device
        self.most = self.config.training.stack or MODELS_AT_ONCE
        self.least = 2 if self.config.training.stack else LEAST
        self.finished: list[Path] = []

    def forget(self) -> None:
        """Delete the checkpoints of stacks whose models are stored."""
        for path in self.finished:
            path.unlink(missing_ok=True)
        self.finished.clear()

    def train(self, waiting: Sequence[Waiting]) -> list[Trained]:
        """Train all that waits; returns the record of each."""
        self.forget()  # whoever waits again has stored what it trained before
        trained = self._resume(waiting)
        left = [i for i, (_, job) in enumerate(waiting) if job.name not in trained]
        for alike in _divide_settings([waiting[i] for i in left]):
            config = alike[0][0].config
            for stack in group_jobs([job for _, job in alike], config.training, config.balance, self.most):
                chosen = [alike[i] for i in stack]
                if len(chosen) < self.least:
                    for models, job in chosen:
                        (trained[job.name],) = _or_errors(partial(_train_alone, models, job), 1)
                else:
                    names = (job.name for _, job in chosen)
                    trained |= zip(names, _or_errors(partial(self._fit, chosen), len(chosen)))
        return [trained[job.name] for _, job in waiting]

    def _fit(self, waiting: Sequence[Waiting]) -> list[Trained]:
        """Train a stack, from its checkpoint if there is one."""
        config, jobs = waiting[0][0].config, [job for _, job in waiting]
        identity = _name_stack(job.name for job in jobs)
        path = self.folder / f"{identity}.pt"
        self.finished.append(path)
        seconds = self.config.checkpoint_seconds
        return fit_stacked(jobs, config.training, config.balance, path, seconds, identity)

    def _resume(self, waits: Sequence[Waiting]) -> dict[str, Trained]:
        """Finish the stacks that a killed run began and whose models wait now; returns the records by name."""
        waiting = {job.name: (models, job) for models, job in waits}
        trained: dict[str, Trained] = {}
        for path in sorted(self.folder.glob("stack-*.pt")):
            if not path.exists():  # another process has finished its stack
                continue
            try:
                state: Mapping[str, Any] = load_checkpoint(path, path.stem)
            except CheckpointError as error:
                warnings.warn(f"{error} It was deleted.", SidelightWarning, stacklevel=2)
                path.unlink(missing_ok=True)
                continue
            found = [waiting[name] for name in state["names"] if name in waiting and name not in trained]
            if not found:
                continue
            if not state["active"]:
                self.finished.append(path)
                for _, job in found:
                    result = load_trained(job, state)
                    assert result is not None
                    trained[job.name] = result
            elif len(found) == len(state["names"]):
                trained |= zip(state["names"], self._fit(found))
            else:
                path.unlink(missing_ok=True)  # the run was divided otherwise
        return trained


def _or_errors(train: Callable[[], Sequence[Trained]], count: int) -> list[Trained]:
    """Train `count` jobs; an error is theirs, so that the jobs that wait beside them go on."""
    try:
        return list(train())
    except (ConfigError, DiskError):
        raise
    except Exception as error:
        return [Trained(History(), torch.get_rng_state(), describe_error(error))] * count


def _train_alone(models: FoldModels, job: TrainingJob) -> list[Trained]:
    return [Trained(models.train_alone(job), torch.get_rng_state())]


def _divide_settings(waiting: Sequence[Waiting]) -> list[list[Waiting]]:
    """Divide what waits by the settings of its training, which differ between the draws of a sweep."""
    kinds: list[list[Waiting]] = []
    for one in waiting:
        config = one[0].config
        for kind in kinds:
            if (config.training, config.balance) == (kind[0][0].config.training, kind[0][0].config.balance):
                kind.append(one)
                break
        else:
            kinds.append([one])
    return kinds


def _name_stack(names: Iterable[str]) -> str:
    """The name of the checkpoint of a stack, from the names of its trainings in their order."""
    return f"stack-{hashlib.sha256('/'.join(names).encode()).hexdigest()[:16]}"
