"""Metrics and the one definition of concordance that loss and metric share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import metrics as sk
from torch import Tensor


class Metric(NamedTuple):
    """`function(prediction, target) -> float` on labelled rows; `prediction` is class codes or values."""

    function: Callable[[NDArray, NDArray], float]
    higher_is_better: bool = True


def concordance(prediction: Tensor, target: Tensor) -> Tensor:
    """Lin's concordance correlation coefficient per column, with population (1/n) moments.

    CCC = 2 cov(x, y) / (var x + var y + (mean x − mean y)²); 0 where both are constant and equal (0/0).
    prediction, target: (N, K). Returns (K,). Source: PKDOT eq. 7 (ρ σx σy is the covariance).
    """
    if prediction.shape[0] == 0:
        return prediction.sum(0)
    # Counted from the first row, which loses no digits and makes a constant exactly 0.
    first_p, first_t = prediction[0].detach(), target[0].detach()
    p, t = prediction - first_p, target - first_t
    mean_p, mean_t = p.mean(0), t.mean(0)
    cp, ct = p - mean_p, t - mean_t
    apart = mean_p - mean_t + (first_p - first_t)
    numerator = 2 * (cp * ct).mean(0)
    denominator = cp.square().mean(0) + ct.square().mean(0) + apart.square()
    safe = denominator > torch.finfo(denominator.dtype).tiny
    return numerator / denominator.where(safe, denominator.new_ones(())) * safe


def ccc(prediction: NDArray, target: NDArray) -> float:
    """Mean over the target columns of `concordance`; rows with a NaN target are left out of their column.

    A column with fewer than two targets says nothing and is left out; NaN where that leaves none.
    """
    prediction, target = _columns(prediction), _columns(target)
    values = []
    for k in range(target.shape[1]):
        valid = np.isfinite(target[:, k])
        if valid.sum() < 2:
            continue
        pair = (torch.as_tensor(a[valid, k : k + 1], dtype=torch.float64) for a in (prediction, target))
        values.append(float(concordance(*pair)))
    return float(np.mean(values)) if values else float("nan")


def mae(prediction: NDArray, target: NDArray) -> float:
    """Mean absolute error over all finite targets."""
    prediction, target = _columns(prediction), _columns(target)
    valid = np.isfinite(target)
    return float(np.abs(prediction - target)[valid].mean())


def rmse(prediction: NDArray, target: NDArray) -> float:
    """Root mean squared error over all finite targets."""
    prediction, target = _columns(prediction), _columns(target)
    valid = np.isfinite(target)
    return float(np.sqrt(np.square(prediction - target)[valid].mean()))


def accuracy(prediction: NDArray, target: NDArray) -> float:
    """Share of rows whose class is right (weighted accuracy, WA)."""
    return float(np.mean(prediction == target))


def unweighted_accuracy(prediction: NDArray, target: NDArray) -> float:
    """Mean recall over the classes that occur in the target (unweighted accuracy, UA; balanced accuracy)."""
    return float(sk.recall_score(target, prediction, labels=np.unique(target), average="macro", zero_division=0))


def macro_f1(prediction: NDArray, target: NDArray) -> float:
    """Unweighted mean of the F1 score over the classes that occur in target or prediction."""
    return float(sk.f1_score(target, prediction, average="macro", zero_division=0))


def confusions(prediction: NDArray, target: NDArray, classes: int) -> NDArray:
    """(N, C, C) pixels of each row by true and predicted class, int64; those with a target below 0 are left out.

    prediction, target: (N, H, W) class codes; counted a few rows at a time.
    """
    n = len(target)
    counts = np.zeros((n, classes, classes), np.int64)
    step = max(1, 2**22 // max(1, target[0].size if n else 1))
    for start in range(0, n, step):
        t = target[start : start + step].reshape(-1).astype(np.int64)
        p = prediction[start : start + step].reshape(-1).astype(np.int64)
        rows = min(step, n - start)
        row = np.repeat(np.arange(rows), len(t) // rows)
        cell = ((row * classes + t) * classes + p)[t >= 0]
        counts[start : start + rows] = np.bincount(cell, minlength=rows * classes**2).reshape(rows, classes, classes)
    return counts


def ious(counts: NDArray) -> NDArray:
    """(C,) intersection over union, TP / (TP + FP + FN), of a confusion matrix; NaN for a class that does not occur."""
    right = np.diagonal(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - right
    return np.asarray(np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0))


def mean_iou(counts: NDArray) -> float:
    """Mean intersection over union of the classes that occur in target or prediction."""
    each = ious(counts)
    return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def miou(prediction: NDArray, target: NDArray, classes: int) -> float:
    """`mean_iou` over all pixels of all rows (mIoU); pixels with a target below 0 are left out."""
    return mean_iou(confusions(prediction, target, classes).sum(0))


def class_iou(prediction: NDArray, target: NDArray, classes: int, of: int) -> float:
    """Intersection over union of one class over all pixels of all rows; NaN where it does not occur."""
    return float(ious(confusions(prediction, target, classes).sum(0))[of])


def pixel_accuracy(prediction: NDArray, target: NDArray, classes: int) -> float:
    """Share of the pixels that have a class whose class is right."""
    counts = confusions(prediction, target, classes).sum(0)
    return float(counts.trace() / max(counts.sum(), 1))


def _columns(x: NDArray) -> NDArray:
    return np.asarray(x, dtype=np.float64).reshape(len(x), -1)


CLASSIFICATION = {
    "accuracy": Metric(accuracy),
    "unweighted_accuracy": Metric(unweighted_accuracy),
    "macro_f1": Metric(macro_f1),
}
REGRESSION = {"ccc": Metric(ccc), "mae": Metric(mae, False), "rmse": Metric(rmse, False)}
