"""Reference models that learn from labels or from soft labels, and what their predictions tell."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS = 100
"""More columns than twice as many are reduced to as many principal components."""
CERTAIN = 1e-3
"""The least probability of a soft label that is learned from."""


class Reference:
    """A linear model (logistic or ridge), or a small boosted one, of classes or values.

    Args:
        classes: the number of classes; 0 for values.
        boosted: a boosted model of at most 60 trees a class, which learns from labels alone.
    """

    def __init__(self, classes: int, boosted: bool = False):
        self.classes, self.boosted = classes, boosted

    def fit(self, x: NDArray, target: NDArray) -> Reference:
        """Fit the model.

        Args:
            x: (n, D) features, NaN where they are missing.
            target: (n, C) probabilities (one-hot for labels), or (n, K) values.
        """
        from sklearn.decomposition import PCA
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        steps: list[Any] = [] if self.boosted else [SimpleImputer(keep_empty_features=True), StandardScaler()]
        if x.shape[1] > 2 * COLUMNS:
            steps = steps or [SimpleImputer(keep_empty_features=True)]
            steps.append(PCA(min(COLUMNS, len(x)), random_state=0))
        self.prepare = make_pipeline(*steps) if steps else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model that has not fully converged is good enough here
            z = x if self.prepare is None else self.prepare.fit_transform(x)
            self.models = self._fit_classes(z, target) if self.classes else self._fit_values(z, target)
        return self

    def _fit_classes(self, z: NDArray, target: NDArray) -> list[Any]:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression

        # A row with soft labels is a row for each class, weighed by its probability: the loss is the cross-entropy.
        row, label = np.nonzero(target > CERTAIN)
        if len(np.unique(label)) < 2:
            return [int(label[0])]
        if self.boosted:
            # Without weights: binning with them takes a hundred times as long.
            model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, random_state=0)
            return [model.fit(z, target.argmax(1))]
        model = LogisticRegression(C=0.1, max_iter=100)
        return [model.fit(z[row], label, sample_weight=target[row, label])]

    def _fit_values(self, z: NDArray, target: NDArray) -> list[Any]:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.linear_model import Ridge

        models = []
        for y in target.T:
            known = np.isfinite(y)
            if self.boosted:
                model = HistGradientBoostingRegressor(max_iter=60, max_leaf_nodes=15, random_state=0)
            else:
                model = Ridge(alpha=10.0)
            models.append(model.fit(z[known], y[known]))
        return models

    def predict(self, x: NDArray) -> NDArray:
        """(n, C) probabilities or (n, K) values."""
        z = x if self.prepare is None else self.prepare.transform(x)
        if not self.classes:
            return np.stack([model.predict(z) for model in self.models], 1)
        p = np.zeros((len(x), self.classes))
        (model,) = self.models
        if isinstance(model, int):
            p[:, model] = 1
        else:
            p[:, model.classes_] = model.predict_proba(z)
        return p


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
