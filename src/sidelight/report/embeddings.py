"""Figure of embeddings: where baseline, student and teacher put the same rows, in two dimensions.

Jobs store the cosine similarities of a probe batch, which are the inner products of its normalised embeddings. Their
principal components therefore follow from what is stored (classical scaling), without the embeddings themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from sidelight.report.stored import Similarity, Stored
from sidelight.report.style import COLOUR, HEAT, new_figure, to_svg
from sidelight.report.words import row_label
from sidelight.results import Comparison
from sidelight.results.budget import BASELINE, TEACHER
from sidelight.results.chance import Pair

MARKS = "osD^vP*Xh<>p"
"""Marks of classes, which tell them apart without colours."""


class Projection(NamedTuple):
    """(n, 2) principal components of embeddings, and the share of their variance that the two keep."""

    points: NDArray
    share: float


def project(similarities: NDArray) -> Projection | None:
    """Project rows on the two principal components of their normalised embeddings.

    K = X Xᵀ is centred in rows and columns; its eigenvectors times the roots of its eigenvalues are the components.

    Args:
        similarities: (n, n) cosine similarities K.

    Returns:
        The components; None if the similarities are not finite or all rows are alike.
    """
    k = np.asarray(similarities, dtype=np.float64)
    if len(k) < 3 or not np.isfinite(k).all():
        return None
    k = (k + k.T) / 2
    k = k - k.mean(axis=0) - k.mean(axis=1, keepdims=True) + k.mean()
    values, vectors = np.linalg.eigh(k)
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    if values.sum() <= 1e-9:
        return None
    return Projection(vectors[:, :2] * np.sqrt(values[:2]), float(values[:2].sum() / values.sum()))


def turn(points: NDArray, onto: NDArray) -> NDArray:
    """Rotate and mirror points so that they lie as near as possible to others of the same rows (Procrustes).

    Args:
        points: (n, 2) points.
        onto: (n, 2) points of the same rows.
    """
    u, _, v = np.linalg.svd(points.T @ onto)
    return np.asarray(points @ (u @ v))


def build_embeddings(
    stored: Stored, c: Comparison, pair: Pair, teacher: Similarity, classes: list[str], by: str
) -> Markup | None:
    """Plot the probe batch of one fold and seed as baseline, best student and teacher embed it.

    Args:
        stored: the run.
        c: the comparison.
        pair: fold and seed.
        teacher: the teacher's similarities.
        classes: names of the classes; [] for values.
        by: what the rows are ordered by.

    Returns:
        The figure; None unless the teacher and one more can be shown.
    """
    found: dict[str, Projection] = {}
    for name in (BASELINE, f"{c.best}~placebo", str(c.best)):
        folder = stored.folders(name, c.label_fraction).get(pair)
        own = stored.similarity(folder) if folder is not None else None
        if own is not None and np.array_equal(own.group, teacher.group, equal_nan=True):
            projected = project(own.last)
            found |= {name: projected} if projected is not None else {}
    last = project(teacher.last)
    if last is None or not found:
        return None
    return plot_embeddings({**found, TEACHER: last}, teacher.group, classes, by, c.label_fraction)


def plot_embeddings(
    found: Mapping[str, Projection], group: NDArray, classes: list[str], by: str, label_fraction: float
) -> Markup:
    """Plot the projections side by side, one panel each, all turned onto the last one.

    Args:
        found: row of the table -> its projection.
        group: (n,) classes or target values of the rows.
        classes: names of the classes; [] for values.
        by: what `group` is, for the key.
        label_fraction: keeps the figures of several label fractions apart.
    """
    import matplotlib as mpl

    marks: dict[str, Any] = {}
    last = [*found.values()][-1].points
    with new_figure(3.1 * len(found), 3.45) as fig:
        panels = fig.subplots(1, len(found), squeeze=False)[0]
        for axes, (name, (points, share)) in zip(panels, found.items()):
            x, y = turn(points, last).T
            if classes:
                palette = mpl.colormaps["tab20" if len(classes) > 10 else "tab10"]
                for code in np.unique(group):
                    own, label = group == code, classes[code] if 0 <= code < len(classes) else "?"
                    colour, mark = palette(code % palette.N), MARKS[code % len(MARKS)]
                    marks[label] = axes.scatter(x[own], y[own], s=20, color=colour, marker=mark, linewidths=0)
            else:
                image = axes.scatter(x, y, s=20, c=group, cmap=HEAT, edgecolors=COLOUR["line"], linewidths=0.4)
            axes.set_title(row_label(name))
            axes.set_xlabel(f"{100 * share:.0f} % of the variance")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_aspect("equal", adjustable="datalim")
            for side in axes.spines.values():
                side.set_color(COLOUR["line"])
        if classes and len(classes) <= len(MARKS):
            fig.legend([*marks.values()], [*marks], loc="outside lower center", ncols=min(len(marks), 6))
        elif not classes:
            bar = fig.colorbar(image, ax=[*panels], shrink=0.8, pad=0.01, label=by)
            bar.outline.set_visible(False)  # type: ignore[operator]
        names = ", ".join(row_label(name) for name in found)
        return to_svg(fig, f"embeddings-{label_fraction:g}", f"The same rows as {names} embed them, marked by {by}")
