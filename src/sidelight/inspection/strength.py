"""Scores of a plain linear model on each modality and on all of them, for `inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.features import FeatureRows, compute_features, compute_pixel_features
from sidelight.errors import SidelightError
from sidelight.protocols import split
from sidelight.reference_models import Reference

ROWS = 5000
"""The most train rows of a linear model."""
PIXELS = 100
"""Pixels of each row that are scored, where the target has a class per pixel."""
AT_ONCE = 2**20
"""Values of samples that are predicted at a time."""

Features = NDArray | FeatureRows
"""(n, D) features of samples, by number."""


@dataclass(frozen=True)
class Strength:
    """Mean and standard deviation over the folds of a linear model's score on these modalities."""

    modalities: tuple[str, ...]
    mean: float
    std: float


def compute_strengths(dataset: Dataset, folds: int, seed: int) -> tuple[tuple[Strength, ...], list[str]]:
    """Score each modality alone, and all together.

    Args:
        dataset: decoded rows.
        folds: number of folds.
        seed: of folds, pixels and models.

    Returns:
        The scores and no remark; or no score and a remark with the reason.
    """
    units = np.arange(len(dataset)) if dataset.group is None else dataset.group
    n_units = len(np.unique(units[dataset.labelled]))
    try:
        parts = split(dataset, choose_protocol(dataset), max(min(folds, n_units), 2), 0.25, seed)
    except SidelightError as e:
        return (), [f"no strengths: {e}"]
    row, target, blocks = _build_features(dataset, seed)
    subsets: list[tuple[str, ...]] = [(m,) for m in blocks]
    if len(blocks) > 1:
        subsets.append(tuple(blocks))
    strengths = []
    for names in subsets:
        chosen = [blocks[m] for m in names]
        scores = []
        for fold in parts:
            # No epoch is chosen here, so select rows train too.
            train = np.flatnonzero(np.isin(row, np.union1d(fold.train, fold.select)))
            test = np.flatnonzero(np.isin(row, fold.test))
            scores.append(_score(dataset, target, chosen, train[dataset.labelled[row[train]]], test, seed))
        strengths.append(Strength(names, float(np.mean(scores)), float(np.std(scores))))
    return tuple(strengths), []


def choose_protocol(dataset: Dataset) -> Literal["group-kfold", "blocks", "random"]:
    """The protocol for scores: by group, else by time, else at random."""
    if dataset.group is not None:
        return "group-kfold"
    return "random" if dataset.time is None else "blocks"


def _build_features(dataset: Dataset, seed: int) -> tuple[NDArray, NDArray, dict[str, Features]]:
    """The samples of a linear model: rows, or some pixels of every row where the target has a class per pixel.

    Returns:
        (n,) row number of each sample, (n, …) its target, and modality -> (n, D) features.
    """
    if not dataset.size:
        return np.arange(len(dataset)), dataset.target, {m: compute_features(dataset, m) for m in dataset.modalities}
    pixels = dataset.size[0] * dataset.size[1]
    many = min(PIXELS, pixels)
    at = np.random.default_rng(seed).integers(pixels, size=(len(dataset), many))
    row = np.repeat(np.arange(len(dataset)), many)
    target = np.take_along_axis(dataset.target.reshape(len(dataset), -1), at, 1).reshape(-1)
    blocks: dict[str, NDArray] = {}
    for m in dataset.modalities:
        if dataset.inputs[m].ndim == 4:
            blocks[m] = _compute_pixel_features(dataset.inputs[m], at)
        else:
            # Every pixel of a row has the row's features.
            blocks[m] = compute_features(dataset, m)[:][row]
    known = target >= 0
    return row[known], target[known], {m: x[known] for m, x in blocks.items()}


def _compute_pixel_features(x: NDArray, at: NDArray) -> NDArray:
    """(N · P, 3 C): the values of the pixels with the numbers `at` (N, P), and means over squares around them."""
    import torch

    out = []
    for image, where in zip(x, torch.from_numpy(at)):
        pixels = torch.from_numpy(np.nan_to_num(image.astype(np.float32)))
        out.append(compute_pixel_features(pixels).flatten(1)[:, where].T)
    return torch.cat(out).numpy()


def _score(
    dataset: Dataset, target: NDArray, blocks: Sequence[Features], train: NDArray, test: NDArray, seed: int
) -> float:
    """Accuracy, mean IoU, or mean CCC over the targets; train and test are numbers of samples."""
    from sidelight.metrics import ccc, miou

    # A linear model gains little from more rows.
    if len(train) > ROWS:
        train = np.random.default_rng(seed).choice(train, ROWS, replace=False)
    classes = len(dataset.class_names) if dataset.task != "regression" else 0

    def read(samples: NDArray) -> NDArray:
        return np.concatenate([block[samples] for block in blocks], 1)

    def fit(samples: NDArray, values: NDArray) -> Reference:
        return Reference(classes, columns=0).fit(read(samples), values)

    def predict(model: Reference, samples: NDArray) -> NDArray:
        size = max(1, AT_ONCE // read(samples[:1]).shape[1])
        return np.concatenate([model.predict(read(samples[i : i + size])) for i in range(0, len(samples), size)])

    if classes:
        predicted = predict(fit(train, np.eye(classes)[target[train]]), test).argmax(1)
        return miou(predicted, target[test], classes) if dataset.size else float(np.mean(predicted == target[test]))
    # Each target of a regression has its own model, fitted to the rows that have it.
    values = []
    for k in range(target.shape[1]):
        y = target[:, [k]]
        rows, scored = train[np.isfinite(y[train, 0])], test[np.isfinite(y[test, 0])]
        if len(rows) > 1 and len(scored) > 1:
            values.append(ccc(predict(fit(rows, y[rows]), scored), y[scored]))
    return float(np.mean(values)) if values else float("nan")
