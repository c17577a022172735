"""Reference rows: the most common answer and models without a network, on the inputs, labels and test rows of a fold.

They read what the baseline reads, learn from the labelled train rows that it learns from, and are tested on its test
rows. Their cost is bounded: of signals they read window statistics, of images the means of a coarse grid, of more than
`2 × COLUMNS` columns the principal components; they learn from at most `ROWS` rows (`PIXELS` pixels).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.data.features import average_grid, compute_pixel_features
from sidelight.data.statistics import window_statistics
from sidelight.experiment.evaluate import Answers
from sidelight.experiment.fold import FoldData
from sidelight.experiment.plan import Job, derive_seed
from sidelight.reference_models import ROWS_TO_CHOOSE, STRENGTH, Reference, choose_strength
from sidelight.tasks import Task
from sidelight.utils.phases import phase

ROWS = PIXELS = 5000
"""The most rows, or pixels, that a model learns from."""
ROWS_OF_PIXELS = 200
"""The most rows whose pixels a model learns from."""
PARTS = 3
"""Parts of the train rows that choose C."""
AT_ONCE = 256
"""Rows that are read at a time."""
PREDICTED_AT_ONCE = 2**15
"""Rows that are answered at a time."""
Predict = Callable[[NDArray], NDArray]
"""(n, D) features -> (n, C) probabilities or (n, K) values."""


class Samples(NamedTuple):
    """(n, D) features, (n, C) one-hot labels or (n, K) values, (n,) weights or None, and (n,) parts that choose C."""

    x: NDArray
    target: NDArray
    weights: NDArray | None
    part: NDArray


@phase("reference rows")
def fit_reference(data: FoldData, job: Job) -> tuple[Tensor, Task, dict[str, Any]]:
    """Fit the model of a reference row to a fold.

    Args:
        data: the rows of the fold.
        job: the job, whose method is "majority", "linear" or "boosted".

    Returns:
        `Task.compact_answer` of the test rows, the calibrated task, and what `job.json` holds of the model.
    """
    start, task = time.monotonic(), data.fit_task(job.label_fraction)
    rng = np.random.default_rng(derive_seed(data.seed, data.number, "reference"))
    samples = _read_samples(data, task, job, rng)
    classes = 0 if task.kind == "regression" else task.outputs
    model: dict[str, Any] = {"samples": len(samples.x), "columns": samples.x.shape[1]}
    fit = _choose_model(job.method, classes, samples, rng, model)
    test = data.rows("test").select_modalities(_reads(data, job))
    predict = fit(samples)
    if task.answers == "pixels":
        answers = _predict_pixels(predict, test, task)
    else:
        # Of many test rows some at a time, so that a worker holds no copy of all.
        said = [predict(_read_features(test, some)) for some in torch.split(test.index, PREDICTED_AT_ONCE)]
        answers = _to_answers(np.concatenate(said), task)
        task = _calibrate(task, fit, samples)
    return answers, task, {"model": model, "seconds": time.monotonic() - start, "device": "cpu"}


def _choose_model(
    name: str, classes: int, samples: Samples, rng: np.random.Generator, model: dict[str, Any]
) -> Callable[[Samples], Predict]:
    """A function that fits the model of this name; `model` gets what was chosen."""
    if name == "majority":
        return _fit_constant
    strength = STRENGTH
    if name == "linear":
        some = np.sort(rng.permutation(len(samples.x))[:ROWS_TO_CHOOSE])
        weights = None if samples.weights is None else samples.weights[some]
        strength, _ = choose_strength(samples.x[some], samples.target[some], samples.part[some], classes, weights)
        model["C"] = strength

    def fit(given: Samples) -> Predict:
        return Reference(classes, name == "boosted", strength).fit(given.x, given.target, given.weights).predict

    return fit


def _fit_constant(given: Samples) -> Predict:
    """The shares of the classes, whose largest is the answer, or the mean of the values; it reads no input."""
    known = np.isfinite(given.target)
    mean = np.where(known, given.target, 0).sum(0) / known.sum(0).clip(1)
    return lambda x: np.broadcast_to(mean, (len(x), len(mean)))


def _calibrate(task: Task, fit: Callable[[Samples], Predict], samples: Samples) -> Task:
    """The task with the threshold that out-of-fold answers on the train rows choose, where a task has one."""
    codes = samples.target.argmax(1)
    if type(task).calibrate is Task.calibrate or task.explain_unmeasurable(codes):
        return task
    said = np.zeros(samples.target.shape)
    for part in np.unique(samples.part):
        out = samples.part == part
        kept = ~out if not out.all() else out
        weights = None if samples.weights is None else samples.weights[kept]
        said[out] = fit(Samples(samples.x[kept], samples.target[kept], weights, samples.part[kept]))(samples.x[out])
    known = torch.ones(len(codes), dtype=torch.bool)
    return task.calibrate(*Answers(_to_answers(said, task), torch.from_numpy(codes), known))


def _to_answers(said: NDArray, task: Task) -> Tensor:
    """Probabilities as logits, or values in the units in which the task's networks predict."""
    if task.kind == "regression":
        units = task.get_params()
        return torch.from_numpy((said - np.array(units["mean"])) / np.array(units["scale"]))
    return torch.from_numpy(np.log(np.clip(said, 1e-12, 1)))


def _reads(data: FoldData, job: Job) -> list[str]:
    return [] if job.method == "majority" else data.available


def _read_samples(data: FoldData, task: Task, job: Job, rng: np.random.Generator) -> Samples:
    """The labelled train rows, or some of their pixels."""
    train = data.rows("train", job.label_fraction).select_modalities(_reads(data, job))
    rows = train.labelled.nonzero()[:, 0].numpy()
    part = data.assign_teacher_folds(job.label_fraction, PARTS)
    if task.answers == "pixels":
        chosen = np.sort(rng.permutation(rows)[:ROWS_OF_PIXELS])
        x, codes, row = _read_pixels(train, chosen, max(1, PIXELS // len(chosen)), rng)
        return Samples(x, np.eye(task.outputs)[codes], None, part[row])
    chosen = rows if job.method == "majority" else np.sort(rng.permutation(rows)[:ROWS])
    x, target = _read_features(train, torch.from_numpy(chosen)), train.target[chosen].numpy()
    if task.kind == "regression":
        return Samples(x, target.astype(np.float64), None, part[chosen])
    training, weights = data.config.training, None
    if "balanced" in (training.class_weights, training.batches):
        counts = np.bincount(target, minlength=task.outputs)
        weights = len(target) / ((counts > 0).sum() * counts[target])
    return Samples(x, np.eye(task.outputs)[target], weights, part[chosen])


def _read_features(rows: Batch, which: Tensor) -> NDArray:
    """(n, D) float32 features of some rows; NaN where a row lacks a modality."""
    if not rows.shapes():
        return np.zeros((len(which), 0), np.float32)
    found = []
    for some in torch.split(which, AT_ONCE):
        batch = rows.index_select(some).materialize()
        found.append(np.concatenate([_flatten(batch, m) for m in batch.shapes()], axis=1))
    return np.concatenate(found)


def _flatten(batch: Batch, m: str) -> NDArray:
    """(B, D): vectors as they are, window statistics of signals, means of images over a coarse grid."""
    x = batch.inputs[m]
    if x.dim() == 3:
        x = window_statistics(x, batch.lengths.get(m))
    elif x.dim() > 3:
        x = torch.from_numpy(np.stack([average_grid(row) for row in x.float().numpy()]))
    present = batch.present.get(m)
    return np.asarray(x if present is None else x.where(present[:, None], torch.nan), dtype=np.float32)


def _read_pixels(rows: Batch, which: NDArray, many: int, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
    """(n, D) features of at most `many` labelled pixels of each row, (n,) their classes and (n,) their rows."""
    x, codes, row = [], [], []
    for number in which.tolist():
        batch = rows.index_select(torch.tensor([number])).materialize()
        target = batch.target[0].reshape(-1).numpy()
        at = np.sort(rng.permutation(np.flatnonzero(target >= 0))[:many])
        x.append(_compute_pixels(batch, len(target))[at])
        codes.append(target[at])
        row.append(np.full(len(at), number))
    return np.concatenate(x), np.concatenate(codes), np.concatenate(row)


def _compute_pixels(batch: Batch, pixels: int) -> NDArray:
    """(pixels, D) features of one row: each pixel and the means around it, beside the features of the whole row."""
    found = [np.zeros((pixels, 0), np.float32)]
    for m in batch.shapes():
        x = batch.inputs[m]
        if x.dim() == 4:
            found.append(compute_pixel_features(x[0]).flatten(1).T.numpy())
        else:
            found.append(np.repeat(_flatten(batch, m), pixels, axis=0))
    return np.concatenate(found, axis=1)


def _predict_pixels(predict: Predict, test: Batch, task: Task) -> Tensor:
    """(N, H, W) class codes, a row at a time."""
    codes, dtype = [], torch.uint8 if task.outputs <= 256 else torch.int16
    for number in range(len(test)):
        batch = test.index_select(torch.tensor([number])).materialize()
        height, width = batch.target.shape[1:]
        said = predict(_compute_pixels(batch, height * width)).argmax(1)
        codes.append(torch.from_numpy(said.reshape(height, width)).to(dtype))
    return torch.stack(codes)
