"""Trains a method, with checkpoints: the only training loop of sidelight runs here."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from torch import Tensor

from sidelight.config import AugmentConfig, BalanceConfig, TrainingConfig
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError, RunError, SidelightWarning
from sidelight.methods.base import Method
from sidelight.training.checkpoint import load_checkpoint, save_checkpoint
from sidelight.training.compiling import check_compile, compiled_encoders
from sidelight.training.job import Callback, Observer, TrainingJob
from sidelight.training.loop import History, TrainingLoop
from sidelight.training.precision import check_precision
from sidelight.utils.device import choose_device, describe_device, to_cpu
from sidelight.utils.distributed import copy_from_first, from_first, get_world, in_all, is_first
from sidelight.utils.stopping import Stopped, should_stop


def fit(
    method: Method,
    train: Batch,
    select: Batch,
    settings: TrainingConfig,
    *,
    seed: int,
    balance: BalanceConfig | None = None,
    teacher_fold: Tensor | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 30.0,
    identity: str = "",
    callback: Callback | None = None,
    augment: AugmentConfig | None = None,
    threads: int | None = None,
    epoch_rows: int = 0,
    scores: Sequence[float] = (),
    observer: Observer | None = None,
) -> History:
    """Train a method, and leave it with the weights of the epoch that has the best score on `select`.

    The loop asks the method for a step, weighs its terms, takes the gradient with respect to the parameter group of the
    step, updates the group, and resumes the method. With `checkpoint`, everything that the rest of the training depends
    on is saved atomically at the end of epochs, and an existing checkpoint is continued with the same bits.

    Args:
        method: the method; it is moved to the device of the settings, and its networks are trained in place.
        train: the training rows.
        select: the rows whose score chooses the epoch.
        settings: the optimisation budget.
        seed: the seed of the order of rows and of dropout.
        balance: how terms are weighed against one another; by default as the method asks.
        teacher_fold: (training rows,) int64, the cross-fitted teacher of each row; relational methods get batches with
            the rows of one teacher.
        checkpoint: the file of the checkpoint; None for no checkpoint.
        checkpoint_seconds: the least time between two checkpoints.
        identity: what the checkpoint belongs to; a checkpoint of another identity is an error.
        callback: called before the first epoch and after each.
        augment: how the views of rows that are files are drawn; the centre view by default. The view of a row depends
        on
            the seed, the step and the row alone.
        threads: the threads that decode files ahead of the step; by default as many as there are cores. The result does
            not depend on it.
        epoch_rows: the number of rows that gives the steps of an epoch; by default that of `train`.
        scores: the score of each epoch, if inner trainings have measured it: training ends after the first of the best
            scores, and `select` is not read.
        observer: called with the record of the training after each epoch; it must not change anything.

    Returns:
        The record of the training.

    Raises:
        DataError: a file cannot be decoded; names its row.
        ConfigError: there are more processes than rows in a batch, the device does not have the precision, or an
            encoder cannot be compiled.
        RunError: a term became NaN or infinite (named with its epoch), or there is no row to learn from.
        CheckpointError: the checkpoint is damaged or belongs to another job.
    """
    check_world(settings)
    device = choose_device(settings.device)
    check_precision(settings.precision, device)
    check_compile(settings, device)
    method.to(device)  # before the optimizers, which hold the parameters
    copy_from_first([*method.parameters(), *method.buffers()])
    job = TrainingJob(identity, method, train, select, seed, teacher_fold, callback)
    loop = TrainingLoop(
        method, settings, epoch_rows or len(train), seed, balance or BalanceConfig(), augment, threads, device, scores
    )
    rows, train = job.rows_to_draw(), job.train_batch()
    classes = job.classes_to_draw(settings)
    if len(rows) == 0:
        raise RunError("no labelled training row to learn from")
    teacher_fold = teacher_fold if method.within_teacher_folds else None

    start = time.perf_counter()
    if checkpoint is not None and from_first(checkpoint.exists()):
        _resume(loop, callback, checkpoint, identity)
    elif callback:
        callback(method, 0)

    last_saved, seconds_before = start, loop.history.seconds
    with compiled_encoders(method) if settings.compile else nullcontext():
        while not loop.is_finished():
            loop.train_epoch(train, rows, teacher_fold, select, classes)
            loop.history.seconds = seconds_before + time.perf_counter() - start
            if callback:
                callback(method, len(loop.history.epochs))
            if observer:
                observer(loop.history)
            stop = from_first(should_stop())
            overdue = stop or time.perf_counter() - last_saved >= checkpoint_seconds
            if checkpoint is not None and is_first() and overdue:
                watch = callback.state_dict() if callback else {}
                save_checkpoint(checkpoint, to_cpu(loop.state_dict() | {"watch": watch}), identity)
                last_saved = time.perf_counter()
            if stop:
                raise Stopped

    method.load_state_dict(loop.best)
    method.eval()
    return loop.history


def check_world(settings: TrainingConfig) -> None:
    """Check that every process gets a row of a batch.

    Raises:
        ConfigError: there are more processes than rows in a batch.
    """
    size = get_world().size
    if size > settings.batch_size:
        raise ConfigError(
            f"{size} processes cannot share batches of training.batch_size={settings.batch_size} rows: start at most "
            f"{settings.batch_size} (torchrun --nproc-per-node), or raise training.batch_size."
        )


def _resume(loop: TrainingLoop, callback: Callback | None, checkpoint: Path, identity: str) -> None:
    """Load the state of the loop and of the callback from a checkpoint."""
    state, now = in_all(lambda: load_checkpoint(checkpoint, identity)), describe_device(loop.device)
    try:
        loop.load_state_dict(state)
        if callback:
            callback.load_state_dict(state["watch"])
        if (then := state.get("device", now)) != now:
            warnings.warn(
                f"{checkpoint.stem} was begun on {then} and goes on on {now}. This is allowed, but its result need not "
                "equal that of either device alone to the last bit.",
                SidelightWarning,
                stacklevel=3,
            )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"{checkpoint} does not hold the state of this method: {error}. Delete it to train this job from its "
            "beginning."
        ) from error
