"""Estimators in scikit-learn's form, which train on every column and predict from those that remain."""

from __future__ import annotations

from sidelight.estimators.classifier import PrivilegedClassifier
from sidelight.estimators.regressor import PrivilegedRegressor

__all__ = ["PrivilegedClassifier", "PrivilegedRegressor"]
