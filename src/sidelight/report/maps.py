"""Figures of a segmentation: class maps of a few test rows, and an overlay of who is right where."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from sidelight.report.stored import Stored
from sidelight.report.style import COLOUR, new_figure, to_svg
from sidelight.results import Comparison
from sidelight.results.budget import BASELINE, TEACHER

MANY_CLASSES = 14
RIGHT = {
    "both right": "#dfe4ea",
    "only the student right": COLOUR["good"],
    "only the baseline right": COLOUR["bad"],
    "both wrong": "#8d97a5",
    "border between true classes": COLOUR["ink"],
}
"""Codes of an overlay, in order, with their colours, which are the same in light and dark."""


def build_maps(stored: Stored, c: Comparison) -> Markup | None:
    """Plot test rows of the first fold and seed: target, baseline, best student, teacher, and who is right where."""
    if stored.task != "segmentation":
        return None
    shown = [name for name in (BASELINE, c.best, TEACHER) if name is not None and name in c.rows]
    for pair in stored.folders(shown[0], c.label_fraction) if shown else ():
        found = {}
        for name in shown:
            maps = stored.examples(name, c.label_fraction, pair)
            if maps:
                found[name] = maps
        if found:
            truth = next(iter(found.values()))["target"]
            panels = [("truth", truth), *((name, maps["prediction"]) for name, maps in found.items())]
            both = [found[name]["prediction"] for name in (BASELINE, c.best) if name in found]
            compared = overlay(truth, *both) if len(both) == 2 and both[0].shape == both[1].shape else None
            return plot_maps(panels, compared, stored.class_names, c.label_fraction)
    return None


def overlay(truth: NDArray, baseline: NDArray, student: NDArray) -> NDArray:
    """(n, H, W) who is right in each pixel, as positions in `RIGHT`, over the borders of the true classes.

    Args:
        truth: (n, H, W) true classes; −1 where there is none, which stays −1.
        baseline, student: (n, H, W) their predictions.
    """
    right, ours = baseline == truth, student == truth
    codes = np.select([right & ours, ours, right], [0, 1, 2], 3)
    border = np.zeros(truth.shape, bool)
    border[:, 1:] |= truth[:, 1:] != truth[:, :-1]
    border[:, :, 1:] |= truth[:, :, 1:] != truth[:, :, :-1]
    return np.where(truth < 0, -1, np.where(border, 4, codes))


def plot_maps(
    panels: list[tuple[str, NDArray]], compared: NDArray | None, names: list[str], label_fraction: float
) -> Markup:
    """Plot class maps of the same test rows, one line per row and one column per panel, with keys of the colours.

    Args:
        panels: pairs of a title and (n, H, W) class codes; −1 (ignored) stays white.
        compared: (n, H, W) what `overlay` returns, the last column; None: there is none.
        names: class names.
        label_fraction: keeps the figures of several label fractions apart.
    """
    import matplotlib as mpl

    rows, columns = len(panels[0][1]), len(panels) + (compared is not None)
    height, width = panels[0][1].shape[1:]
    palette = mpl.colormaps["tab20" if len(names) > 10 else "tab10"]
    colours = mpl.colors.ListedColormap([palette(c % palette.N) for c in range(len(names))])
    of_right = mpl.colors.ListedColormap([*RIGHT.values()])
    columns_of_maps = [(title, shown, colours) for title, shown in panels]
    if compared is not None:
        columns_of_maps.append(("who is right", compared, of_right))
    with new_figure(2.2 * columns, rows * 2.2 * height / width + 1.0) as fig:
        axes = fig.subplots(rows, columns, squeeze=False)
        for j, (title, shown, cmap) in enumerate(columns_of_maps):
            axes[0][j].set_title(title)
            for i in range(rows):
                hidden = np.ma.masked_less(shown[i], 0)
                axes[i][j].imshow(hidden, cmap=cmap, vmin=-0.5, vmax=cmap.N - 0.5, interpolation="nearest")
                axes[i][j].set_axis_off()
        key = [mpl.patches.Patch(color=colours(c), label=name) for c, name in enumerate(names)]
        right = [mpl.patches.Patch(color=colour, label=name) for name, colour in RIGHT.items()]
        handles = (key if len(names) <= MANY_CLASSES else []) + (right if compared is not None else [])
        if handles:
            fig.legend(handles=handles, loc="outside lower center", ncols=5)
        titles = ", ".join(title for title, _, _ in columns_of_maps)
        return to_svg(fig, f"maps-{label_fraction:g}", f"Class maps of {rows} test rows: {titles}")
