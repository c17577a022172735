"""What a test set gives away: the score of an answer that reads no input, and whether its labels vary at all.

Everything is computed from the labels of the test rows as `predictions.csv` holds them, so that the level belongs to
exactly the rows that a score was measured on, and run folders that do not store it can still be judged.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
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
    "classification": "answering one class for every row, the best such answer for the same test rows",
    "regression": "answering the training mean for every row",
    "segmentation": "answering one class for every pixel, the best such answer for the same test rows",
    "retrieval": "ordering the same test rows at random",
    "anti-spoofing": "accepting every row, or none",
}


@dataclass(frozen=True)
class TestSet:
    """The labels of one fold and seed's test rows.

    chance: metric -> its value for an answer that reads no input, as the metric is usually written (not signed).
    constant: the only class that occurs, or the names of the targets that have one value in all rows.
    """

    __test__ = False  # pytest: not a test

    chance: dict[str, float] = field(default_factory=dict)
    constant: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What job.json holds."""
        return {"chance": self.chance, "constant": list(self.constant)}

    def __deepcopy__(self, memo: dict[int, Any]) -> TestSet:
        return self  # pandas copies `attrs`, deeply, in every step


def describe_test(
    predictions: pd.DataFrame, task: str, labels: Sequence[str], mean: Sequence[float] | None = None
) -> TestSet:
    """The chance levels and constant targets of test rows, from their stored predictions.

    Args:
        predictions: one line per test row, as in predictions.csv. Only the columns of the target are read.
        task: the task's name, e.g. "classification".
        labels: class names, or target names.
        mean: of a regression the mean of each target over the train rows; without it, MAE and RMSE have no level.
    """
    if task == "regression":
        return _of_values(predictions, labels, mean)
    if task == "segmentation":
        counts = np.array([sum(_pixels(predictions, t, p) for p in labels) for t in labels])
        return TestSet(_of_pixels(counts, labels), _only(counts, labels))
    if "target" not in predictions:
        return TestSet()
    names = predictions["target"].astype(str)
    counts = names[names != ""].value_counts().reindex(list(labels), fill_value=0).to_numpy(dtype=np.float64)
    levels: dict[str, Callable[[NDArray], dict[str, float]]] = {"retrieval": _of_ranking, "anti-spoofing": _of_pairs}
    return TestSet(levels.get(task, _of_classes)(counts), _only(counts, labels))


def _of_classes(counts: NDArray) -> dict[str, float]:
    """The best constant answer has the share p of the most common class: its F1 is 2p / (1 + p), the others' 0."""
    if not counts.any():
        return {}
    share, present = float(counts.max() / counts.sum()), int((counts > 0).sum())
    return {"accuracy": share, "unweighted_accuracy": 1 / present, "macro_f1": 2 * share / (1 + share) / present}


def _of_pixels(counts: NDArray, labels: Sequence[str]) -> dict[str, float]:
    """A class that is answered everywhere has its share of the pixels as intersection over union, the others 0."""
    if not counts.any():
        return {}
    share = counts / counts.sum()
    present = int((counts > 0).sum())
    levels = {"miou": float(share.max()) / present, "pixel_accuracy": float(share.max())}
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


def _of_values(predictions: pd.DataFrame, labels: Sequence[str], mean: Sequence[float] | None) -> TestSet:
    """CCC 0, which every constant answer has, and the errors of the training mean."""
    known = [name for name in labels if f"target.{name}" in predictions]
    target = predictions[[f"target.{name}" for name in known]].to_numpy(dtype=np.float64)
    finite = np.isfinite(target)
    levels = {"ccc": 0.0} | ({f"ccc_{name}": 0.0 for name in known} if len(labels) > 1 else {})
    if mean is not None and len(mean) == len(known) and finite.any():
        error = (target - np.asarray(mean, dtype=np.float64))[finite]
        levels |= {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt(np.square(error).mean()))}
    constant = [
        name for name, values, there in zip(known, target.T, finite.T) if there.any() and not np.ptp(values[there])
    ]
    return TestSet(levels, tuple(constant))


def _only(counts: NDArray, labels: Sequence[str]) -> tuple[str, ...]:
    there = np.flatnonzero(counts)
    return (str(labels[int(there[0])]),) if len(there) == 1 else ()


def stored_tests(run: Path, records: Sequence[Mapping[str, Any]]) -> dict[Pair, TestSet]:
    """The test set of every fold and seed with a finished job; of older runs computed from the stored predictions."""
    found: dict[Pair, TestSet] = {}
    for record in records:
        pair = (record["job"]["fold"], record["job"]["seed"])
        if pair in found:
            continue
        test = _read(record.get("test")) or _recomputed(run, record)
        if test is not None:
            found[pair] = test
    return found


def _read(stored: Any) -> TestSet | None:
    try:
        chance = {str(metric): float(level) for metric, level in stored["chance"].items()}
        return TestSet(chance, tuple(str(name) for name in stored["constant"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _recomputed(run: Path, record: Mapping[str, Any]) -> TestSet | None:
    """From the job's predictions.csv; None where it cannot be read or job.json does not name task and labels."""
    job, labels = record["job"], record.get("labels")
    if not isinstance(labels, list) or not labels:
        return None
    control = f"~{job['control']}" if job["control"] else ""
    name = f"{job['method']}{control}-l{job['labels']:g}-f{job['fold']}-s{job['seed']}"
    try:
        frame = pd.read_csv(run / "jobs" / name / "predictions.csv", dtype=str, keep_default_na=False)
        numbers = [c for c in frame if c not in TEXTS]
        frame = frame.assign(**{str(c): pd.to_numeric(frame[c], errors="coerce") for c in numbers})
        return describe_test(frame, str(record.get("task", "classification")), [str(label) for label in labels])
    except (OSError, ValueError):
        return None


def levels_of(tests: Mapping[Pair, TestSet], metric: str) -> pd.Series:
    """The chance level of one metric, indexed by fold and seed; NaN where it has none."""
    index = pd.MultiIndex.from_tuples(list(tests) or [(0, 0)], names=["fold", "seed"])
    values = [test.chance.get(metric, math.nan) for test in tests.values()] or [math.nan]
    return pd.Series(values, index=index, dtype=np.float64)
