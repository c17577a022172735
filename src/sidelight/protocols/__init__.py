"""Which rows train, which choose epochs and which are read once at the end; and whose labels are hidden."""

from __future__ import annotations

from sidelight.protocols.fold import FOLDS, PROTOCOLS, WHOLE, Fold, Protocol, resolve_protocol
from sidelight.protocols.labels import hide_labels
from sidelight.protocols.split import split, describe_straddling_group, build_whole_fold

__all__ = [
    "FOLDS",
    "PROTOCOLS",
    "WHOLE",
    "Fold",
    "Protocol",
    "hide_labels",
    "resolve_protocol",
    "split",
    "describe_straddling_group",
    "build_whole_fold",
]
