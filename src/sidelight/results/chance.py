"""What a test set gives away: the score of an answer that reads no input, and whether its labels vary at all.

Everything is computed from the labels of the test rows as `predictions.csv` holds them, so that the level belongs to
exactly the rows that a score was measured on, and run folders that do not store it can still be judged.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

Pair = tuple[int, int]
"""Fold and seed, which decide the test rows."""
TEXTS = ("id", "group", "target", "prediction")
RECALLS = (1, 5, 10)
DESCRIBED = {
    "classification": "answering the most common class for every row",
    "regression": "answering the training mean for every row",
    "segmentation": "answering the most common class for every pixel",
    "retrieval": "ordering the rows at random",
    "anti-spoofing": "accepting every row, or none",
}
Facts = dict[str, dict[str, float]]


@dataclass(frozen=True)
class TestSet:
    """What the labels of one fold and seed's test rows give away.

    chance: metric -> its value for an answer that reads no input, as the metric is usually written (not signed).
    constant: the only class that occurs, or the names of the targets that have one value in all rows.
    """

    __test__ = False  # pytest: not a test

    chance: dict[str, float] = field(default_factory=dict)
    constant: tuple[str, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> TestSet:
        return self  # pandas copies `attrs`, deeply, in every step


def describe_test(
    predictions: pd.DataFrame, task: str, labels: Sequence[str], mean: Sequence[float] | None = None
) -> Facts:
    """What job.json keeps of its test rows' labels, from their stored predictions.

    `counts`: class -> how many rows, or pixels, are of it. Of a regression `spread`: target -> largest less smallest
    value, and `errors`: MAE and RMSE of the training mean.

    Args:
        predictions: one line per test row, as in predictions.csv. Only the columns of the target are read.
        task: the task's name, e.g. "classification".
        labels: class names, or target names.
        mean: of a regression the mean of each target over the train rows; without it, MAE and RMSE have no level.
    """
    if task == "regression":
        return _of_values(predictions, labels, mean)
    if task == "segmentation":
        return {"counts": {t: sum(_pixels(predictions, t, p) for p in labels) for t in labels}}
    if "target" not in predictions:
        return {}
    names = predictions["target"].astype(str)
    return {"counts": {name: int((names == name).sum()) for name in labels}}


def judge(facts: Mapping[Pair, Facts], task: str, labels: Sequence[str]) -> dict[Pair, TestSet]:
    """The chance levels of every fold and seed.

    The class that is answered everywhere is the most common one of all test rows together: each fold's own most common
    class is known to nobody beforehand, and with a person per fold it may be another one each time.
    """
    if task == "regression":
        return {pair: _judged_values(told, labels) for pair, told in facts.items()}
    counts = {
        pair: np.array([float(told.get("counts", {}).get(name, 0)) for name in labels]) for pair, told in facts.items()
    }
    counts = {pair: count for pair, count in counts.items() if count.any()}
    if not counts:
        return {}
    common = int(np.sum(list(counts.values()), axis=0).argmax())
    found = {}
    for pair, count in counts.items():
        if task == "retrieval":
            levels = _of_ranking(count)
        elif task == "anti-spoofing":
            levels = _of_pairs(count)
        else:
            levels = (_of_pixels if task == "segmentation" else _of_classes)(count, common, labels)
        there = np.flatnonzero(count)
        found[pair] = TestSet(levels, (str(labels[int(there[0])]),) if len(there) == 1 else ())
    return found


def _of_classes(counts: NDArray, common: int, labels: Sequence[str]) -> dict[str, float]:
    """One answer c for all rows, with a share p of them: accuracy p; recall 1 and F1 2p / (1 + p) of c, others 0."""
    share, present = float(counts[common] / counts.sum()), int((counts > 0).sum())
    f1 = 2 * share / (1 + share) / (present + (share == 0))  # an answer that does not occur counts as a class too
    return {"accuracy": share, "unweighted_accuracy": float(share > 0) / present, "macro_f1": f1}


def _of_pixels(counts: NDArray, common: int, labels: Sequence[str]) -> dict[str, float]:
    """One answer for all pixels has its share of them as intersection over union, and the other classes 0.

    The level of one class's own `iou.<class>` is that of answering this class.
    """
    share = counts / counts.sum()
    occur = int((counts > 0).sum()) + (share[common] == 0)
    levels = {"miou": float(share[common]) / occur, "pixel_accuracy": float(share[common])}
    return levels | {f"iou.{name}": float(s) for name, s in zip(labels, share)}


def _of_pairs(counts: NDArray) -> dict[str, float]:
    """One kind of error is 1 and the other 0; APCER and BPCER alone can both be 0 for an answer that reads nothing."""
    return {"acer": 0.5, "eer": 0.5, "auc": 0.5} if (counts > 0).sum() == 2 else {}


def _of_ranking(counts: NDArray) -> dict[str, float]:
    """Of n rows with m of a class: a query's m − 1 hits lie at random among the n − 1 rows of its gallery.

    P(no hit among the first k) = C(n − m, k) / C(n − 1, k). R@k is its complement, averaged over the queries (rows with
    another row of their class). MedR is the median of the first hit's rank under the same distribution.
    """
    n = int(counts.sum())
    m, classes = np.unique(counts[counts > 1], return_counts=True)
    if not len(m):
        return {}

    def found(k: int) -> float:
        """P(a hit among the first k); the factor 1 / k! stands in both binomials and falls out."""
        log_missed = np.where(n - m >= k, _log_falling(n - m, k), -np.inf) - _log_falling(np.array(n - 1.0), k)
        return float((m * classes * -np.expm1(log_missed)).sum() / (m * classes).sum())

    levels = {f"recall_at_{k}": found(k) for k in RECALLS if k < n - 1}
    return levels | {"median_rank": float(1 + bisect_left(range(1, n), 0.5 - 1e-12, key=found))}


def _log_falling(a: NDArray, k: int) -> NDArray:
    """log of a! / (a − k)!, meaningless where a < k."""
    return np.asarray(special.gammaln(a + 1) - special.gammaln(np.maximum(a - k, 0) + 1))


def _pixels(predictions: pd.DataFrame, true: str, said: str) -> float:
    column = f"pixels.{true}.{said}"
    return float(predictions[column].sum()) if column in predictions else 0.0


def _of_values(predictions: pd.DataFrame, labels: Sequence[str], mean: Sequence[float] | None) -> Facts:
    known = [name for name in labels if f"target.{name}" in predictions]
    target = predictions[[f"target.{name}" for name in known]].to_numpy(dtype=np.float64)
    finite = np.isfinite(target)
    columns = {name: values[there] for name, values, there in zip(known, target.T, finite.T) if there.any()}
    told: Facts = {"spread": {name: float(np.ptp(values)) for name, values in columns.items()}}
    if mean is not None and len(mean) == len(known) and finite.any():
        error = (target - np.asarray(mean, dtype=np.float64))[finite]
        told["errors"] = {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt(np.square(error).mean()))}
    return told


def _judged_values(told: Facts, labels: Sequence[str]) -> TestSet:
    """CCC 0, which every constant answer has, and the errors of the training mean."""
    each = {f"ccc_{name}": 0.0 for name in labels} if len(labels) > 1 else {}
    constant = tuple(name for name, spread in told.get("spread", {}).items() if not spread)
    return TestSet({"ccc": 0.0} | each | told.get("errors", {}), constant)


def stored_tests(run: Path, records: Sequence[Mapping[str, Any]]) -> dict[Pair, TestSet]:
    """The test set of every fold and seed with a finished job; of older runs computed from the stored predictions."""
    facts: dict[Pair, Facts] = {}
    task, labels = "classification", list[str]()
    for record in records:
        pair = (record["job"]["fold"], record["job"]["seed"])
        named = record.get("labels")
        if pair in facts or not isinstance(named, list) or not named:
            continue
        task, labels = str(record.get("task", "classification")), [str(name) for name in named]
        told = _read(record.get("test")) or _recomputed(run, record, task, labels)
        if told:
            facts[pair] = told
    return judge(facts, task, labels)


def _read(stored: Any) -> Facts | None:
    try:
        return {str(k): {str(name): float(value) for name, value in told.items()} for k, told in stored.items()}
    except (TypeError, ValueError, AttributeError):
        return None


def _recomputed(run: Path, record: Mapping[str, Any], task: str, labels: Sequence[str]) -> Facts | None:
    """From the job's predictions.csv; None where it cannot be read."""
    job = record["job"]
    control = f"~{job['control']}" if job["control"] else ""
    name = f"{job['method']}{control}-l{job['labels']:g}-f{job['fold']}-s{job['seed']}"
    try:
        frame = pd.read_csv(run / "jobs" / name / "predictions.csv", dtype=str, keep_default_na=False)
        numbers = [c for c in frame if c not in TEXTS]
        frame = frame.assign(**{str(c): pd.to_numeric(frame[c], errors="coerce") for c in numbers})
        return describe_test(frame, task, labels)
    except (OSError, ValueError):
        return None


def levels_of(tests: Mapping[Pair, TestSet], metric: str) -> pd.Series:
    """The chance level of one metric, indexed by fold and seed; NaN where it has none."""
    index = pd.MultiIndex.from_tuples(list(tests) or [(0, 0)], names=["fold", "seed"])
    values = [test.chance.get(metric, math.nan) for test in tests.values()] or [math.nan]
    return pd.Series(values, index=index, dtype=np.float64)
