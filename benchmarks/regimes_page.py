"""Writes docs/regimes.md, its picture and the claims table of docs/reproducing.md from regimes.csv."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from regimes_claims import claims_table
from regimes_table import ABLATIONS, Cell, cells, differences, interval, load
from sidelight.data.builtin.synthetic import REGIMES
from sidelight.report.style import COLOUR

DOCS = Path(__file__).parents[1] / "docs"
FULL = 10.0
"""Points at which a colour is full."""


def blend(points: float) -> tuple[float, float, float]:
    """Green for gains, red for losses, white at 0."""
    share = min(abs(points) / FULL, 1.0) * 0.75
    end = COLOUR["good" if points > 0 else "bad"]
    return tuple(1 + share * (int(end[i : i + 2], 16) / 255 - 1) for i in (1, 3, 5))  # type: ignore[return-value]


def draw_map(rows: Sequence[str], found: dict[tuple[str, str], Cell], lead: dict[str, float], path: Path) -> None:
    """The picture: a cell for each method and regime."""
    height = 0.215 * (len(rows) + 5.5)
    figure = Figure(figsize=(9.2, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    left = 1.95
    axes.set_xlim(0, left + len(REGIMES) * 1.02)
    axes.set_ylim(len(rows) + 3.2, -2.3)
    axes.axis("off")
    for x, regime in enumerate(REGIMES):
        name = regime.replace("-", "\n", 1)
        axes.text(left + x + 0.5, -0.45, name, ha="center", va="bottom", fontsize=8, color=COLOUR["ink"])
        axes.text(
            left + x + 0.5, 0.5, f"{lead[regime]:+.1f}", ha="center", va="center", fontsize=8, color=COLOUR["teacher"]
        )
    axes.text(left - 0.1, 0.5, "teacher", ha="right", va="center", fontsize=8, color=COLOUR["teacher"])
    for y, method in enumerate(rows):
        middle = y + 1.75
        if y and is_complete(found, rows[y - 1]) and not is_complete(found, method):
            axes.plot([0.6, left + len(REGIMES)], [middle - 0.5] * 2, color=COLOUR["muted"], lw=0.7)
        style = "italic" if method in ABLATIONS else "normal"
        axes.text(left - 0.1, middle, method, ha="right", va="center", fontsize=8, style=style, color=COLOUR["ink"])
        for x, regime in enumerate(REGIMES):
            cell = found[regime, method]
            if not cell.gain.n:
                continue
            axes.add_patch(Rectangle((left + x, middle - 0.48), 0.97, 0.96, color=blend(cell.gain.mean), lw=0))
            axes.text(left + x + 0.55, middle, f"{cell.gain.mean:+.1f}", ha="right", va="center", fontsize=8)
            axes.text(left + x + 0.62, middle, mark(cell), ha="left", va="center", fontsize=8, weight="bold")
    keys = (
        "points of accuracy over the baseline, mean over draws; · not zero by its own interval alone. Not zero after Holm over the column:",
        "● and more than the placebo    ○ but the placebo gains as much    ◐ and the placebo has not run, or the method harms",
    )
    for line, key in enumerate(keys):
        axes.text(0.6, len(rows) + 1.85 + 0.75 * line, key, va="center", fontsize=7.5, color=COLOUR["muted"])
    figure.patch.set_facecolor("#ffffff")
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sidelight", "font.family": "DejaVu Sans"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def mark(cell: Cell) -> str:
    """What the picture's key says."""
    if not cell.shown:
        return "·" if cell.alone else ""
    if not cell.helps or cell.beyond.n < 3:
        return "◐"
    return "○" if cell.explained else "●"


def is_complete(found: dict[tuple[str, str], Cell], method: str) -> bool:
    """Whether a method has run in every regime."""
    return all(found[regime, method].gain.n for regime in REGIMES)


def sort_rows(found: dict[tuple[str, str], Cell], methods: Sequence[str]) -> list[str]:
    """By the mean over regimes, best first; then the ablations, then what has not run in every regime."""
    gains = {m: [found[r, m].gain.mean for r in REGIMES if found[r, m].gain.n] for m in methods}
    known = {m: np.mean(each) for m, each in gains.items() if each}
    return sorted(known, key=lambda m: (not is_complete(found, m), m in ABLATIONS, -known[m]))


def count_runs(table: pd.DataFrame, found: dict[tuple[str, str], Cell], methods: Sequence[str]) -> list[str]:
    """What has run, and what has not."""
    draws = table["baseline"].groupby(level=0).count()
    never = [m for m in methods if not any(found[regime, m].gain.n for regime in REGIMES)]
    partly = [m for m in methods if m not in never and not is_complete(found, m)]
    without = [m for m in methods if any(found[r, m].gain.n and found[r, m].beyond.n < 3 for r in REGIMES)]
    many = str(draws.min()) if draws.min() == draws.max() else f"{draws.min()} to {draws.max()}"
    whole = len(methods) - len(never) - len(partly)
    said = f"{many} draws of each regime. {whole} of {len(methods)} rows have run in all eight."
    lists = {"In some only": partly, "Nowhere yet": never, "Without a placebo in a regime": without}
    gaps = [f"{what}: {', '.join(f'`{m}`' for m in of)}." for what, of in lists.items() if of]
    return [said, *gaps, "`mmanet` needs two available modalities, so it has no row."]


def show(cell: Cell) -> str:
    """The gain with its interval, and what is beyond the placebo."""
    gain = cell.gain
    text = f"{gain.mean:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]"
    text = f"**{text}**" if cell.shown else text
    return f"{text}; placebo {cell.beyond.mean:+.1f}" if cell.beyond.n > 2 else text


def describe_regimes(table: pd.DataFrame, found: dict[tuple[str, str], Cell], methods: Sequence[str]) -> list[str]:
    """A table with a line for each regime: the question, baseline, teacher, and what helped, with or without reason."""
    head = ["regime", "question", "baseline", "teacher"]
    head += ["shown to help, more than the placebo", "shown to help, as the placebo does", "shown to harm"]
    head += ["shown to gain more than the placebo, whatever the baseline"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for regime, conditions in REGIMES.items():
        of = {m: found[regime, m] for m in methods}
        best = sorted((m for m in of if of[m].helps), key=lambda m: -of[m].gain.mean)
        lists = [
            [f"`{m}` {of[m].gain.mean:+.1f}" for m in best if of[m].beyond.low > 0],
            [f"`{m}` {of[m].gain.mean:+.1f}" for m in best if of[m].explained],
            [f"`{m}` {of[m].gain.mean:+.1f}" for m in of if of[m].shown and of[m].gain.mean < 0],
            [f"`{m}` {of[m].beyond.mean:+.1f}" for m in sorted(of, key=lambda m: -of[m].beyond.mean) if of[m].taught],
        ]
        lead = interval(differences(table, regime, "teacher", "baseline")).mean
        shown = " | ".join(", ".join(names) or "–" for names in lists)
        base = table.loc[regime].baseline.mean()
        lines.append(f"| {regime} | {conditions.question} | {base:.1f} | {lead:+.1f} | {shown} |")
    return lines


def full_table(found: dict[tuple[str, str], Cell], rows: Sequence[str]) -> list[str]:
    lines = [f"| method | {' | '.join(REGIMES)} |", "|---" * (len(REGIMES) + 1) + "|"]
    for m in rows:
        each = [show(found[regime, m]) if found[regime, m].gain.n else "" for regime in REGIMES]
        lines.append(f"| `{m}` | {' | '.join(each)} |")
    return lines


def write_page(methods: Sequence[str]) -> None:
    table = load()
    found = cells(table, methods)
    rows = sort_rows(found, methods)
    lead = {regime: interval(differences(table, regime, "teacher", "baseline")).mean for regime in REGIMES}
    (DOCS / "images").mkdir(exist_ok=True)
    draw_map(rows, found, lead, DOCS / "images" / "regimes.svg")
    replace_part(DOCS / "regimes.md", "numbers", count_runs(table, found, methods))
    replace_part(
        DOCS / "regimes.md", "regimes", describe_regimes(table, found, [m for m in rows if m not in ABLATIONS])
    )
    replace_part(DOCS / "regimes.md", "table", full_table(found, rows))
    replace_part(DOCS / "reproducing.md", "claims", claims_table(table))


def replace_part(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace what stands between `<!-- NAME: made by … -->` and `<!-- end of NAME -->`."""
    start, end = f"<!-- {name}: made by `python benchmarks/regimes.py --page` -->", f"<!-- end of {name} -->"
    text = page.read_text()
    made = "\n".join([start, *lines, end])
    new, count = re.subn(f"{re.escape(start)}.*?{re.escape(end)}", lambda _: made, text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{page} has no part {name!r}")
    page.write_text(new)
