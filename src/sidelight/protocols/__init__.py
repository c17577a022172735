"""Which rows train, which choose epochs and which are read once at the end; and whose labels are hidden."""

from __future__ import annotations

from sidelight.protocols.fold import FOLDS, PROTOCOLS, WHOLE, Fold, Protocol, resolve
from sidelight.protocols.labels import hide_labels
from sidelight.protocols.split import split, straddling, whole

__all__ = [
    "FOLDS",
    "PROTOCOLS",
    "WHOLE",
    "Fold",
    "Protocol",
    "hide_labels",
    "resolve",
    "split",
    "straddling",
    "whole",
]
