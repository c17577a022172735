"""Chance levels: the score of an answer that reads no input, and whether the labels of a test set vary at all.

They are computed from the labels in `predictions.csv`. A level therefore belongs to exactly the rows on which a score
was measured, and also exists for run folders that do not store it.
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

from sidelight.results.job import job_id

Pair = tuple[int, int]
"""Fold and seed, which decide the test rows."""
TEXTS = ("id", "group", "target", "prediction")
"""Columns of predictions.csv that are texts; all others are numbers."""
RECALLS = (1, 5, 10)
DESCRIBED = {
    "classification": "answering the most common class for every row",
    "regression": "answering the training mean for every row",
    "segmentation": "answering the most common class for every pixel",
    "retrieval": "ordering the rows at random",
    "anti-spoofing": "accepting every row, or none",
}
LabelSummary = dict[str, dict[str, float]]
"""What is stored about the labels of test rows: "counts", or "spread" and "errors" (`describe_test`)."""


@dataclass(frozen=True)
class TestSet:
    """Chance levels of one fold and seed's test rows.

    Args:
        chance: metric -> its value for an answer that reads no input, as the metric is usually written (not signed).
        constant: the only class that occurs, or the names of the targets that have one value in all rows.
    """

    __test__ = False  # tells pytest that this is not a test

    chance: dict[str, float] = field(default_factory=dict)
    constant: tuple[str, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> TestSet:
        return self  # pandas deep-copies `attrs` in every step


def describe_test(
    predictions: pd.DataFrame, task: str, class_names: Sequence[str], mean: Sequence[float] | None = None
) -> LabelSummary:
    """Summarise the labels of a job's test rows, for job.json.

    Args:
        predictions: one line per test row, as in predictions.csv. Only the columns of the target are read.
        task: the task's name, e.g. "classification".
        class_names: names of the classes, or of the targets of a regression.
        mean: mean of each target over the train rows, for a regression; without it, MAE and RMSE have no chance level.

    Returns:
        For classes `counts`: class -> number of its rows, or pixels. For a regression `spread`: target -> largest less
        smallest value, and `errors`: MAE and RMSE of the training mean.
    """
    if task == "regression":
        return _summarise_values(predictions, class_names, mean)
    if task == "segmentation":
        pixels = {t: sum(_count_pixels(predictions, t, p) for p in class_names) for t in class_names}
        return {"counts": pixels}
    if "target" not in predictions:
        return {}
    names = predictions["target"]
    names = names if isinstance(names.dtype, pd.CategoricalDtype) else names.astype(str)
    return {"counts": {name: int((names == name).sum()) for name in class_names}}


def compute_chance(
    summaries: Mapping[Pair, LabelSummary], task: str, class_names: Sequence[str]
) -> dict[Pair, TestSet]:
    """Compute the chance levels of every fold and seed.

    The constant answer is the most common class of all test rows together. A fold's own most common class is not known
    beforehand, and with one person per fold it may differ from fold to fold.

    Args:
        summaries: fold and seed -> what `describe_test` returned.
        task: the task's name.
        class_names: names of the classes, or of the targets of a regression.
    """
    if task == "regression":
        return {pair: _chance_of_values(summary, class_names) for pair, summary in summaries.items()}
    counts: dict[Pair, NDArray] = {}
    for pair, summary in summaries.items():
        stored = summary.get("counts", {})
        count = np.array([float(stored.get(name, 0)) for name in class_names])
        if count.any():
            counts[pair] = count
    if not counts:
        return {}
    common = int(np.sum(list(counts.values()), axis=0).argmax())
    found = {}
    for pair, count in counts.items():
        if task == "retrieval":
            levels = _chance_of_ranking(count)
        elif task == "anti-spoofing":
            levels = _chance_of_pairs(count)
        elif task == "segmentation":
            levels = _chance_of_pixels(count, common, class_names)
        else:
            levels = _chance_of_classes(count, common)
        occurring = np.flatnonzero(count)
        found[pair] = TestSet(levels, (str(class_names[int(occurring[0])]),) if len(occurring) == 1 else ())
    return found


def _chance_of_classes(counts: NDArray, common: int) -> dict[str, float]:
    """One answer c for all rows, with a share p of them: accuracy p; recall 1 and F1 2p / (1 + p) of c, others 0."""
    share, present = float(counts[common] / counts.sum()), int((counts > 0).sum())
    f1 = 2 * share / (1 + share) / (present + (share == 0))  # a class that is answered but does not occur counts too
    return {"accuracy": share, "unweighted_accuracy": float(share > 0) / present, "macro_f1": f1}


def _chance_of_pixels(counts: NDArray, common: int, class_names: Sequence[str]) -> dict[str, float]:
    """One answer for all pixels: its intersection over union is its share of the pixels, that of other classes is 0.

    The level of `iou.<class>` is that of answering this class everywhere.
    """
    share = counts / counts.sum()
    occur = int((counts > 0).sum()) + (share[common] == 0)
    levels = {"miou": float(share[common]) / occur, "pixel_accuracy": float(share[common])}
    return levels | {f"iou.{name}": float(s) for name, s in zip(class_names, share)}


def _chance_of_pairs(counts: NDArray) -> dict[str, float]:
    """One kind of error is 1 and the other 0; APCER and BPCER alone can both be 0 for an answer that reads nothing."""
    return {"acer": 0.5, "eer": 0.5, "auc": 0.5} if (counts > 0).sum() == 2 else {}


def _chance_of_ranking(counts: NDArray) -> dict[str, float]:
    """Random order of n rows, m of them of the query's class: m − 1 hits lie at random among n − 1 gallery rows.

    P(no hit among the first k) = C(n − m, k) / C(n − 1, k). R@k is its complement, averaged over the queries (rows with
    another row of their class). MedR is the median of the first hit's rank under the same distribution.
    """
    n = int(counts.sum())
    m, classes = np.unique(counts[counts > 1], return_counts=True)
    if not len(m):
        return {}

    def found(k: int) -> float:
        """P(a hit among the first k); the factor 1 / k! is in both binomials and cancels."""
        log_missed = np.where(n - m >= k, _log_falling(n - m, k), -np.inf) - _log_falling(np.array(n - 1.0), k)
        return float((m * classes * -np.expm1(log_missed)).sum() / (m * classes).sum())

    levels = {f"recall_at_{k}": found(k) for k in RECALLS if k < n - 1}
    return levels | {"median_rank": float(1 + bisect_left(range(1, n), 0.5 - 1e-12, key=found))}


def _log_falling(a: NDArray, k: int) -> NDArray:
    """log of a! / (a − k)!, meaningless where a < k."""
    return np.asarray(special.gammaln(a + 1) - special.gammaln(np.maximum(a - k, 0) + 1))


def _count_pixels(predictions: pd.DataFrame, true: str, predicted: str) -> float:
    column = f"pixels.{true}.{predicted}"
    return float(predictions[column].sum()) if column in predictions else 0.0


def _summarise_values(predictions: pd.DataFrame, targets: Sequence[str], mean: Sequence[float] | None) -> LabelSummary:
    """Spread of each target, and the errors of the training mean."""
    known = [name for name in targets if f"target.{name}" in predictions]
    target = predictions[[f"target.{name}" for name in known]].to_numpy(dtype=np.float64)
    finite = np.isfinite(target)
    spread = {}
    for name, values, there in zip(known, target.T, finite.T):
        if there.any():
            spread[name] = float(np.ptp(values[there]))
    summary: LabelSummary = {"spread": spread}
    if mean is not None and len(mean) == len(known) and finite.any():
        error = (target - np.asarray(mean, dtype=np.float64))[finite]
        summary["errors"] = {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt(np.square(error).mean()))}
    return summary


def _chance_of_values(summary: LabelSummary, targets: Sequence[str]) -> TestSet:
    """CCC 0, which every constant answer has, and the errors of the training mean."""
    each = {f"ccc_{name}": 0.0 for name in targets} if len(targets) > 1 else {}
    constant = tuple(name for name, spread in summary.get("spread", {}).items() if not spread)
    return TestSet({"ccc": 0.0} | each | summary.get("errors", {}), constant)


def load_tests(run: Path, records: Sequence[Mapping[str, Any]]) -> dict[Pair, TestSet]:
    """Load the chance levels of every fold and seed with a finished job.

    Args:
        run: the run folder. Jobs of earlier versions store no summary, so their predictions are read.
        records: what the jobs' job.json files hold.
    """
    summaries: dict[Pair, LabelSummary] = {}
    task, class_names = "classification", list[str]()
    for record in records:
        pair = (record["job"]["fold"], record["job"]["seed"])
        named = record.get("labels")
        if pair in summaries or not isinstance(named, list) or not named:
            continue
        task, class_names = str(record.get("task", "classification")), [str(name) for name in named]
        summary = _read_summary(record.get("test")) or _recompute_summary(run, record, task, class_names)
        if summary:
            summaries[pair] = summary
    return compute_chance(summaries, task, class_names)


def _read_summary(stored: Any) -> LabelSummary | None:
    """A stored summary with numbers of the right type; None if it is not one."""
    try:
        return {str(k): {str(name): float(value) for name, value in values.items()} for k, values in stored.items()}
    except (TypeError, ValueError, AttributeError):
        return None


def _recompute_summary(
    run: Path, record: Mapping[str, Any], task: str, class_names: Sequence[str]
) -> LabelSummary | None:
    """Summarise a job's predictions.csv; None if it cannot be read."""
    try:
        frame = read_predictions(run / "jobs" / job_id(**record["job"]) / "predictions.csv")
        return describe_test(frame, task, class_names)
    except (OSError, ValueError):
        return None


def read_predictions(file: Path) -> pd.DataFrame:
    """Read a CSV of a job; columns in `TEXTS` stay texts ("NA" is a class name), all others become numbers."""
    frame = pd.read_csv(file, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False)  # type: ignore[arg-type]
    # Columns with an empty or damaged number come as texts.
    others = [str(column) for column in frame if column not in TEXTS and frame[column].dtype.kind not in "iuf"]
    return frame.assign(**{column: pd.to_numeric(frame[column].astype(str), errors="coerce") for column in others})


def chance_levels(tests: Mapping[Pair, TestSet], metric: str) -> pd.Series:
    """The chance level of a metric, indexed by fold and seed; NaN where it has none."""
    index = pd.MultiIndex.from_tuples(list(tests) or [(0, 0)], names=["fold", "seed"])
    values = [test.chance.get(metric, math.nan) for test in tests.values()] or [math.nan]
    return pd.Series(values, index=index, dtype=np.float64)
