"""Which rows train, which choose epochs and which are read once at the end; and whose labels are hidden."""

from __future__ import annotations

from sidelight.protocols.split import (
    FOLDS,
    PROTOCOLS,
    WHOLE,
    Fold,
    Protocol,
    hide_labels,
    resolve,
    split,
    straddling,
    whole,
)

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
