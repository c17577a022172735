"""What a data set holds and how much each modality knows, before anything is trained."""

from __future__ import annotations

from sidelight.inspection.inspection import Inspection, ModalityInfo, inspect

__all__ = ["Inspection", "ModalityInfo", "inspect"]
