"""The regressor."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from sidelight.estimators.base import PrivilegedEstimator


class PrivilegedRegressor(RegressorMixin, PrivilegedEstimator):
    """A regressor that learns from every column of `X` and predicts from those that remain at deployment.

    The parameters, and the attributes but `classes_`, are those of `PrivilegedClassifier`. `score` is R².
    """

    _task = "regression"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, groups: Any = None, X_unlabelled: Any = None) -> Self:
        """Train the teacher and the student.

        Args:
            X: a DataFrame, an array (N, D), or a dict of arrays with N rows each.
            y: (N,) or (N, K) values.
            groups: (N,) person or session of each row; rows of a group are not divided between train and select.
            X_unlabelled: more rows without values, in the form of `X`.

        Raises:
            ConfigError: columns or settings that do not exist.
            DataError: rows that cannot be read; the message names row and value.
        """
        values = self._check(X, y, dtype="numeric")
        self._flat = values.ndim == 1
        columns = values[:, None] if self._flat else values
        names = tuple(f"y{k}" for k in range(columns.shape[1])) if columns.shape[1] > 1 else ("y",)
        self._fit(X, columns.astype(np.float32), names, groups, X_unlabelled)
        return self

    def predict(self, X: Any) -> NDArray:
        """Values.

        Args:
            X: rows with the available columns.

        Returns:
            (N,) or (N, K) values, as `y` had, in its units.
        """
        inputs, lengths = self._read(X)
        values = np.asarray(self.student_.predict(inputs, lengths=lengths))
        return values[:, 0] if self._flat else values
