"""How much each modality alone, and all together, tell a plain linear model; for `inspect`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.features import compute_features
from sidelight.errors import SidelightError
from sidelight.protocols import split

ROWS = 5000
PIXELS = 100
"""Of a class per pixel, how many pixels of each row are looked at."""
AROUND = (9, 33)


@dataclass(frozen=True)
class Strength:
    """Mean and standard deviation over the folds of a plain linear model's score on these modalities."""

    modalities: tuple[str, ...]
    mean: float
    std: float


def compute_strengths(dataset: Dataset, folds: int, seed: int) -> tuple[tuple[Strength, ...], list[str]]:
    """Score of each modality alone and of all; a remark instead where the data allow no such score."""
    units = np.arange(len(dataset)) if dataset.group is None else dataset.group
    n_units = len(np.unique(units[dataset.labelled]))
    try:
        parts = split(dataset, choose_protocol(dataset), max(min(folds, n_units), 2), 0.25, seed)
    except SidelightError as e:
        return (), [f"no strengths: {e}"]
    row, target, blocks = _looked_at(dataset, seed)
    out = []
    for names in [*((m,) for m in blocks), *([tuple(blocks)] if len(blocks) > 1 else [])]:
        x = np.concatenate([blocks[m] for m in names], 1)
        scores = []
        for fold in parts:
            train, test = (
                np.flatnonzero(np.isin(row, rows)) for rows in (np.union1d(fold.train, fold.select), fold.test)
            )
            scores.append(_score(dataset, target, x, train[dataset.labelled[row[train]]], test, seed))
        out.append(Strength(tuple(names), float(np.mean(scores)), float(np.std(scores))))
    return tuple(out), []


def choose_protocol(dataset: Dataset) -> Literal["group-kfold", "blocks", "random"]:
    """How the rows are split for a score: by group, else by time, else at random."""
    return "group-kfold" if dataset.group is not None else "random" if dataset.time is None else "blocks"


def _looked_at(dataset: Dataset, seed: int) -> tuple[NDArray, NDArray, dict[str, NDArray]]:
    """What a model sees: (n,) the row that each belongs to, (n, …) its target, and (n, D) features of each modality.

    Rows themselves; of a class per pixel, some pixels of every row.
    """
    if not dataset.size:
        return np.arange(len(dataset)), dataset.target, {m: compute_features(dataset, m) for m in dataset.modalities}
    pixels = dataset.size[0] * dataset.size[1]
    many = min(PIXELS, pixels)
    at = np.random.default_rng(seed).integers(pixels, size=(len(dataset), many))
    row = np.repeat(np.arange(len(dataset)), many)
    target = np.take_along_axis(dataset.target.reshape(len(dataset), -1), at, 1).reshape(-1)
    blocks = {}
    for m in dataset.modalities:
        image = dataset.inputs[m].ndim == 4
        blocks[m] = _pixel_features(dataset.inputs[m], at) if image else compute_features(dataset, m)[row]
    known = target >= 0
    return row[known], target[known], {m: x[known] for m, x in blocks.items()}


def _pixel_features(x: NDArray, at: NDArray) -> NDArray:
    """(N · P, 3 C): the values of the pixels `at` (N, P), and means over the squares around them."""
    import torch
    from torch.nn import functional as F

    out = []
    for image, where in zip(x, torch.from_numpy(at)):
        whole = torch.from_numpy(np.nan_to_num(image.astype(np.float32)))[None]
        means = [F.avg_pool2d(whole, n, 1, n // 2, count_include_pad=False) for n in AROUND]
        out.append(torch.cat([whole, *means], 1)[0].flatten(1)[:, where].T)
    return torch.cat(out).numpy()


def _score(dataset: Dataset, target: NDArray, x: NDArray, train: NDArray, test: NDArray, seed: int) -> float:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from sidelight.metrics import ccc, miou

    if len(train) > ROWS:
        train = np.random.default_rng(seed).choice(train, ROWS, replace=False)
    prepare = (SimpleImputer(keep_empty_features=True), StandardScaler())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a linear model that has not fully converged is good enough here
        if dataset.task != "regression":
            model = make_pipeline(*prepare, LogisticRegression(C=0.1, max_iter=100, random_state=seed))
            said = model.fit(x[train], target[train]).predict(x[test])
            return (
                miou(said, target[test], len(dataset.class_names))
                if dataset.size
                else float(np.mean(said == target[test]))
            )
        values = []
        for k in range(target.shape[1]):
            y = target[:, k]
            rows, scored = train[np.isfinite(y[train])], test[np.isfinite(y[test])]
            if len(rows) > 1 and len(scored) > 1:
                model = make_pipeline(*prepare, Ridge(alpha=10.0)).fit(x[rows], y[rows])
                values.append(ccc(model.predict(x[scored]), y[scored]))
        return float(np.mean(values)) if values else float("nan")
