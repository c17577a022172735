"""Metrics, and the one definition of concordance that loss and metric share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.rows import read_into_memory

if TYPE_CHECKING:
    from sidelight.recordings.label_maps import LabelMaps


class Metric(NamedTuple):
    """`function(prediction, target) -> float` on labelled rows; `prediction` is class codes or values."""

    function: Callable[[NDArray, NDArray], float]
    higher_is_better: bool = True


def concordance(prediction: Tensor, target: Tensor) -> Tensor:
    """Lin's concordance correlation coefficient per column, with population (1/n) moments.

    CCC = 2 cov(x, y) / (var x + var y + (mean x − mean y)²); 0 where both are constant and equal (0/0).
    Source: PKDOT eq. 7 (ρ σx σy is the covariance).

    Args:
        prediction: (N, K).
        target: (N, K).

    Returns:
        (K,).
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

    A column with fewer than two targets is left out; NaN where that leaves none.
    """
    prediction, target = _to_columns(prediction), _to_columns(target)
    values = []
    for k in range(target.shape[1]):
        valid = np.isfinite(target[:, k])
        if valid.sum() < 2:
            continue
        pair = (torch.as_tensor(a[valid, k : k + 1], dtype=torch.float64) for a in (prediction, target))
        values.append(float(concordance(*pair)))
    return float(np.mean(values)) if values else float("nan")


def column_ccc(prediction: NDArray, target: NDArray, column: int) -> float:
    """`ccc` of one target column.

    Args:
        prediction: (N, K).
        target: (N, K).
        column: the index of the column.

    Returns:
        The coefficient.
    """
    return ccc(_to_columns(prediction)[:, column], _to_columns(target)[:, column])


def mae(prediction: NDArray, target: NDArray) -> float:
    """Mean absolute error over all finite targets."""
    prediction, target = _to_columns(prediction), _to_columns(target)
    valid = np.isfinite(target)
    return float(np.abs(prediction - target)[valid].mean())


def rmse(prediction: NDArray, target: NDArray) -> float:
    """Root mean squared error over all finite targets."""
    prediction, target = _to_columns(prediction), _to_columns(target)
    valid = np.isfinite(target)
    return float(np.sqrt(np.square(prediction - target)[valid].mean()))


def accuracy(prediction: NDArray, target: NDArray) -> float:
    """Share of rows whose class is right (weighted accuracy, WA)."""
    return float(np.mean(prediction == target))


def unweighted_accuracy(prediction: NDArray, target: NDArray) -> float:
    """Mean recall over the classes that occur in the target (unweighted accuracy, UA; balanced accuracy)."""
    right, true, _ = _count_classes(prediction, target)
    return float((right[true > 0] / true[true > 0]).mean())


def macro_f1(prediction: NDArray, target: NDArray) -> float:
    """Unweighted mean of the F1 score over the classes that occur in target or prediction."""
    right, true, said = _count_classes(prediction, target)
    return float((2 * right / (true + said)).mean())


def _count_classes(prediction: NDArray, target: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Of each class in target or prediction, how often it is right, true and said.

    scikit-learn's scores are the same to the bit. Ten times slower, they would take longer than small networks train.
    """
    classes, codes = np.unique(np.concatenate([target, prediction]), return_inverse=True)
    t, p = np.split(codes, [len(target)])
    right, true, said = (np.bincount(x, minlength=len(classes)) for x in (t[t == p], t, p))
    return right, true, said


PIXELS_AT_ONCE = 2**22


def count_confusions(prediction: NDArray, target: NDArray | LabelMaps, classes: int) -> NDArray:
    """Confusion matrices of pixels, one for each row; a few rows at a time, so that the target may be `LabelMaps`.

    Args:
        prediction: (N, H, W) class codes.
        target: (N, H, W) class codes; pixels below 0 are left out.
        classes: C.

    Returns:
        (N, C, C) int64, by true and predicted class.
    """
    n = len(target)
    counts = np.zeros((n, classes, classes), np.int64)
    step = max(1, PIXELS_AT_ONCE // max(1, math.prod(target.shape[1:])))
    for start in range(0, n, step):
        t = read_into_memory(target[start : start + step]).reshape(-1).astype(np.int64)
        p = prediction[start : start + step].reshape(-1).astype(np.int64)
        rows = min(step, n - start)
        row = np.repeat(np.arange(rows), len(t) // rows)
        cell = ((row * classes + t) * classes + p)[t >= 0]
        counts[start : start + rows] = np.bincount(cell, minlength=rows * classes**2).reshape(rows, classes, classes)
    return counts


def compute_ious(counts: NDArray) -> NDArray:
    """(C,) intersection over union, TP / (TP + FP + FN), from a confusion matrix; NaN for an absent class."""
    right = np.diagonal(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - right
    return np.asarray(np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0))


def mean_iou(counts: NDArray) -> float:
    """Mean intersection over union of the classes that occur in target or prediction."""
    each = compute_ious(counts)
    return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def confusion_accuracy(counts: NDArray) -> float:
    """Share of the counted pixels whose class is right, from a confusion matrix; NaN where none is counted."""
    return float(counts.trace() / counts.sum()) if counts.any() else float("nan")


def miou(prediction: NDArray, target: NDArray, classes: int) -> float:
    """`mean_iou` over all pixels of all rows (mIoU).

    Args:
        prediction: (N, H, W) class codes.
        target: (N, H, W) class codes; pixels below 0 are left out.
        classes: C.

    Returns:
        The mean.
    """
    return mean_iou(count_confusions(prediction, target, classes).sum(0))


def class_iou(prediction: NDArray, target: NDArray, classes: int, of: int) -> float:
    """Intersection over union of one class over all pixels of all rows.

    Args:
        prediction: (N, H, W) class codes.
        target: (N, H, W) class codes; pixels below 0 are left out.
        classes: C.
        of: the class.

    Returns:
        The ratio, NaN where the class does not occur.
    """
    return float(compute_ious(count_confusions(prediction, target, classes).sum(0))[of])


def pixel_accuracy(prediction: NDArray, target: NDArray, classes: int) -> float:
    """`confusion_accuracy` over all pixels of all rows that have a class.

    Args:
        prediction: (N, H, W) class codes.
        target: (N, H, W) class codes; pixels below 0 are left out.
        classes: C.

    Returns:
        The share, NaN where no pixel has a class.
    """
    return confusion_accuracy(count_confusions(prediction, target, classes).sum(0))


RECALLS = (1, 5, 10)
"""The K of R@K."""
TIE = 1e-6
"""The angle up to which two directions count as the same: a few roundings of float32 (6e-8 each)."""
BLOCK = 2**22
"""The most cosines in memory at a time."""


def first_hit_ranks(embedding: NDArray, target: NDArray) -> NDArray:
    """(N,) int64: the rank, counted from 1, of the first row of the same class among each row's nearest other rows.

    Each row is a query and all other rows are its gallery, ordered by falling cosine; rows of another class as near as
    the first of the own stand before it, so that an embedding that has collapsed finds nothing. 0 where no other row is
    of the class. Memory: a few times `BLOCK` numbers.

    Args:
        embedding: (N, F), finite.
        target: (N,) class codes.

    Returns:
        The ranks.
    """
    ranks = np.zeros(len(embedding), np.int64)
    for rows, cosine in _cosines(embedding):
        same = target[rows, None] == target[None]
        same[np.arange(len(rows)), rows] = False
        best = np.where(same, cosine, -np.inf).max(1, keepdims=True)
        sine = np.sqrt(np.clip(1 - best**2, 0, None))
        before = ((cosine > best - TIE * (sine + TIE)) & ~same).sum(1)  # at an angle of up to TIE more
        ranks[rows] = np.where(same.any(1), 1 + before, 0)
    return ranks


def nearest_neighbours(embedding: NDArray) -> NDArray:
    """(N,) int64: the other row with the largest cosine (the first of several); needs two rows."""
    return np.concatenate([cosine.argmax(1) for _, cosine in _cosines(embedding)])


def _cosines(embedding: NDArray) -> Iterator[tuple[NDArray, NDArray]]:
    """Some rows and their cosines with all rows, −∞ with themselves, a block at a time."""
    x = np.asarray(embedding, dtype=np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    x = x / np.where(length > 0, length, 1)
    step = max(1, BLOCK // max(1, len(x)))
    for start in range(0, len(x), step):
        rows = np.arange(start, min(start + step, len(x)))
        cosine = x[rows] @ x.T
        cosine[rows - start, rows] = -np.inf
        yield rows, cosine


def retrieval_scores(embedding: NDArray, target: NDArray) -> dict[str, float]:
    """R@K for K in `RECALLS` and MedR, over the queries: the rows that have another row of their class.

    R@K: share of queries that have a row of their class among their K nearest (`first_hit_ranks`); NaN unless K is
    smaller than the gallery (all rows but the query). MedR: median rank of the first one. All are NaN where no query
    counts or an embedding is not finite.
    """
    ranks = first_hit_ranks(embedding, target) if np.isfinite(embedding).all() else np.zeros(0, np.int64)
    ranks = ranks[ranks > 0]
    recalls = {
        f"recall_at_{k}": float((ranks <= k).mean()) if len(ranks) and k < len(target) - 1 else float("nan")
        for k in RECALLS
    }
    return recalls | {"median_rank": float(np.median(ranks)) if len(ranks) else float("nan")}


def spoofing_errors(accepted: NDArray, live: NDArray) -> tuple[float, float]:
    """APCER, the share of accepted attacks, and BPCER, the share of rejected live rows (ISO/IEC 30107-3).

    All attacks are one kind.

    Args:
        accepted: (N,) bool.
        live: (N,) bool.

    Returns:
        Both rates; NaN without an attack, or without a live row.
    """
    attacks = ~live
    apcer = float(accepted[attacks].mean()) if attacks.any() else float("nan")
    bpcer = float((~accepted)[live].mean()) if live.any() else float("nan")
    return apcer, bpcer


def spoofing_threshold(score: NDArray, live: NDArray) -> float:
    """The lowest threshold t with the least ACER where a row is accepted if its score is at least t.

    Candidates: the lowest score (everything is accepted), and midway between each two neighbouring different scores.
    score: (N,) finite, higher is more live; live: (N,) bool, both kinds occur.
    """
    values, of_row = np.unique(score, return_inverse=True)
    attacks = np.bincount(of_row[~live], minlength=len(values))
    real = np.bincount(of_row[live], minlength=len(values))
    rejected_attacks = np.concatenate([[0], np.cumsum(attacks)[:-1]])  # by the candidate just below each value
    rejected_real = np.concatenate([[0], np.cumsum(real)[:-1]])
    # Twice the ACER less 1, times both counts: whole numbers, so that ties are exact.
    error = rejected_real * int(attacks.sum()) - rejected_attacks * int(real.sum())
    i = int(np.argmin(error))
    if i == 0:
        return float(values[0])
    low, high = float(values[i - 1]), float(values[i])
    middle = low + (high - low) / 2
    return middle if middle > low else high  # neighbouring numbers have nothing between them


def equal_error_rate(score: NDArray, live: NDArray) -> float:
    """The rate at which attacks are accepted where as large a share of live rows is rejected, linear between scores.

    NaN where one kind is missing or a score is not finite.
    """
    if live.all() or not live.any() or not np.isfinite(score).all():
        return float("nan")
    from sklearn import metrics as sk

    accepted, kept, _ = sk.roc_curve(live, score, drop_intermediate=False)
    return float(np.interp(0, accepted - (1 - kept), accepted))


def area_under_curve(score: NDArray, live: NDArray) -> float:
    """Probability that a live row scores higher than an attack, ties count half; NaN as `equal_error_rate`."""
    if live.all() or not live.any() or not np.isfinite(score).all():
        return float("nan")
    from sklearn import metrics as sk

    return float(sk.roc_auc_score(live, score))


def _to_columns(x: NDArray) -> NDArray:
    return np.asarray(x, dtype=np.float64).reshape(len(x), -1)


CLASSIFICATION = {
    "accuracy": Metric(accuracy),
    "unweighted_accuracy": Metric(unweighted_accuracy),
    "macro_f1": Metric(macro_f1),
}
REGRESSION = {"ccc": Metric(ccc), "mae": Metric(mae, False), "rmse": Metric(rmse, False)}
