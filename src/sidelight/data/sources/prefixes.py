"""Propose modalities for columns whose names share a beginning, where a table marks none by dots."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

MOST = 6
"""Beginnings that are proposed."""
EXAMPLE = "face=AU_ eda=gsr,scl"


def propose_modalities(columns: Sequence[str]) -> str:
    """Word `--modality` for the columns of a table: `bedside=bedside_ lab=lab_`, or an example of others.

    Args:
        columns: the columns without a role.
    """
    found: dict[str, list[str]] = {}
    for c in columns:
        if match := re.match(r"([A-Za-z][A-Za-z0-9]*)[_-](?=.)", c):
            found.setdefault(match[0], []).append(c)
    shared = [start for start, names in found.items() if len(names) > 1]
    # A beginning that every column has ("feature_1", "feature_2") separates nothing.
    if len(shared) < 2:
        return EXAMPLE
    return " ".join(shlex.quote(f"{start[:-1]}={start}") for start in shared[:MOST])
