"""The results page: every method on every data set at hand, with controls, and what the numbers do not say.

    python benchmarks/results.py ../shared/data --output runs/results             # resumable; hours on 2 cores
    python benchmarks/results.py ../shared/data --output runs/results --page      # writes docs/results.md from what is stored

`results.yaml` holds the settings: a suite, which runs twice. Once to its end, the five methods with the best select scores get a placebo too. Nothing here was tuned on test rows; epochs, and these five, are chosen on `select`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import sidelight as sl
from sidelight.report.suite import StoredSuite
from sidelight.results import Comparison, Interval
from sidelight.results.across import Across, summarize
from sidelight.results.budget import BASELINE, TEACHER
from sidelight.results.units import labels_phrase, metric_name, unit
from sidelight.results.verdict import span, write_sentence
from sidelight.runs.plan import read_plan, split_id
from sidelight.utils.yaml12 import read_yaml

BEST = 5
HERE = Path(__file__).parent
ABOUT = {
    "phone-watch": (
        "Activity from the phone's accelerometer; phone gyroscope and watch are privileged",
        "Windows overlap by half and the order of activities inside an execution is fixed; both stay inside a subject, and "
        "folds are disjoint in subjects. Phones were worn in the same pocket by everybody: orientation is easier than in "
        "the field.",
    ),
    "stressid-tasks": (
        "Which of seven tasks, from face video; voice and body signals are privileged",
        "The order of the tasks is the same for everybody, so that anything that drifts over a session (skin conductance, "
        "fatigue) predicts the task without being about it. Whether a task is spoken aloud is nearly the audio channel "
        "itself. Features are standardised inside each subject, which needs that subject's unlabelled recordings.",
    ),
    "stressid-stress": (
        "Mean reported stress of the task (CCC), from face video; voice and body signals are privileged",
        "The target is one number per task (seven values), so it is the tasks again, ordered by stress: what confounds the "
        "task confounds this.",
    ),
    "mfeat": (
        "Handwritten digits from Fourier coefficients; pixels are privileged; few labels",
        "Both are computed from the same image. 6 and 9 are the same to the available modality (rotation-invariant), so "
        "part of the gap cannot be closed by anything. Rows have no groups: folds are random.",
    ),
    "air-quality": (
        "Carbon monoxide (CCC) from one cheap sensor; four others and reference analysers are privileged",
        "Contiguous blocks of time are the groups: sensors drift, so a block is predicted from others of another season. "
        "Only five folds exist, so one seed and five pairs, and at most 20 epochs in batches of 256 because of the number "
        "of its rows. Missing hours of the reference analysers are filled with the train rows' mean. One of the privileged "
        "reference gases is strongly correlated with the target itself.",
    ),
    "potholes": (
        "Potholes in the road, pixel by pixel (mIoU), from colours; disparity is privileged",
        "67 frames of three sites; neighbouring frames show the same hole, so rows are split by site alone: one site "
        "trains, one chooses epochs, one tests, and there are but three folds, with one seed. Every second pixel of either side is kept "
        "(96 × 160).",
    ),
}
"""Set -> its question, and what could confound it."""


def build_suite(root: Path, output: Path) -> dict[str, Any]:
    """results.yaml with the paths of the data sets in the folder `root`."""
    tree = dict(read_yaml(HERE / "results.yaml"))
    for settings in tree["sets"].values():
        settings["data"] = str(root / settings["data"])
    tree["sets"]["potholes"]["data"] = str(thin_potholes(root, output))
    return tree


def thin_potholes(root: Path, output: Path) -> Path:
    """Every second pixel of either side."""
    out = output.parent / f"{output.name}-data" / "potholes.npz"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        with np.load(root / "potholes" / "data.npz") as file:
            rows = {name: file[name][:, ::2, ::2] for name in ("rgb", "disparity", "y")}
            np.savez_compressed(out, **rows, group=file["group"])
    return out


def best_on_select(sets: Mapping[str, Comparison]) -> list[str]:
    """The methods with the best average rank of their select score, each over the sets on which it has a meaning."""
    table = pd.DataFrame({name: {m: c.rows[m].select for m in c.budget.methods} for name, c in sets.items()})
    return [str(m) for m in table.rank(ascending=False, pct=True).mean(axis=1).sort_values().index[:BEST]]


def run(root: Path, output: Path, jobs: int, quiet: bool) -> None:
    """Both passes; what is stored is not run again."""
    tree = build_suite(root, output)
    settings = {"output": str(output), "overrides": [f"jobs={jobs}"], "resume": True, "quiet": quiet}
    first = sl.run_suite(tree, **settings)
    placebo = list(dict.fromkeys([*tree["placebo"], *best_on_select(first.stored.compared)]))
    last = sl.run_suite({**tree, "placebo": placebo}, **settings)
    print("\n".join([summarize(last.across()), *(f"{n}: {e}" for n, e in last.failures.items()), str(last.report())]))


def page(output: Path) -> str:
    """The results page in Markdown, from what is stored."""
    stored = StoredSuite.load(output)
    a = stored.across
    notes = (HERE / "results-notes.md").read_text("utf-8").replace("](../docs/", "](")
    parts = [HEAD, overview(stored), notes, across(a)]
    for name in stored.sets:
        title, confounds = ABOUT[name]
        if name not in a.sets:
            parts.append(f"## {name}\n\n{title}. {stored.failures.get(name, NOT_YET)}\n")
            continue
        c = a.sets[name]
        pairs = len(c.budget.rows[BASELINE])
        without = ", ".join(f"`{m}`" for m in stored.left_out.get(name, {}))
        parts.append(
            f"## {name}\n\n{title}; {labels_phrase(c.label_fraction)}. {pairs} pairs of fold and seed."
            f"{f' Without {without}, which it cannot have.' if without else ''}{say_missing(stored, name)}\n\n*What could confound it.* "
            f"{confounds}\n\n{write_sentence(c)}\n\n{table(c)}\n"
        )
    return "\n".join(parts)


NOT_YET = "Not run yet."


def say_missing(stored: StoredSuite, name: str) -> str:
    """The rows of a set's plan that have not run."""
    rows = stored.compared[name].rows
    missing = dict.fromkeys(split_id(job)[0] for job in read_plan(stored.folder / name))
    left = ", ".join(f"`{row}`" for row in missing if row not in rows)
    return f" Not run yet: {left}." if left else ""


def overview(stored: StoredSuite) -> str:
    """One line per set: what the method that the other pairs choose gains, and whether the privileged sensors are why."""
    lines = [
        "## Overview",
        "",
        "The method that is chosen, without test rows, and what choosing it gains: in each pair of fold and seed the "
        "method is tested that the other seeds choose (with one seed: the other folds), so that luck in this pair has "
        "no say.",
        "",
        "| set | labels | metric | baseline | linear | chosen | choosing it gains | more than its placebo | teacher |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, c in stored.compared.items():
        u = unit(c.metric)
        means = {m: u.score(c.rows[m].mean) if m in c.rows else "" for m in (BASELINE, "linear", TEACHER)}
        best = c.rows[c.best or BASELINE]
        gain = best.difference if c.winner is None else c.winner.difference
        labels = "all" if c.label_fraction >= 1 else f"{c.label_fraction:.0%}"
        lines.append(
            f"| {name} | {labels} | {metric_name(c.metric)} | {means[BASELINE]} | {means['linear']} | {c.best} "
            f"{u.score(best.mean)} | {written(gain, c)} | {written(best.effect, c)} | {means[TEACHER]} |"
        )
    return "\n".join(lines) + "\n"


def across(a: Across) -> str:
    """What to expect of each method on a next data set."""
    own = [line for line in a.lines if line.against == BASELINE and line.posterior is not None]
    own.sort(key=lambda line: -line.posterior.p.better)  # type: ignore[union-attr]
    lines = [
        f"| method (sets) | method − baseline there [{100 * a.level:g} %] | on average | P(better) / P(equal) / P(worse) |",
        "|---|---|---|---|",
    ]
    for line in own:
        assert line.posterior is not None
        p, ahead, average = line.posterior.p, line.posterior.next, line.posterior.average
        lines.append(
            f"| {line.method} ({len(line.sets)}) | {a.unit.difference(ahead.mean)} [{span(a.unit, ahead)}] | "
            f"{a.unit.difference(average.mean)} | {p.better:.2f} / {p.equal:.2f} / {p.worse:.2f} |"
        )
    ranks = ", ".join(f"`{name}` {rank:.1f}" for name, rank in a.ranks.items())
    of_ranks = f"\nAverage ranks, a picture only ({len(a.sets)} sets are few): {ranks}.\n" if ranks else ""
    return "\n".join(["## On a next data set", "", summarize(a), "", *a.notes, "", *lines]) + "\n" + of_ranks


def table(c: Comparison) -> str:
    """The table of one set in Markdown."""
    u = unit(c.metric)
    head = f"{metric_name(c.metric)}{', %' if u.factor == 100 else ''}"
    lines = [
        f"| | {head} | − baseline [{100 * c.level:g} %] | P(better) / P(equal) / P(worse) | − its placebo |",
        "|---|---|---|---|---|",
    ]
    for name, row in c.rows.items():
        shown = written(row.difference, c) if name != BASELINE else ""
        shown = f"**{shown}**" if row.bold else shown
        p = f"{row.p.better:.2f} / {row.p.equal:.2f} / {row.p.worse:.2f}" if row.p.equal == row.p.equal else ""
        lines.append(f"| {name} | {u.score(row.mean)} ± {u.score(row.sd)} | {shown} | {p} | {written(row.effect, c)} |")
    return "\n".join(lines)


def written(interval: Interval, c: Comparison) -> str:
    """`+12.6 [+8.0 to +17.2]`; empty if undefined."""
    u = unit(c.metric)
    if not interval.n or interval.mean != interval.mean:
        return ""
    return f"{u.difference(interval.mean)} [{span(u, interval)}]"


HEAD = """# Results

Written by `python benchmarks/results.py DATA --output runs/results --page` from the stored runs of
`python benchmarks/results.py DATA --output runs/results`, which runs the suite `benchmarks/results.yaml`. Settings are the
library's defaults but for what the file names; epochs are chosen on `select`, and test rows are read once. The defaults of
learning rate, dropout, epochs and patience were chosen on the `select` rows of five phone-watch folds; across folds these
people are tested on too, so phone-watch may flatter all its rows alike. On the other sets nothing was chosen.

How to read a row: mean ± standard deviation over folds × seeds; the paired difference to the baseline with its corrected
95 % interval; the posterior probabilities of better, practically equal (within one point, or 0.01) and worse; and the
**more than its placebo**: method minus its *placebo*, the same recipe taught by a teacher whose privileged rows were permuted.
Bold: better than the baseline after Holm's adjustment for the number of methods ([reading a report](reading-a-report.md),
[suites](suite.md)).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with one folder per data set (see the data sets' README)")
    parser.add_argument("--output", type=Path, default=Path("runs/results"))
    parser.add_argument("--page", action="store_true", help="only write docs/results.md from what is stored")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    if args.page:
        out = HERE.parent / "docs" / "results.md"
        out.write_text(page(args.output), "utf-8")
        print(out)
        return
    run(args.data, args.output, args.jobs, args.quiet)


if __name__ == "__main__":
    main()
