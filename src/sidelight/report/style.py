"""The style of the figures: they share their palette with the page, and their SVG uses its colours and fonts."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sidelight.results.budget import ALL_LABELS, BASELINE, REFERENCES, TEACHER

# name -> (light, dark). Figures are drawn in the light values, which `to_svg` replaces by the page's variables.
PALETTE = {
    "ink": ("#1c2430", "#e7eaf0"),
    "muted": ("#5d6878", "#a0abbb"),
    "line": ("#d8dde5", "#343d4b"),
    "wash": ("#eceff3", "#222935"),
    "paper": ("#fdfdfb", "#12161d"),
    "panel": ("#fffffe", "#181d26"),
    "baseline": ("#738093", "#94a2b6"),
    "student": ("#0e7c73", "#38c9b8"),
    "method": ("#4a7db0", "#7fb0e0"),
    "placebo": ("#a8478f", "#dd8fc9"),
    "self": ("#6a5fb0", "#a79df0"),
    "reference": ("#7d8b3f", "#b4c26c"),
    "teacher": ("#bd7b16", "#ecb453"),
    "good": ("#0f7d74", "#39cab9"),
    "bad": ("#b4483c", "#ee8577"),
    "same": ("#b9c1cd", "#566174"),
    "focus": ("#1f5fbf", "#8ab8ff"),
}
COLOUR = {name: light for name, (light, _) in PALETTE.items()}
HEAT = LinearSegmentedColormap.from_list("sidelight", ["#f5f2ea", "#b9d8cd", "#58a79d", "#1d6a6b", "#0a2f38"])

WIDTH = 4.6  # inches of one column: text is 12 px high at full size, 9 px on a phone
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sidelight",
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "axes.labelcolor": COLOUR["muted"],
    "axes.edgecolor": COLOUR["line"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.color": COLOUR["ink"],
    "xtick.color": COLOUR["line"],
    "ytick.color": COLOUR["line"],
    "xtick.labelcolor": COLOUR["muted"],
    "ytick.labelcolor": COLOUR["muted"],
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "grid.color": COLOUR["line"],
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": COLOUR["ink"],
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def luminance(colour: str | tuple[float, ...]) -> float:
    """The relative luminance of a colour (WCAG 2), in [0, 1]: "#rrggbb", or red, green and blue in [0, 1]."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)] if isinstance(colour, str) else list(colour[:3])
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return float(sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear)))


def text_on_heat(share: float) -> str:
    """Black or white, whichever is easier to read on `HEAT` at a share in [0, 1]; the same in light and dark."""
    behind = luminance(HEAT(share))
    return "#ffffff" if 1.05 / (behind + 0.05) > (behind + 0.05) / 0.05 else "#000000"


def role_colour(name: str, best: str | None) -> str:
    """The colour of a row of the table, the same in all figures.

    Args:
        name: the row's name, e.g. `kl~placebo`.
        best: the name of the best method.
    """
    known = {BASELINE: "baseline", TEACHER: "teacher", best: "student"}
    known |= dict.fromkeys((ALL_LABELS, *REFERENCES), "reference")
    control = name.partition("~")[2]
    return COLOUR[control if control in ("placebo", "self") else known.get(name, "method")]


@contextmanager
def new_figure(width: float = WIDTH, height: float = 3.0) -> Iterator[Figure]:
    """A figure in the report's style; matplotlib's global settings are restored after the block. Sizes in inches."""
    with matplotlib.rc_context():
        matplotlib.rcParams.update(matplotlib.rcParamsDefault)
        matplotlib.rcParams.update(SETTINGS)
        yield Figure(figsize=(width, height))


def hide_frame(axes: Axes, grid: str = "y") -> None:
    """Hide the frame; light grid lines along one axis ("x", "y" or "both"; "" for none)."""
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)
    if grid:
        axes.grid(True, axis=grid, zorder=0)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def count_epochs(axes: Axes) -> None:
    """Label the horizontal axis with epochs, at whole numbers only."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


LONGEST_NAME = 28
"""Characters of a class name in a figure; a longer one would leave no room for the figure itself."""


def to_svg(fig: Figure, name: str, description: str) -> Markup:
    """Write a figure as inline SVG.

    Args:
        fig: the figure.
        name: a name that is unique on the page; the ids in the SVG begin with a hash of it.
        description: what a screen reader reads.
    """
    prefix = f"f{zlib.crc32(name.encode()):08x}-"
    buffer = io.StringIO()
    FigureCanvasSVG(fig)
    fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(\bid=")|(url\(#)|(href="#)', lambda m: m.group(0) + prefix, text)
    for key, value in COLOUR.items():
        text = text.replace(value, f"var(--{key})")
    text = re.sub(r"(font: [^;\"]*?[\d.]+px) [^;\"]*", r"\1 var(--sans)", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", text)
    text = _shorten(text)
    head = re.match(r"<svg[^>]*>", text)
    assert head is not None
    box = re.search(r'viewBox="[^"]*"', head.group(0))
    assert box is not None
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {box.group(0)} role="img" aria-label="{escape(description)}">'
    return Markup(opening + text[head.end() :])


def short_names(names: Sequence[str]) -> list[str]:
    """Names of classes as a figure has room for them; the page's tables have them whole."""
    return [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names]


POINTS = re.compile(r'(<use [^>]*?) style="([^"]*)"/>((?:<use [^>]*? style="\2"/>)+)')
"""Points of one style, each of which names it."""


def _shorten(svg: str) -> str:
    """Write an SVG shorter, without a visible change: points share their style, and coordinates have two decimals."""
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.S).replace("xlink:href", "href")
    svg = re.sub(r">\s+<", "><", svg)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag.group()), svg)

    def share(run: re.Match[str]) -> str:
        first, style, others = run.groups()
        rest = others.replace(f' style="{style}"', "")
        return f'<g style="{style}">{first}/>{rest}</g>'

    return POINTS.sub(share, svg)
