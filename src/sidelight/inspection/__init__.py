"""`inspect`: the content of a data set, and how well each modality predicts, before anything is trained."""

from __future__ import annotations

from pathlib import Path

from sidelight.data.dataset import Dataset
from sidelight.inspection.inspection import Inspection, inspect
from sidelight.inspection.modalities import ModalityInfo

__all__ = ["Inspection", "ModalityInfo", "inspect", "write_page"]


def write_page(dataset: Dataset, found: Inspection, out: str | Path) -> Path:
    """Write what `inspect` found, with a picture of a row of each modality, as one HTML file that loads nothing.

    Args:
        dataset: the data.
        found: what `inspect` returned for them.
        out: the file.

    Returns:
        Its path.
    """
    # Only pages need matplotlib and templates.
    from sidelight.inspection.page import render_page
    from sidelight.utils.atomic import write_atomic

    write_atomic(out, render_page(dataset, found))
    return Path(out)
