"""A picture of differences and their intervals, drawn as SVG in the colours of the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from _site.evidence import Row

WIDTH, LABELS, LINE, MARGIN = 720, 250, 22, 12


def forest(rows: Sequence[Row], caption: str) -> str:
    """A line for each row: its label, the interval of its gain, and thinner below it that of its lead over the placebo.

    Args:
        rows: what is drawn, from top to bottom.
        caption: what the picture shows, for those who do not see it too.
    """
    drawn = [difference for row in rows for difference in (row.gain, row.effect) if difference]
    low, high = min(-5.0, *(d.low for d in drawn)), max(5.0, *(d.high for d in drawn))
    low, high = max(low, -30.0), min(high, 30.0)  # beyond that an interval says that nothing is known
    scale = (WIDTH - LABELS - MARGIN) / (high - low)

    def x(points: float) -> float:
        return LABELS + scale * (min(max(points, low), high) - low)

    height = LINE * (len(rows) + 2)
    parts = [
        f'<figure class="evidence"><svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" '
        f'aria-label="{escape(caption, quote=True)}">'
    ]
    for tick in (-30, -20, -10, -5, 0, 5, 10, 20, 30):
        if low <= tick <= high:
            kind, at = ("zero" if tick == 0 else "grid"), f"{x(tick):.1f}"
            parts.append(f'<line class="{kind}" x1="{at}" x2="{at}" y1="4" y2="{height - LINE - 4}"/>')
            parts.append(f'<text class="tick" x="{at}" y="{height - 8}">{tick:+d}</text>'.replace("+0<", "0<"))
    for number, row in enumerate(rows):
        y = LINE * (number + 0.8)
        name = row.question.partition(":")[0].partition(" (")[0]
        name += f" · {row.method}" if "+" in row.method or "@" in row.method else ""
        parts.append(f'<text class="name" x="{LABELS - 10}" y="{y + 4:.1f}">{escape(name)}</text>')
        for kind, difference, shift in (("gain", row.gain, 0), ("effect", row.effect, 6)):
            if difference is None:
                continue
            shown = " shown" if kind == "gain" and row.shown else ""
            parts.append(f'<line class="{kind}{shown}" x1="{x(difference.low):.1f}" x2="{x(difference.high):.1f}" '
                         f'y1="{y + shift:.1f}" y2="{y + shift:.1f}"/>')  # fmt: skip
            if kind == "gain":
                parts.append(f'<circle class="gain{shown}" cx="{x(difference.mean):.1f}" cy="{y:.1f}" r="4"/>')
    parts.append(f"</svg><figcaption>{escape(caption)}</figcaption></figure>")
    return "".join(parts)
