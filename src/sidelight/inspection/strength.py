"""Scores of a plain linear model on each modality and on all of them, for `inspect`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    """Mean and standard deviation over the folds of a linear model's score on these modalities.

    `rows` are the rows that were tested, each in one fold; `with_all` of them have all of these modalities, and `there`
    is the mean score on these alone.
    """

    modalities: tuple[str, ...]
    mean: float
    std: float
    rows: int = 0
    with_all: int = 0
    there: float = float("nan")


class Scored(NamedTuple):
    """The strengths, over how many folds of which protocol; without any, the remark says why."""

    strengths: tuple[Strength, ...]
    folds: int = 0
    remark: str = ""


def hide_test_rows(dataset: Dataset) -> Dataset:
    """The same rows, of which those of an official test part count as unlabelled, so that no score is on them."""
    if dataset.split is None or not (dataset.labelled & (dataset.split != "test")).any():
        return dataset
    hidden = copy.copy(dataset)  # a data set that is made anew checks every value again
    hidden.labelled = dataset.labelled & (dataset.split != "test")
    return hidden


def compute_strengths(dataset: Dataset, folds: int, seed: int) -> Scored:
    """Score each modality alone, and all together, over cross-validation folds of the rows that are labelled.

    Args:
        dataset: decoded rows, without the labels of an official test part (`hide_test_rows`).
        folds: number of folds.
        seed: of folds, pixels and models.
    """
    units = np.arange(len(dataset)) if dataset.group is None else dataset.group
    n_units = len(np.unique(units[dataset.labelled]))
    try:
        parts = split(dataset, choose_protocol(dataset), max(min(folds, n_units), 2), 0.25, seed)
    except SidelightError as e:
        return Scored((), remark=f"no strengths: {e}")
    row, target, blocks = _build_features(dataset, seed)
    subsets: list[tuple[str, ...]] = [(m,) for m in blocks]
    if len(blocks) > 1:
        subsets.append(tuple(blocks))
    strengths = []
    for names in subsets:
        chosen = [blocks[m] for m in names]
        there = np.logical_and.reduce([dataset.present[m] for m in names])
        scores, of_present, tested = [], [], []
        for fold in parts:
            # No epoch is chosen here, so select rows train too.
            train = np.flatnonzero(np.isin(row, np.union1d(fold.train, fold.select)))
            test = np.flatnonzero(np.isin(row, fold.test))
            train = train[dataset.labelled[row[train]]]
            both = _score(dataset, target, chosen, train, test, there[row[test]], seed)
            scores.append(both[0])
            of_present.append(both[1])
            tested.append(fold.test)
        rows = np.concatenate(tested)
        known = [score for score in of_present if np.isfinite(score)]
        strengths.append(
            Strength(
                names,
                float(np.mean(scores)),
                float(np.std(scores)),
                len(rows),
                int(there[rows].sum()),
                _mean(known),
            )
        )
    return Scored(tuple(strengths), len(parts))


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
    dataset: Dataset,
    target: NDArray,
    blocks: Sequence[Features],
    train: NDArray,
    test: NDArray,
    there: NDArray,
    seed: int,
) -> tuple[float, float]:
    """Accuracy, mean IoU, or mean CCC over the targets, of all test samples, and of those that are `there`.

    Args:
        dataset: the rows.
        target: (n, …) target of each sample.
        blocks: their features, by modality.
        train, test: numbers of samples.
        there: (len(test),) bool, the test samples that have the modalities.
        seed: of the train samples that are drawn, where they are many.
    """
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

        def score(which: NDArray) -> float:
            if dataset.size:
                return miou(predicted[which], target[test][which], classes)
            return float(np.mean(predicted[which] == target[test][which]))

        every = score(np.ones(len(test), bool))
        return every, every if there.all() else score(there) if there.any() else float("nan")
    # Each target of a regression has its own model, fitted to the rows that have it.
    values, of_present = [], []
    for k in range(target.shape[1]):
        y = target[:, [k]]
        known = np.isfinite(y[test, 0])
        rows, scored, here = train[np.isfinite(y[train, 0])], test[known], there[known]
        if len(rows) > 1 and len(scored) > 1:
            answers = predict(fit(rows, y[rows]), scored)
            values.append(ccc(answers, y[scored]))
            if here.sum() > 1:
                of_present.append(ccc(answers[here], y[scored][here]))
    return _mean(values), _mean(of_present)


def _mean(values: Sequence[float]) -> float:
    """Their mean, NaN where there is none."""
    return float(np.mean(values)) if values else float("nan")
