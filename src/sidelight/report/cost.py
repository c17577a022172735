"""What the rows of a comparison cost: training time and the size of what is deployed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from sidelight.report.stored import Stored
from sidelight.report.words import row_label
from sidelight.results import Comparison
from sidelight.results.units import number


class CostLine(NamedTuple):
    """A row of the table: its texts, and the numbers by which it is sorted.

    Args:
        name: the row's name.
        seconds: median seconds of one training.
        minutes: minutes of all its trainings together.
        size: size of one stored network in kB (1000 bytes); NaN if there is none.
        n: number of trainings.
    """

    name: str
    seconds: float
    minutes: float
    size: float
    n: int

    @property
    def texts(self) -> tuple[str, str, str]:
        """Seconds, minutes and kB as they are shown; an en dash where there is none."""
        return (
            number(self.seconds, ".1f" if self.seconds < 100 else ".0f"),
            number(self.minutes, ".1f"),
            number(self.size, ",.0f"),
        )


def build_costs(stored: Stored, c: Comparison) -> list[CostLine]:
    """List what each row of the comparison cost in training, and how large its network is."""
    lines = []
    for name in c.rows:
        frame = c.budget.rows[name]
        seconds = frame["seconds"].dropna()
        first = next(iter(stored.folders(name, c.label_fraction).values()), None)
        size = _file_size(first / "model.safetensors") if first is not None else math.nan
        lines.append(CostLine(row_label(name), float(seconds.median()), float(seconds.sum()) / 60, size, len(frame)))
    return lines


def _file_size(file: Path) -> float:
    """Size of a file in kB; NaN if there is none."""
    try:
        return file.stat().st_size / 1000
    except OSError:
        return math.nan
