"""Says which trainings can be stacked, and trains a stack, with checkpoints."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sidelight.config import BalanceConfig, TrainingConfig
from sidelight.methods.stacking import explain_unstackable
from sidelight.methods.teacher_outputs import find_cached
from sidelight.training.checkpoint import load_checkpoint, save_checkpoint
from sidelight.training.job import Trained, TrainingJob
from sidelight.training.loop import History
from sidelight.training.pace import set_pace
from sidelight.training.stacked import StackedLoop
from sidelight.utils.stopping import Stopped, should_stop

LARGEST_NETWORK = 2_000_000
"""The most weights of a method that is stacked: a step of a larger one hardly waits for Python."""


def find_obstacle(job: TrainingJob, settings: TrainingConfig, balance: BalanceConfig) -> str:
    """Why a training cannot be stacked, as the end of a sentence; "" if it can.

    Args:
        job: the training.
        settings: the optimisation budget.
        balance: the settings of the loss weighting.
    """
    method = job.method
    kind = method.balance if balance.kind == "method" else balance.kind
    parameters = list(method.parameters())
    if why := explain_unstackable(method):
        return why
    if settings.precision != "32":
        return f"training.precision={settings.precision} is for large networks"
    if kind != "fixed":
        return f"balance.kind={kind} weighs the losses by their values"
    if any(teacher.taught is not None for teacher in getattr(method, "teachers", {}).values()):
        return "its teachers do not teach all rows"
    if any(batch.files or batch.pixels or batch.stored or batch.maps is not None for batch in (job.train, job.select)):
        return "its rows are read batch by batch"
    if job.train.least_steps or job.select.least_steps:
        return "its batches differ in length"
    if any(not (p.is_floating_point() and p.device.type == "cpu") for p in parameters):
        return "its networks are not on the CPU"
    if sum(p.numel() for p in parameters) > LARGEST_NETWORK:
        return f"its networks have more than {LARGEST_NETWORK:,} weights"
    return ""


def structure_of(job: TrainingJob, settings: TrainingConfig, balance: BalanceConfig) -> tuple[Any, ...]:
    """What the trainings of a stack have in common: everything but the values of tensors, the rows and the seed."""
    method = job.method
    cached = {id(value) for part in find_cached(method) for value in part.buffers()}
    weights = [(name, p.shape, p.dtype, p.requires_grad) for name, p in method.named_parameters()]
    buffers = [(name, b.shape, b.dtype) for name, b in method.named_buffers() if id(b) not in cached]
    outputs = [[(name, x.shape[1:], x.dtype) for name, x in part.all_rows.items()] for part in find_cached(method)]
    numbers = [_settings_of(module) for module in (*method.modules(), method.task)]
    batch = job.train_batch()
    rows = [(m, x.shape[1:], x.dtype) for m, x in batch.inputs.items()]
    # Schedules and warm-ups count steps and epochs, of which folds of different sizes have different numbers.
    counted = settings.schedule != "constant" or balance.warmup
    steps = set_pace(settings, job.rows_per_epoch).steps if counted else 0
    return (
        type(method), method.reads, weights, buffers, outputs, numbers, method.weights, rows, sorted(batch.lengths),
        batch.target.shape[1:], batch.target.dtype, job.teacher_fold is None, steps,
    )  # fmt: skip


def _settings_of(owner: object) -> list[tuple[str, Any]]:
    """The class of an object, and its attributes that are plain values; the units of a task are tensors too."""
    plain = {name: value for name, value in vars(owner).items() if isinstance(value, bool | int | float | str)}
    plain.pop("training", None)  # the mode of a module, which the stack sets
    return [("class", type(owner)), *plain.items()]


def group_jobs(
    jobs: Sequence[TrainingJob], settings: TrainingConfig, balance: BalanceConfig, most: int
) -> list[list[int]]:
    """Divide trainings into stacks of at most `most`; a training that cannot be stacked is alone.

    Args:
        jobs: the trainings.
        settings: the optimisation budget.
        balance: the settings of the loss weighting.
        most: the largest number of models of a stack.

    Returns:
        The positions of the trainings of each stack.
    """
    kinds: list[tuple[Any, ...]] = []
    kind_of: list[int] = []
    for job in jobs:
        kind = ("alone", len(kinds)) if find_obstacle(job, settings, balance) else structure_of(job, settings, balance)
        if kind not in kinds:
            kinds.append(kind)
        kind_of.append(kinds.index(kind))
    stacks: list[list[int]] = []
    for _, group in groupby(sorted(range(len(jobs)), key=lambda i: kind_of[i]), key=lambda i: kind_of[i]):
        members = list(group)
        parts = -(-len(members) // most)
        stacks += [part.tolist() for part in torch.tensor(members).tensor_split(parts)]
    return stacks


def fit_stacked(
    jobs: Sequence[TrainingJob],
    settings: TrainingConfig,
    balance: BalanceConfig,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 30.0,
    identity: str = "",
) -> list[Trained]:
    """`fit` for several trainings of one structure at once.

    The last checkpoint holds the trained models, so that none is trained again if the process is killed before all of
    them are stored (`load_trained`).

    Args:
        jobs: the trainings; their methods are trained in place.
        settings: the optimisation budget.
        balance: the settings of the loss weighting.
        checkpoint: the file of the checkpoint; None for no checkpoint.
        checkpoint_seconds: the least time between two checkpoints.
        identity: what the checkpoint belongs to.

    Returns:
        The record of each training.

    Raises:
        RunError: a training has no row to learn from. A term, weight or score that becomes NaN or infinite ends the
            training of its model alone (`Trained.error`).
        CheckpointError: the checkpoint is damaged or belongs to another stack.
    """
    loop = StackedLoop(jobs, settings, balance)
    if checkpoint is not None and checkpoint.exists():
        loop.load_state_dict(load_checkpoint(checkpoint, identity))
    else:
        loop.start()
    last_saved = time.perf_counter()
    while loop.active:
        loop.take_step()
        stop = should_stop()
        overdue = stop or time.perf_counter() - last_saved >= checkpoint_seconds
        if checkpoint is not None and (overdue or not loop.active):
            save_checkpoint(checkpoint, loop.state_dict(), identity)
            last_saved = time.perf_counter()
        if stop:
            raise Stopped
    return loop.finish()


def load_trained(job: TrainingJob, state: Mapping[str, Any]) -> Trained | None:
    """Load one trained model from the last checkpoint of its stack; None if the stack was not trained to its end.

    Args:
        job: the training, whose method is changed in place.
        state: the checkpoint.
    """
    if state["active"] or job.name not in state["names"]:
        return None
    member: Mapping[str, Any] = state["members"][state["names"].index(job.name)]
    best: dict[str, Tensor] = member["best"]
    job.method.load_state_dict(best)
    job.method.eval()
    if job.callback:
        job.callback.load_state_dict(member["watch"])
    history = History(**(member["history"] | {"stacked": len(state["names"])}))
    return Trained(history, member["dropout"], member.get("error", ""))
