"""Protocols: the rows that train, choose epochs and are tested once, and the rows whose labels are hidden."""

from __future__ import annotations

from sidelight.protocols.budget import DESCRIBED, INNER_FOLDS, LabelBudget, hold_out, share_labels
from sidelight.protocols.fold import FOLDS, PROTOCOLS, WHOLE, Fold, Protocol, resolve_protocol
from sidelight.protocols.labels import hide_labels
from sidelight.protocols.split import build_whole_fold, describe_straddling_group, split

__all__ = [
    "DESCRIBED",
    "FOLDS",
    "INNER_FOLDS",
    "PROTOCOLS",
    "WHOLE",
    "Fold",
    "LabelBudget",
    "Protocol",
    "build_whole_fold",
    "describe_straddling_group",
    "hide_labels",
    "hold_out",
    "resolve_protocol",
    "share_labels",
    "split",
]
