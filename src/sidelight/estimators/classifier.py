"""The classifier."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from sidelight.errors import DataError, shown
from sidelight.estimators.base import PrivilegedEstimator


class PrivilegedClassifier(ClassifierMixin, PrivilegedEstimator):
    """A classifier that learns from every column of `X` and predicts from those that remain at deployment.

    `fit` trains a teacher on all columns and a student on the available ones; a quarter of the groups (of the rows,
    without groups) chooses the epochs. `predict` reads the available columns, whether or not the others are there.

    Args:
        available: the columns that remain. For a DataFrame a mapping modality -> column prefix or list of columns, or
            a list of columns (one modality) and prefixes (a modality each); for an array positions of columns; for a
            dict names of its arrays. None: all that are not privileged.
        privileged: the columns that exist in training only, in the same form. None: all that are not available.
        method: a method, as in `sl.compare`; "baseline" trains on the available columns alone.
        epochs: largest number of epochs of each network.
        seed: of the choice of select rows and of everything random.
        device: where to train and predict, as `training.device`.
        settings: other settings of the training, e.g. {"training": {"batch_size": 64}, "impute": "mean"}; see
            docs/estimators.md.

    Attributes:
        student_: the trained student, a `sidelight.Student`, which `save` and `export` write to files.
        classes_: (C,) the values of `y`, sorted.
        n_features_in_: number of columns of `X`, unless it is a dict.
        feature_names_in_: names of the columns of `X`, if it is a DataFrame.
    """

    _task = "classification"

    def fit(self, X: Any, y: Any, groups: Any = None, X_unlabelled: Any = None) -> Self:
        """Train the teacher and the student.

        Args:
            X: a DataFrame, an array (N, D), or a dict of arrays with N rows each.
            y: (N,) classes.
            groups: (N,) person or session of each row; rows of a group are not divided between train and select.
            X_unlabelled: more rows without a class, in the form of `X`.

        Raises:
            ConfigError: columns or settings that do not exist.
            DataError: rows that cannot be read, or `y` has one class; the message names row and value.
        """
        y = column_or_1d(self._check(X, y, dtype=None), warn=True)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"y has one class, {shown(classes.tolist()[0])}; a classifier needs at least two.")
        self.classes_ = classes
        self._fit(X, codes.astype(np.int64), tuple(map(str, classes)), groups, X_unlabelled)
        return self

    def predict_proba(self, X: Any) -> NDArray:
        """Probabilities of the classes.

        Args:
            X: rows with the available columns.

        Returns:
            (N, C) in the order of `classes_`.
        """
        inputs = self._read(X)
        return np.asarray(self.student_.respond(*inputs).double().softmax(1))

    def predict(self, X: Any) -> NDArray:
        """Classes.

        Args:
            X: rows with the available columns.

        Returns:
            (N,) values of `classes_`.
        """
        best = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[best])
