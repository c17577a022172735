"""What our results say of a method: the tables of docs/results.md, and the data of the regime map."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sidelight.data.builtin.synthetic import REGIMES

ROOT = Path(__file__).parents[2]
HEADING = re.compile(r"^#{2,3} (.+)$")
FIGURE = re.compile(r"^\**([+−-][\d.]+) \[([+−-][\d.]+)(?:,| to) ([+−-][\d.]+)\]\**$")


@dataclass(frozen=True)
class Difference:
    """A paired difference and its 95 % interval.

    Attributes:
        mean, low, high: in points, hundredths of the metric.
        written: as a table shows it, in the units of its metric.
    """

    mean: float
    low: float
    high: float
    written: str

    @classmethod
    def parse(cls, cell: str, points: float) -> Difference | None:
        """Read `+12.6 [+8.0 to +17.2]`, where 1 is so many points; None for a cell that holds no difference."""
        found = FIGURE.match(cell)
        return cls(*(points * float(x.replace("−", "-")) for x in found.groups()), cell.strip("*")) if found else None


@dataclass(frozen=True)
class Row:
    """What one question says of a method.

    Attributes:
        question: the data and what was asked of them.
        method: the name of the method, or of a sum that contains it.
        score: mean and standard deviation, as the table writes them; "" where it has none.
        gain: the difference to the baseline.
        effect: the difference to its placebo; None if that was not run.
        shown: whether the gain is more than 0 after Holm's adjustment.
    """

    question: str
    method: str
    score: str
    gain: Difference
    effect: Difference | None
    shown: bool


def read_results(page: Path) -> list[Row]:
    """Every difference to the baseline in the tables of the results page."""
    rows: list[Row] = []
    heading, metric = "", ""
    for line in page.read_text("utf-8").splitlines():
        if found := HEADING.match(line):
            heading, metric = found[1], ""
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if len(cells) != 5 or set(line) <= set("|- "):
            continue
        if cells[2].startswith("− baseline"):
            metric = cells[1]
            continue
        points = 1 if "×100" in metric or "%" in metric else 100
        if metric and (gain := Difference.parse(cells[2], points)):
            question = f"{heading} ({metric})"
            effect = Difference.parse(cells[4], points)
            rows.append(Row(question, cells[0], cells[1], gain, effect, cells[2][:2] == "**" and gain.mean > 0))
    return rows


def read_regimes(methods: Sequence[str]) -> list[Row]:
    """What the regime map says of each method, by the rules of its page."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import regimes_table
    finally:
        sys.path.pop(0)
    table = regimes_table.load()
    cells = regimes_table.cells(table, [m for m in methods if m in table])
    rows = []
    for (regime, method), cell in cells.items():
        if gain := _difference(cell.gain):
            question = f"{regime}: {REGIMES[regime].question}"
            rows.append(Row(question, method, "", gain, _difference(cell.beyond), cell.helps))
    return rows


def _difference(interval: object) -> Difference | None:
    mean, low, high = (getattr(interval, name) for name in ("mean", "low", "high"))
    if mean != mean or low != low:  # no pair, or a single one
        return None
    return Difference(mean, low, high, f"{_signed(mean)} [{_signed(low)} to {_signed(high)}]")


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−")


def concerning(name: str, rows: Sequence[Row]) -> list[Row]:
    """The rows of a method, those of sums that contain it included, and no placebos."""
    return [row for row in rows if "~" not in row.method and name in re.split(r"[+@]", row.method)]
