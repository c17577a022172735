"""Training of one stage by itself, which continues where a killed run was."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

from sidelight.config import Config
from sidelight.errors import CheckpointError, SidelightWarning
from sidelight.training import History, fit
from sidelight.training.job import TrainingJob
from sidelight.utils.distributed import is_first, on_first


def train_alone(job: TrainingJob, config: Config, folder: Path) -> History:
    """Train one stage, from its checkpoint if there is one; the checkpoint is deleted when it has ended.

    Args:
        job: the method, its rows, and what trains it.
        config: the settings of training, and how often a checkpoint is written.
        folder: has the checkpoints, each with the name of its job.
    """
    checkpoint = folder / f"{job.name}.pt"
    train_stage = partial(
        fit,
        job.method,
        job.train,
        job.select,
        config.training,
        seed=job.seed,
        balance=config.balance,
        teacher_fold=job.teacher_fold,
        checkpoint=checkpoint,
        checkpoint_seconds=config.checkpoint_seconds,
        identity=job.name,
        callback=job.callback,
        augment=config.augment,
        epoch_rows=job.epoch_rows,
        scores=job.scores,
        observer=job.observer,
    )
    try:
        history = train_stage()
    except CheckpointError as error:  # raised before the method is changed, so it can be trained from its start
        warnings.warn(f"{error} It was deleted, and the job is trained from its beginning.", SidelightWarning, 2)
        on_first(partial(checkpoint.unlink, missing_ok=True))
        history = train_stage()
    if is_first():
        checkpoint.unlink(missing_ok=True)
    return history
