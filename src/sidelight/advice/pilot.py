"""The pilot: a teacher, a baseline and students from reference models, over folds of whole groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sidelight.advice.models import score
from sidelight.data.dataset import Dataset
from sidelight.data.features import compute_features
from sidelight.errors import DataError
from sidelight.inspection.strength import choose_protocol
from sidelight.protocols import split
from sidelight.protocols.labels import keep_labels
from sidelight.reference_models import Reference
from sidelight.results.statistics import Interval, nadeau_bengio

FOLDS, REPEATS = 5, 3
CURVE = (0.25, 0.5, 1.0)
"""Shares of the kept labels at which the learning curve is measured."""


@dataclass
class Pilot:
    """What the folds gave.

    Attributes:
        scores: model -> its score in each fold of each repeat.
        n_train, n_test: rows of each.
        predicted: "baseline", "teacher" and "privileged" -> (N, C) or (N, K) out-of-fold predictions of the first
            repeat, NaN elsewhere.
        labelled: the number of labelled train rows, as a mean over folds.
    """

    scores: dict[str, list[float]] = field(default_factory=dict)
    n_train: list[int] = field(default_factory=list)
    n_test: list[int] = field(default_factory=list)
    predicted: dict[str, NDArray] = field(default_factory=dict)
    labelled: float = 0.0

    def add(self, name: str, value: float) -> None:
        self.scores.setdefault(name, []).append(value)

    def mean(self, name: str) -> float:
        return float(np.nanmean(self.scores[name]))

    def difference(self, name: str, other: str, level: float = 0.95) -> Interval:
        """Mean paired difference of two models with the corrected resampled t interval."""
        d = np.subtract(self.scores[name], self.scores[other])
        return nadeau_bengio(d, np.array(self.n_train, float), np.array(self.n_test, float), level=level)


def run_pilot(
    dataset: Dataset, available: Sequence[str], privileged: Sequence[str], label_fraction: float, seed: int
) -> Pilot:
    """Train the reference models in every fold.

    Teacher: linear, all modalities, labels. Baseline: linear, available modalities, labels. Student: as the baseline,
    from the teacher's probabilities on every train row, averaged with the label where there is one. "labelled student":
    the same on the labelled rows alone.

    Args:
        dataset: the rows to use.
        available, privileged: the modalities.
        label_fraction: the share of the train groups that keep their labels.
        seed: of folds and labels.

    Raises:
        DataError: there are too few labelled groups.
    """
    units = np.arange(len(dataset)).astype(str) if dataset.group is None else dataset.group
    many = len(np.unique(units[dataset.labelled]))
    if many < 4:
        what = "rows" if dataset.group is None else "groups"
        raise DataError(
            f"{dataset.name}: {many} labelled {what}, and advice needs 4: two to train on and two to test on."
        )
    classes = len(dataset.class_names) if dataset.task == "classification" else 0
    blocks = {m: compute_features(dataset, m) for m in (*available, *privileged)}
    every = np.arange(len(dataset))
    x = np.concatenate([blocks[m][every] for m in available], 1)
    hidden = np.concatenate([blocks[m][every] for m in privileged], 1)
    both = np.concatenate([x, hidden], 1)
    inputs = {"available": x, "privileged": hidden, "all": both}
    y = np.eye(classes)[dataset.target.clip(0)] if classes else dataset.target.astype(float)
    pilot = Pilot()
    for repeat in range(REPEATS):
        for fold in split(dataset, choose_protocol(dataset), min(FOLDS, many), 0.25, seed + repeat):
            train = np.union1d(fold.train, fold.select)
            test = fold.test[dataset.labelled[fold.test]]
            kept = keep_labels(dataset, train, label_fraction, seed + repeat)
            if not len(test) or not kept[train].any():
                continue
            _run_fold(pilot, dataset, inputs, y, classes, train, test, kept, seed + repeat, label_fraction, repeat == 0)
    if not pilot.n_train:
        raise DataError(f"{dataset.name}: no fold has labelled rows to train on and to test on.")
    named = {m: blocks[m][every] for m in (*available, *privileged)} | {"available": x, "all": both}
    for name, features in named.items():
        _add_strengths(pilot, dataset, features, name, y, classes, label_fraction, seed)
    return pilot


def _run_fold(
    pilot: Pilot,
    dataset: Dataset,
    inputs: dict[str, NDArray],
    y: NDArray,
    classes: int,
    train: NDArray,
    test: NDArray,
    kept: NDArray,
    seed: int,
    label_fraction: float,
    first: bool,
) -> None:
    """One fold: teacher, baseline, students, and the baseline with fewer and more labels."""
    known = train[kept[train]]
    target = dataset.target[test]
    x, both = inputs["available"], inputs["all"]

    def fit(features: NDArray, rows: NDArray, values: NDArray) -> Reference:
        return Reference(classes).fit(features[rows], values)

    teacher, baseline = fit(both, known, y[known]), fit(x, known, y[known])
    soft = teacher.predict(both[train])
    where = kept[train]
    mixed = soft.copy()
    mixed[where] = np.where(np.isfinite(y[known]), (soft[where] + y[known]) / 2, soft[where])
    students = {"student": fit(x, train, mixed), "labelled student": fit(x, known, mixed[where])}
    answers = {"teacher": teacher.predict(both[test]), "baseline": baseline.predict(x[test])}
    answers |= {name: student.predict(x[test]) for name, student in students.items()}
    for share in CURVE[:-1]:
        fewer = keep_labels(dataset, train, label_fraction * share, seed)
        some = train[fewer[train]]
        answers[f"labels {share:g}"] = fit(x, some, y[some]).predict(x[test])
    if label_fraction < 1:
        more = keep_labels(dataset, train, min(1.0, 2 * label_fraction), seed)
        some = train[more[train]]
        answers["labels 2"] = fit(x, some, y[some]).predict(x[test])
    for name, predicted in answers.items():
        pilot.add(name, score(predicted, target, classes))
    pilot.n_train.append(len(train))
    pilot.n_test.append(len(test))
    pilot.labelled += (len(known) - pilot.labelled) / len(pilot.n_train)
    if first:
        alone = fit(inputs["privileged"], known, y[known])
        answers["privileged"] = alone.predict(inputs["privileged"][test])
        for name in ("baseline", "teacher", "privileged"):
            stored = pilot.predicted.setdefault(name, np.full((len(dataset), y.shape[1]), np.nan))
            stored[test] = answers[name]


def _add_strengths(
    pilot: Pilot,
    dataset: Dataset,
    x: NDArray,
    name: str,
    y: NDArray,
    classes: int,
    label_fraction: float,
    seed: int,
) -> None:
    """Score reference models on some features over the folds of the first repeat: `linear NAME`, `boosted NAME`."""
    units = np.arange(len(dataset)).astype(str) if dataset.group is None else dataset.group
    many = len(np.unique(units[dataset.labelled]))
    for fold in split(dataset, choose_protocol(dataset), min(FOLDS, many), 0.25, seed):
        train = np.union1d(fold.train, fold.select)
        test = fold.test[dataset.labelled[fold.test]]
        known = train[keep_labels(dataset, train, label_fraction, seed)[train]]
        if not len(test) or not len(known):
            continue
        for boosted in (False, True):
            model = Reference(classes, boosted).fit(x[known], y[known])
            kind = "boosted" if boosted else "linear"
            pilot.add(f"{kind} {name}", score(model.predict(x[test]), dataset.target[test], classes))
