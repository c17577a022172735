"""The metrics of a job with each test group left out, from its predictions: what an interval over test groups needs.

Every metric here is a function of sums over rows (counts of classes, moments of values). The metric without a group
follows from the sums less those of the group, without a look at the other rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sidelight.errors import RunError
from sidelight.results.chance import RECALLS, read_predictions
from sidelight.results.job import is_whole, job_id

LEAST_GROUPS = 5
"""With fewer test groups there is no verdict: a spread over four people says next to nothing."""
BLOCKS, ROWS_PER_BLOCK, LEAST_BLOCKS = 20, 5, 10
"""Test rows without groups are cut into `BLOCKS` blocks of at least `ROWS_PER_BLOCK` rows, or no verdict."""


@dataclass(frozen=True)
class GroupScores:
    """One job's metrics without each test group.

    Args:
        unit: "groups", or "blocks" of neighbouring rows if the data set has no groups.
        names: names of the G groups.
        without: metric -> (G,) its value over the test rows of all other groups.
        reason: why there is nothing to judge by; "" if there is.
    """

    unit: str = "groups"
    names: tuple[str, ...] = ()
    without: dict[str, NDArray] = field(default_factory=dict)
    reason: str = ""

    def __deepcopy__(self, memo: dict[int, Any]) -> GroupScores:
        return self  # pandas deep-copies `attrs` in every step


def load_group_scores(run: Path, records: Sequence[Mapping[str, Any]]) -> dict[str, GroupScores]:
    """Read the predictions of every job and leave each test group out of its metrics.

    Args:
        run: the run folder.
        records: what the jobs' job.json files hold.

    Returns:
        Job id -> its scores; with a `reason` and nothing else if the predictions cannot be read.
    """
    return {job_id(**record["job"]): _load(run, record) for record in records}


def _load(run: Path, record: Mapping[str, Any]) -> GroupScores:
    file = run / "jobs" / job_id(**record["job"]) / "predictions.csv"
    try:
        if not is_whole(file, record):
            raise RunError("it is missing or was changed")
        names = [str(name) for name in record.get("labels") or ()]
        return score_without_groups(read_predictions(file), str(record.get("task", "classification")), names)
    except (OSError, ValueError, KeyError, RunError) as error:
        return GroupScores(reason=f"{file.parent.name}/predictions.csv cannot be read ({error})")


def score_without_groups(predictions: pd.DataFrame, task: str, class_names: Sequence[str]) -> GroupScores:
    """Compute a job's metrics without each of its test groups.

    Args:
        predictions: one line per test row, as in predictions.csv. Rows without a label are left out.
        task: the task's name, e.g. "classification".
        class_names: names of the classes, or of the targets of a regression.
    """
    labelled = predictions[_is_labelled(predictions, class_names)]
    unit, of_row, names, reason = cut_units(labelled)
    if reason:
        return GroupScores(unit, tuple(names), reason=reason)
    return GroupScores(unit, tuple(names), _leave_out(labelled, of_row, len(names), task, class_names))


def cut_units(predictions: pd.DataFrame) -> tuple[str, NDArray, list[str], str]:
    """The unit that test rows are counted in: their groups, else contiguous blocks in the order of the data set.

    Returns:
        "groups" or "blocks"; (N,) the unit of each row; the names of the units; why they are too few, or "".
    """
    n = len(predictions)
    if "group" in predictions:
        names, of_row = np.unique(predictions["group"].astype(str), return_inverse=True)
        few = f"its test rows are of too few groups: {len(names)}, and at least {LEAST_GROUPS} are needed"
        return "groups", of_row, names.tolist(), few if len(names) < LEAST_GROUPS else ""
    blocks = min(BLOCKS, n // ROWS_PER_BLOCK)
    few = f"it has no groups, and its {n} labelled test rows are too few for {LEAST_BLOCKS} blocks of {ROWS_PER_BLOCK}"
    if blocks < LEAST_BLOCKS:
        return "blocks", np.zeros(n, np.int64), [], few
    return "blocks", np.arange(n) * blocks // n, [str(k) for k in range(blocks)], ""


def _is_labelled(predictions: pd.DataFrame, class_names: Sequence[str]) -> NDArray:
    if "target" in predictions:
        return np.asarray(predictions["target"] != "")
    columns = [f"target.{name}" for name in class_names if f"target.{name}" in predictions]
    return predictions[columns].notna().any(axis=1).to_numpy() if columns else np.ones(len(predictions), bool)


def _leave_out(
    frame: pd.DataFrame, of_row: NDArray, units: int, task: str, class_names: Sequence[str]
) -> dict[str, NDArray]:
    def without(values: NDArray) -> NDArray:
        """(G, ...) sums of (N, ...) values over the rows of all other groups."""
        sums = np.zeros((units, *values.shape[1:]))
        np.add.at(sums, of_row, values)
        return np.asarray(values.sum(axis=0) - sums)

    if task == "regression":
        return _score_values(frame, class_names, without)
    if task == "segmentation":
        columns = [[f"pixels.{true}.{predicted}" for predicted in class_names] for true in class_names]
        pixels = frame[[c for line in columns for c in line]].to_numpy(dtype=np.float64)
        return _score_pixels(without(pixels.reshape(-1, len(class_names), len(class_names))), class_names)
    if task == "retrieval":
        rank = frame["rank"].to_numpy(dtype=np.float64)
        asked = without((rank > 0).astype(np.float64))  # 0: no other row of the class
        hits = {k: without(((rank > 0) & (rank <= k)).astype(np.float64)) for k in RECALLS}
        return {f"recall_at_{k}": hit / np.where(asked > 0, asked, np.nan) for k, hit in hits.items()}
    codes = {name: i for i, name in enumerate(class_names)}
    true, said = (frame[c].map(codes).to_numpy(dtype=np.int64) for c in ("target", "prediction"))
    cells = np.zeros((units, len(codes), len(codes)))
    np.add.at(cells, (of_row, true, said), 1)
    return _score_classes(cells.sum(axis=0) - cells, task)


def _score_classes(counts: NDArray, task: str) -> dict[str, NDArray]:
    """Metrics of (G, C, C) confusion matrices, by true and predicted class."""
    right, true, said = np.diagonal(counts, axis1=1, axis2=2), counts.sum(2), counts.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.nanmean(np.where(true > 0, right / true, np.nan), axis=1)
        f1 = np.nanmean(np.where(true + said > 0, 2 * right / (true + said), np.nan), axis=1)
        accuracy = right.sum(1) / true.sum(1)
    if task == "anti-spoofing":
        return {"acer": 1 - recall}
    return {"accuracy": accuracy, "unweighted_accuracy": recall, "balanced_accuracy": recall, "macro_f1": f1}


def _score_pixels(counts: NDArray, class_names: Sequence[str]) -> dict[str, NDArray]:
    """Metrics of (G, C, C) counts of pixels, by true and predicted class."""
    right = np.diagonal(counts, axis1=1, axis2=2)
    union = counts.sum(1) + counts.sum(2) - right
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = np.where(union > 0, right / union, np.nan)
        scores = {"miou": np.nanmean(iou, axis=1), "pixel_accuracy": right.sum(1) / counts.sum((1, 2))}
    return scores | {f"iou.{name}": iou[:, k] for k, name in enumerate(class_names)}


def _score_values(frame: pd.DataFrame, targets: Sequence[str], without: Any) -> dict[str, NDArray]:
    """CCC from the moments of (N, K) predictions and targets, MAE and RMSE from the sums of errors."""
    t, p = (frame[[f"{kind}.{name}" for name in targets]].to_numpy(np.float64) for kind in ("target", "prediction"))
    known = np.isfinite(t)
    centre = np.where(known, t, 0.0).sum(0) / np.maximum(known.sum(0), 1)  # so that sums of squares lose no digits
    t, p = (np.where(known, values - centre, 0.0) for values in (t, p))
    n, st, sp = without(known.astype(np.float64)), without(t), without(p)
    error = p - t
    with np.errstate(invalid="ignore", divide="ignore"):
        mt, mp = st / n, sp / n
        apart = np.square(mt - mp)
        spread = without(t * t) / n - mt**2 + without(p * p) / n - mp**2 + apart
        ccc = np.where(n > 1, 2 * (without(t * p) / n - mt * mp) / np.where(spread > 1e-12, spread, np.inf), np.nan)
        rows = n.sum(1)
        mae, mse = without(np.abs(error)).sum(1) / rows, without(np.square(error)).sum(1) / rows
        scores = {"ccc": np.nanmean(ccc, axis=1), "mae": mae, "rmse": np.sqrt(mse)}
    return scores | {f"ccc_{name}": ccc[:, k] for k, name in enumerate(targets) if len(targets) > 1}
