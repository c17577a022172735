"""What the predictions of reference models tell: scores, label noise, and information."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def score(predicted: NDArray, target: NDArray, classes: int) -> float:
    """Accuracy of (n, C) probabilities against (n,) classes, or the mean CCC of (n, K) values."""
    from sidelight.metrics import ccc

    if classes:
        return float(np.mean(predicted.argmax(1) == target))
    each = []
    for p, y in zip(predicted.T, target.T):
        known = np.isfinite(y)
        if known.sum() > 1:
            each.append(ccc(p[known], y[known]))
    return float(np.mean(each)) if each else float("nan")


def estimate_label_noise(predicted: NDArray, target: NDArray) -> float:
    """Estimate the share of wrong labels by confident learning (Northcutt et al. 2021).

    A label i counts as wrong if another class j has a probability of at least t_j, the mean probability of j among the
    rows labelled j. Predictions must be out of fold.

    Args:
        predicted: (n, C) probabilities.
        target: (n,) classes.
    """
    classes = predicted.shape[1]
    threshold = np.array([predicted[target == j, j].mean() if (target == j).any() else 2.0 for j in range(classes)])
    confident = np.where(predicted >= threshold, predicted, -1.0)
    likely = confident.argmax(1)
    counted = confident.max(1) >= 0
    return float(np.mean(likely[counted] != target[counted])) if counted.any() else float("nan")


def gaussian_information(a: NDArray, b: NDArray) -> float:
    """Mutual information in bits of two vectors, as if they were Gaussian: −½ Σ log₂(1 − ρ²), ρ their canonical
    correlations, less the bias d_a d_b / (2 n ln 2) of independent vectors; at least 0.

    Args:
        a: (n, d_a).
        b: (n, d_b).
    """
    whitened, sizes = [], 1
    for x in (a, b):
        u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
        whitened.append(u[:, s > 1e-6 * max(s[0], 1e-300)])
        sizes *= whitened[-1].shape[1]
    rho = np.linalg.svd(whitened[0].T @ whitened[1], compute_uv=False).clip(0, 1 - 1e-9)
    bits = -0.5 * np.log2(1 - rho**2).sum() - sizes / (2 * len(a) * np.log(2))
    return max(0.0, float(bits))
