"""The README's picture: one label budget of a finished run, as dots per fold and seed with the mean.

python benchmarks/picture.py runs/phone-watch docs/images/phone-watch.svg --labels 0.2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from sidelight.experiment import Study
from sidelight.report.style import COLOUR, SETTINGS, role_colour
from sidelight.results import get_budget

NAMES = {
    "majority": "the most common answer",
    "linear": "a linear model: phone alone",
    "baseline": "baseline: phone alone",
    "teacher": "teacher: phone and watch",
    "all labels": "phone alone, all labels",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--labels", type=float, default=0.2)
    args = parser.parse_args()
    found = get_budget(Study(args.run).results, args.labels)
    names = [n for n in found.order if n != "teacher~placebo"]
    plt.rcParams.update(SETTINGS)
    fig, axes = plt.subplots(figsize=(7.2, 0.36 * len(names) + 0.8))
    rng = np.random.default_rng(0)
    for y, name in enumerate(reversed(names)):
        values = 100 * found.rows[name][found.metric].to_numpy()
        colour = role_colour(name, found.best)
        axes.plot(values, y + rng.uniform(-0.18, 0.18, len(values)), ".", color=colour, alpha=0.35, markersize=6, mew=0)
        axes.plot(values.mean(), y, "D", color=colour, markersize=6)
        axes.text(
            101, y, f"{values.mean():.1f}", va="center", color=colour, fontweight="bold" if name == found.best else None
        )
    labels = [NAMES.get(n, f"student: {n}" if "~" not in n else f"{n.replace('~', ', ')}") for n in reversed(names)]
    axes.set_yticks(range(len(names)), labels)
    axes.set_xlabel("accuracy on people never seen, % (a dot per fold and seed; diamond: mean)")
    axes.set_xlim(40, 100)
    axes.grid(axis="x", color=COLOUR["line"], linewidth=0.7)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    fig.patch.set_facecolor("#ffffff")
    axes.set_facecolor("#ffffff")
    plt.rcParams["svg.fonttype"] = "path"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(args.out, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
