"""The results page: every method on every data set at hand, with controls, and what the numbers do not say.

    python benchmarks/results.py ../shared/data --output runs/results             # resumable; hours on 2 cores
    python benchmarks/results.py ../shared/data --output runs/results --only mfeat
    python benchmarks/results.py ../shared/data --output runs/some --only mfeat --methods mers mmd --placebo   # of these alone
    python benchmarks/results.py ../shared/data --output runs/results --placebo   # then: placebos of the best five
    python benchmarks/results.py ../shared/data --output runs/results --page      # writes docs/results.md from what is stored

Nothing here was tuned on test rows; epochs, and the five methods that get a placebo, are chosen on `select`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

import sidelight as sl
from ranks import average_ranks, critical_difference, diagram, friedman
from sidelight.experiment import Study
from sidelight.methods import METHODS
from sidelight.results import LEVEL, Interval, compare
from sidelight.tasks import TASKS

BEST = 5
IMAGES = Path(__file__).parents[1] / "docs" / "images"


def methods_of(setting: Setting) -> list[str]:
    """Every method that has a meaning for the task, and the sum of pkdot with the matching of predictions."""
    task = TASKS[setting.settings.get("task", "classification")]
    names = [name for name, method in METHODS.items() if method.supports_task(task)]
    return [*names, "pkdot+kl" if "kl" in names else "pkdot+mse"]


@dataclass(frozen=True)
class Setting:
    """One question to one data set."""

    name: str
    title: str
    arrays: dict[str, str]
    target: str
    available: list[str]
    privileged: list[str]
    budgets: list[float]
    confounds: str
    group: str | None = "group"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The folder below the data folder."""
        return self.settings.get("source", self.name)

    def data(self, root: Path) -> sl.Dataset:
        import numpy as np

        thin = self.settings.get("thin", 1)  # of images, every so manieth pixel
        with np.load(root / self.source / "data.npz") as file:
            columns = {name: file[key] for name, key in self.arrays.items()}
            columns = {m: x[:, ::thin, ::thin] if thin > 1 else x.astype("float32") for m, x in columns.items()}
            columns["target"] = file[self.target][:, ::thin, ::thin] if thin > 1 else file[self.target]
            if self.group:
                columns["group"] = file[self.group]
            if self.target == "y" and "class_names" in file:
                columns["class_names"] = file["class_names"]
        task = self.settings.get("task", "classification")
        return sl.load(
            columns,
            target="target",
            group="group" if self.group else None,
            task=task,
            name=self.name,
            impute=self.settings.get("impute", "no"),
        )

    def run(
        self, root: Path, output: Path, seeds: int, quiet: bool, placebo: list[str], methods: list[str] | None = None
    ) -> Study:
        own = {k: v for k, v in self.settings.items() if k not in ("source", "thin")}
        methods = methods or methods_of(self)
        return sl.compare(
            self.data(root),
            self.available,
            self.privileged,
            methods,
            output=str(output / self.name),
            seeds=own.pop("seeds", seeds),
            label_fraction=self.budgets,
            placebo=[m for m in placebo if m in methods] or ["none"],
            resume=True,
            quiet=quiet,
            **own,
        )


STRESSID = {m: f"{m}_z" for m in ("video", "audio", "eda", "ecg", "resp")}
SETTINGS = [
    Setting(
        "phone-watch",
        "Activity from the phone's accelerometer; phone gyroscope and watch are privileged",
        {m: m for m in ("phone_acc", "phone_gyro", "watch_acc", "watch_gyro")},
        "y",
        ["phone_acc"],
        ["phone_gyro", "watch_acc", "watch_gyro"],
        [0.2],
        "Windows overlap by half and the order of activities inside an execution is fixed; both stay inside a subject, and "
        "folds are disjoint in subjects. Phones were worn in the same pocket by everybody: orientation is easier than in "
        "the field.",
        group="subject",
    ),
    Setting(
        "stressid-tasks",
        "Which of seven tasks, from face video; voice and body signals are privileged",
        STRESSID,
        "y",
        ["video"],
        ["audio", "eda", "ecg", "resp"],
        [1.0],
        "The order of the tasks is the same for everybody, so that anything that drifts over a session (skin conductance, "
        "fatigue) predicts the task without being about it. Whether a task is spoken aloud is nearly the audio channel "
        "itself. Features are standardised inside each subject, which needs that subject's unlabelled recordings.",
        settings={"source": "stressid"},
    ),
    Setting(
        "stressid-stress",
        "Mean reported stress of the task (CCC), from face video; voice and body signals are privileged",
        STRESSID,
        "y_stress_norm",
        ["video"],
        ["audio", "eda", "ecg", "resp"],
        [1.0],
        "The target is one number per task (seven values), so it is the tasks again, ordered by stress: what confounds the "
        "task confounds this.",
        settings={"source": "stressid", "task": "regression"},
    ),
    Setting(
        "mfeat",
        "Handwritten digits from Fourier coefficients; pixels are privileged; 60 labelled and 940 unlabelled train rows",
        {"fou": "fou", "pix": "pix"},
        "y",
        ["fou"],
        ["pix"],
        [0.06],
        "Both are computed from the same image. 6 and 9 are the same to the available modality (rotation-invariant), so "
        "part of the gap cannot be closed by anything. Rows have no groups: folds are random.",
        group=None,
        settings={"protocol": "random", "select": 0.375},
    ),
    Setting(
        "air-quality",
        "Carbon monoxide (CCC) from one cheap sensor; four others and reference analysers are privileged",
        {"mox_nox": "mox_nox", "mox_other": "mox_other", "ref": "ref"},
        "y",
        ["mox_nox"],
        ["mox_other", "ref"],
        [1.0],
        "Contiguous blocks of time are the groups: sensors drift, so a block is predicted from others of another season. Only "
        "five folds exist, so one seed and five pairs. Missing hours of the reference analysers are filled with the train rows' mean. Batches of 512, because this set has ten times the rows of the others. One of the privileged reference gases is "
        "strongly correlated with the target itself.",
        settings={
            "task": "regression",
            "protocol": "leave-one-group-out",
            "training": {"batch_size": 512},
            "impute": "mean",
            "seeds": 1,
        },
    ),
    Setting(
        "potholes",
        "Potholes in the road, pixel by pixel (mIoU), from colours; disparity is privileged",
        {"rgb": "rgb", "disparity": "disparity"},
        "y",
        ["rgb"],
        ["disparity"],
        [1.0],
        "67 frames of three sites; neighbouring frames show the same hole, so rows are split by site alone: one site trains, one "
        "chooses epochs, one tests, and there are but three folds. Every second pixel of either side is kept (96 × 160).",
        settings={
            "task": "segmentation",
            "protocol": "leave-one-group-out",
            "thin": 2,
            "seeds": 1,
            "network": {"width": 32},
            "training": {"batch_size": 8, "epochs": 30},
        },
    ),
]


def page(root: Path, output: Path) -> str:
    """The results page in Markdown, from what is stored."""
    done = [(s, Study(output / s.name)) for s in SETTINGS if (output / s.name / "results.csv").exists()]
    parts = [HEAD, overview(done), ranking(done)]
    for setting in SETTINGS:
        folder = output / setting.name
        if not (folder / "results.csv").exists():
            parts.append(f"## {setting.name}\n\nNot run yet.\n")
            continue
        study = Study(folder)
        seeds, folds = study.results["seed"].nunique(), study.results["fold"].nunique()
        parts.append(
            f"## {setting.name}\n\n{setting.title}. Available: {', '.join(setting.available)}; privileged: "
            f"{', '.join(setting.privileged)}. {folds} folds × {seeds} seeds.\n\n*What could confound it.* "
            f"{setting.confounds}\n"
        )
        for labels in study.budgets:
            parts.append(
                f"### {setting.name}, {_budget(labels)}\n\n{study.sentence(labels)}\n\n{rows(study, labels)}\n"
            )
    return "\n".join([*parts, EARLIER])


def overview(done: list[tuple[Setting, Study]]) -> str:
    """One line per set and budget: the method that is best on `select`, and whether the privileged sensors are why."""
    lines = [
        "## Overview",
        "",
        "The method with the highest mean score on `select` rows (never on test); metric ×100.",
        "",
        "| set | labels | baseline | best on select | its difference | privileged effect | teacher |",
        "|---|---|---|---|---|---|---|",
    ]
    for setting, study in done:
        for labels in study.budgets:
            c = compare(study.results, labels)
            best = c.rows[c.best or "baseline"]
            share = _budget(labels).removeprefix("labels of ")
            means = [f"{100 * c.rows[name].mean:.1f}" for name in ("baseline", "teacher")]
            lines.append(
                f"| {setting.name} | {share} | {means[0]} | {c.best} {100 * best.mean:.1f} | {_points(best.difference)} | "
                f"{_points(best.effect)} | {means[1]} |"
            )
    return "\n".join(lines) + "\n" + LESSONS


def means(done: list[tuple[Setting, Study]], part: str) -> pd.DataFrame:
    """One row per set and budget, one column per method (and the baseline): the mean `select` score or test metric."""
    lines = {}
    for setting, study in done:
        for labels in study.budgets:
            r = study.results
            r = r[(r.labels == labels) & r.control.fillna("").eq("") & (r.method != "teacher")]
            column = "select" if part == "select" else compare(study.results, labels).metric
            lines[f"{setting.name} {_budget(labels)}"] = r.groupby("method")[column].mean()
    table = pd.DataFrame(lines).T.rename(columns={"pkdot+mse": "pkdot + kl or mse", "pkdot+kl": "pkdot + kl or mse"})
    return table.T.groupby(level=0).max().T


def best_on_select(done: list[tuple[Setting, Study]]) -> list[str]:
    """The methods with the best average rank of their `select` score, each over the sets on which it has a meaning."""
    table = means(done, "select").drop(columns="baseline")
    ranks = table.rank(axis=1, ascending=False, pct=True).mean().sort_values()
    names = [["pkdot+kl", "pkdot+mse"] if name.startswith("pkdot + ") else [name] for name in ranks.index[:BEST]]
    return [name for several in names for name in several]


def ranking(done: list[tuple[Setting, Study]]) -> str:
    """Average ranks of the methods that have a meaning on every set, with the critical-difference diagram."""
    table = means(done, "test").dropna(axis=1)
    ranks = average_ranks(table)
    difference = critical_difference(len(ranks), len(table))
    diagram(ranks, difference, IMAGES / "ranks.svg")
    classes = means([d for d in done if d[0].settings.get("task", "classification") == "classification"], "test")
    of_classes = ", ".join(f"`{name}` {rank:.1f}" for name, rank in average_ranks(classes.dropna(axis=1)).items())
    return (
        f"## Average rank\n\nOf the {len(ranks)} entries that have a meaning on every set (the baseline is one of them), over "
        f"{len(table)} questions to {len({s.source for s, _ in done})} data sets; rank 1 is the best mean test metric. "
        f"Friedman's test: p = {friedman(table):.3f}. Entries joined by a bar are not told apart (Nemenyi, 5 %, critical "
        f"difference {difference:.1f}). Two questions to one data set are not independent, which the test takes them to "
        f"be.\n\n![average ranks](images/ranks.svg)\n\nOn the {len(classes)} questions of classes alone, with the methods that "
        f"need classes: {of_classes}.\n"
    )


def _points(interval: Interval) -> str:
    if interval.n == 0:
        return ""
    shown = f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
    return f"**{shown}**" if interval.low > 0 or interval.high < 0 else shown


def rows(study: Study, labels: float) -> str:
    """The table of one label budget in Markdown."""
    comparison = compare(study.results, labels)
    scale = 100
    lines = [
        f"| | {comparison.metric} ×100 | − baseline [{LEVEL:.0%}] | P(better) / P(equal) / P(worse) | − its placebo |",
        "|---|---|---|---|---|",
    ]
    for name, row in comparison.rows.items():
        difference = "" if name == "baseline" else _points(row.difference)
        p = "" if name == "baseline" else f"{row.p.better:.2f} / {row.p.equal:.2f} / {row.p.worse:.2f}"
        effect = _points(row.effect)
        lines.append(f"| {name} | {row.mean * scale:.1f} ± {row.sd * scale:.1f} | {difference} | {p} | {effect} |")
    return "\n".join(lines)


def _budget(labels: float) -> str:
    return "all labels" if labels == 1 else f"labels of {labels:.0%}"


LESSONS = """
**What to take from it** (figures of the stored runs; a difference is *shown* where its interval excludes zero).

- **Few labels and recordings without them is where it pays**, and there the *per-row outputs* pay most. phone-watch with labels
  of 20 %, mfeat with 60 labels: `kl` +11.4 and +12.8, `mers` +11.2 and +12.9, `mse` +10.1 and +12.1, `pkdot+kl` +11.4 and
  +12.2, all shown. Matching features or neighbourhoods helps too: `pkt` +8.0 and +7.4, `nce` +7.5 and +9.5 (shown on both),
  `autoencoder` +11.3, `fitnet` +9.5 and `gmc` +7.9 on mfeat.
- **It is the privileged sensors' doing.** Placebos gain between −1.8 and +1.5 points there. The privileged effects of `kl` and `pkdot+kl`
  are shown on both sets (+9.9 to +14.6), those of `mers` and `gmc` on mfeat.
- **With all labels nothing is shown to help, on any set**, though the teacher is 22 points (stressid-tasks), .28 CCC
  (stressid-stress), .19 CCC (air-quality) and 35 points of mIoU (potholes) above the baseline. A gap between teacher and baseline
  does not say that a student can close it. Placebos gain as much there as the methods do.
- **`pkdot` alone, `amid`, `osmd`, `admd` and `mtnet`: being measured again** with what they compare before dropout. `osmd`
  lies below the baseline on four questions of six, `rkd` on three. AMID's bound is a sum over pairs: with 5 classes in a batch of 128 it
  is some fifty times larger than with the paper's 51 classes in 16, and drowns the task; a smaller weight was tried on three
  folds and reached the baseline, no more. None of these were tuned here, so this is a statement about defaults.
- **`pkdot+kl` is as good as `kl`**; whether the structural term adds anything is being measured again. No preset has earned the default, which
  stays the paper's.
- **The ranks do not tell the methods apart**: six questions are too few. What differs, differs where labels are few.

What a user should pick: where many recordings have no label, `kl` (or `mers`, if a network of its own for the missing sensor is
affordable), with its placebo. For values `nce`, `pkt` or `mse` may be tried, with a placebo, but nothing is shown. With all
labels: the baseline, until a placebo says otherwise.
"""

EARLIER = """## Earlier: shares of labels, and cross-fitting

Version 0.1.0, before the methods above were added: 5 folds × 5 seeds, `kl`, `mse`, `cosine` and the presets of `pkdot`, with and without
cross-fitted teachers. The method that was best on `select`, and its difference to the baseline:

| set | labels | baseline | best on select | its difference | privileged effect | teacher |
|---|---|---|---|---|---|---|
| phone-watch | 10% | 58.6 | pkdot+kl@crossfit 74.8 | **+16.2 [+8.1, +24.3]** | **+18.0 [+9.9, +26.0]** | 81.0 |
| phone-watch | 20% | 69.4 | kl 79.7 | **+10.3 [+2.0, +18.5]** | **+9.4 [+1.3, +17.5]** | 90.4 |
| phone-watch | 40% | 77.8 | kl@crossfit 80.6 | +2.8 [-1.8, +7.5] | +4.5 [-1.5, +10.4] | 93.6 |
| phone-watch | all labels | 81.2 | pkdot+kl@crossfit 81.5 | +0.4 [-2.4, +3.2] | +0.9 [-1.1, +3.0] | 95.8 |
| stressid-tasks | 20% | 34.6 | pkdot+kl 36.5 | +1.8 [-3.9, +7.6] | +1.7 [-3.2, +6.5] | 46.2 |
| stressid-tasks | all labels | 44.6 | cosine 44.3 | -0.2 [-6.6, +6.1] | -0.5 [-8.0, +7.0] | 67.1 |
| stressid-stress | 20% | 20.7 | cosine@crossfit 21.3 | +0.6 [-6.8, +7.9] | +1.4 [-5.1, +8.0] | 32.6 |
| stressid-stress | all labels | 29.3 | cosine@crossfit 30.9 | +1.6 [-5.6, +8.8] | -0.2 [-6.9, +6.5] | 53.6 |
| mfeat | 6% | 63.9 | kl@crossfit 77.1 | **+13.3 [+9.5, +17.0]** | **+14.9 [+11.4, +18.5]** | 90.3 |
| air-quality | all labels | 75.7 | cosine 76.1 | +0.4 [-1.7, +2.4] | -0.3 [-1.4, +0.8] | 93.7 |

With fewer labels more is gained (phone-watch: +16.2 at 10 %, +10.3 at 20 %, +2.8 at 40 %, +0.4 with all). Cross-fitting made no
difference that those runs could show: where labels are few, most rows are taught out of sample anyway.
"""

HEAD = """# Results

Written by `python benchmarks/results.py DATA --output runs/results --page` from the stored runs of
`python benchmarks/results.py DATA --output runs/results`. Settings are the library's defaults but for what is named with a set;
epochs are chosen on `select`, and test rows are read once. The defaults of learning rate, dropout, epochs and patience were
chosen on the `select` rows of five phone-watch folds; across folds these people are tested on too, so phone-watch may flatter
all its rows alike. On the other sets nothing was chosen.

How to read a row: mean ± standard deviation over folds × seeds; the paired difference to the baseline with a
Nadeau-Bengio corrected 95 % interval (training sets overlap between folds, so the usual interval would be too narrow); the
posterior probabilities of better, practically equal (within one point) and worse (correlated Bayesian t-test); and the
**privileged effect**: method minus its *placebo*, which is the same recipe taught by a teacher whose privileged rows were
permuted. `self` is the same recipe taught by a baseline. `@crossfit` means that each row is taught by a teacher that was not
trained on its group. Bold intervals exclude zero. Intervals are for one comparison; with this many rows, a few exclude zero by chance.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with one folder per data set (see the data sets' README)")
    parser.add_argument("--output", type=Path, default=Path("runs/results"))
    parser.add_argument("--only", nargs="*", default=[s.name for s in SETTINGS], choices=[s.name for s in SETTINGS])
    parser.add_argument("--methods", nargs="*", help="these alone, and with --placebo their placebos, in one run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--placebo", action="store_true", help=f"also placebos: of the {BEST} best on select rows and of pkdot+"
    )
    parser.add_argument("--page", action="store_true", help="only write docs/results.md from what is stored")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    if args.page:
        out = Path(__file__).parents[1] / "docs" / "results.md"
        out.write_text(page(args.data, args.output))
        print(out)
        return
    pd.set_option("display.width", 200)
    placebo = args.methods or []
    if args.placebo and not args.methods:
        done = [(s, Study(args.output / s.name)) for s in SETTINGS]
        placebo = [*dict.fromkeys([*best_on_select(done), "pkdot+kl", "pkdot+mse"])]
    placebo = placebo if args.placebo else []
    for setting in SETTINGS:
        if setting.name in args.select_modalities:
            print(f"== {setting.name} {placebo}", flush=True)
            study = setting.run(args.data, args.output, args.seeds, args.quiet, placebo, args.methods)
            study.print()


if __name__ == "__main__":
    main()
