"""Reference models beside networks: linear (logistic or ridge) and small boosted ones, from labels or soft labels.

`inspect`, `advise` and the reference rows of a study share them.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS = 100
"""More columns than twice as many are reduced to as many principal components."""
CERTAIN = 1e-3
"""The least probability of a soft label that is learned from."""
STRENGTH = 0.1
"""C, the inverse of the regularisation, where none is chosen."""
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""C that are tried by cross-validation."""
ROWS_TO_CHOOSE = 1000
"""The most rows among which C is chosen."""


class Reference:
    """A linear model (logistic or ridge), or a small boosted one, of classes or values.

    Columns are standardised, and missing values are filled in with their mean. More than 2 `columns` columns are
    reduced to `columns` principal components.

    Args:
        classes: the number of classes; 0 for values.
        boosted: a boosted model of at most 60 trees a class, which learns from labels alone.
        strength: C, the inverse of the regularisation of a linear model (ridge: 1 / α).
        columns: the number of principal components; 0: all columns are kept, however many there are.
    """

    def __init__(self, classes: int, boosted: bool = False, strength: float = STRENGTH, columns: int = COLUMNS):
        self.classes, self.boosted, self.strength, self.columns = classes, boosted, strength, columns

    def fit(self, x: NDArray, target: NDArray, weights: NDArray | None = None) -> Reference:
        """Fit the model.

        Args:
            x: (n, D) features, NaN where they are missing.
            target: (n, C) probabilities (one-hot for labels), or (n, K) values, NaN where they are missing.
            weights: (n,) weights of the rows; None: all count alike. A model of values has none.
        """
        self.prepare = build_preparation(x, self.boosted, self.columns)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model that has not fully converged is good enough here
            z = x if self.prepare is None else self.prepare.fit_transform(x)
            self._fit_prepared(z, target, weights)
        return self

    def _fit_prepared(self, z: NDArray, target: NDArray, weights: NDArray | None) -> None:
        self.models = self._fit_classes(z, target, weights) if self.classes else self._fit_values(z, target)

    def _fit_classes(self, z: NDArray, target: NDArray, weights: NDArray | None) -> list[Any]:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression

        # A row with soft labels is a row for each class, weighed by its probability: the loss is the cross-entropy.
        row, label = np.nonzero(target > CERTAIN)
        if len(np.unique(label)) < 2:
            return [int(label[0])]
        if self.boosted:
            # Binning with weights takes a hundred times as long, so none are given unless they are needed.
            model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, random_state=0)
            return [model.fit(z, target.argmax(1), sample_weight=weights)]
        counted = target[row, label] * (1.0 if weights is None else weights[row])
        model = LogisticRegression(C=self.strength, max_iter=100)
        return [model.fit(z[row], label, sample_weight=counted)]

    def _fit_values(self, z: NDArray, target: NDArray) -> list[Any]:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.linear_model import Ridge

        models: list[Any] = []
        for y in target.T:
            known = np.isfinite(y)
            if not known.any():
                models.append(0)
                continue
            if self.boosted:
                model = HistGradientBoostingRegressor(max_iter=60, max_leaf_nodes=15, random_state=0)
            else:
                model = Ridge(alpha=1 / self.strength)
            models.append(model.fit(z[known], y[known]))
        return models

    def predict(self, x: NDArray) -> NDArray:
        """(n, C) probabilities or (n, K) values; 0 for a target that no row has."""
        return self._predict_prepared(x if self.prepare is None else self.prepare.transform(x))

    def _predict_prepared(self, z: NDArray) -> NDArray:
        if not self.classes:
            values = [np.zeros(len(z)) if isinstance(model, int) else model.predict(z) for model in self.models]
            return np.stack(values, 1)
        p = np.zeros((len(z), self.classes))
        (model,) = self.models
        if isinstance(model, int):
            p[:, model] = 1
        else:
            p[:, model.classes_] = model.predict_proba(z)
        return p


def build_preparation(x: NDArray, boosted: bool = False, columns: int = COLUMNS) -> Any:
    """The steps before a model of (n, D) features, not fitted; None for a boosted model of few columns."""
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps: list[Any] = [] if boosted else [SimpleImputer(keep_empty_features=True), StandardScaler()]
    if columns and x.shape[1] > 2 * columns:
        steps = steps or [SimpleImputer(keep_empty_features=True)]
        steps.append(PCA(min(columns, len(x)), random_state=0))
    return make_pipeline(*steps) if steps else None


def choose_strength(
    x: NDArray, target: NDArray, fold: NDArray, classes: int, weights: NDArray | None = None
) -> tuple[float, NDArray]:
    """Choose C of a linear model by cross-validation: the least cross-entropy, or squared error of values.

    Args:
        x: (n, D) features, NaN where they are missing.
        target: (n, C) one-hot labels, or (n, K) values, NaN where they are missing.
        fold: (n,) the part of each row; a part is predicted by models of the others.
        classes: the number of classes; 0 for values.
        weights: (n,) weights of the rows; None: all count alike.

    Returns:
        C, `STRENGTH` if there is one part only, and (n, C) or (n, K) predictions with it, NaN where there are none.
    """
    parts = np.unique(fold)
    if len(parts) < 2:
        return STRENGTH, np.full(target.shape, np.nan)
    said = {strength: np.full(target.shape, np.nan) for strength in STRENGTHS}
    for part in parts:
        train, out = fold != part, fold == part
        prepare = build_preparation(x[train])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in `Reference.fit`
            ours, theirs = prepare.fit_transform(x[train]), prepare.transform(x[out])
            for strength in STRENGTHS:
                model = Reference(classes, strength=strength)
                model._fit_prepared(ours, target[train], None if weights is None else weights[train])
                said[strength][out] = model._predict_prepared(theirs)

    def loss(strength: float) -> float:
        if classes:
            own = -np.log((said[strength] * target).sum(1).clip(1e-12))
            return float(np.average(own, weights=weights))
        return float(np.nanmean(np.square(said[strength] - target) / np.nanvar(target, axis=0).clip(1e-12)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a target that no row has is left out
        best = min(STRENGTHS, key=loss)
    return best, said[best]
