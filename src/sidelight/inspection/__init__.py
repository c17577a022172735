"""`inspect`: the content of a data set, and how well each modality predicts, before anything is trained."""

from __future__ import annotations

from sidelight.inspection.inspection import Inspection, ModalityInfo, inspect

__all__ = ["Inspection", "ModalityInfo", "inspect"]
