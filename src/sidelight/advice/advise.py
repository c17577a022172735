"""`advise`: the short answer and the tables behind it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sidelight.advice.models import estimate_label_noise, gaussian_information
from sidelight.advice.pilot import CURVE, Pilot, run_pilot
from sidelight.data.dataset import Dataset
from sidelight.errors import DataError
from sidelight.results.statistics import Interval, student_quantile
from sidelight.utils.keywords import known_keywords

ROWS = 4000
"""More rows are sampled (whole rows at random)."""
ERROR, WIDTH = 0.024, 2.38
"""A study shows gain ± WIDTH · √(spread² + ERROR²), where spread is the standard error of the pilot's gain: a pilot is
linear, and a study is one training and one test set. Both from 49 studies of the eight synthetic regimes
(`benchmarks/advise.py --page`; docs/advise.md says how well they hold for a regime that they were not fitted to)."""
LEAST = 0.01
"""Smaller gains are no reason to train a teacher."""
RECIPES = {
    "baseline": "train the baseline: the teacher is not shown to know more than the baseline",
    "nothing-can-pass": "train the baseline: the teacher knows more, but not what the available modalities could show",
    "auto": "run `auto`: soft labels, whose weight is chosen inside the folds",
    "auto-unlabelled": "run `auto` and keep every unlabelled row: most of the gain comes through them",
    "more-labels": "label more rows first: doubling the labels gains more than the teacher does",
    "try-auto": "run `auto` once, without much hope: a gain is not shown, and the weight 0 is the baseline",
}
"""Recipe -> what to do first."""


@dataclass(frozen=True)
class Advice:
    """What `sidelight advise` prints.

    Attributes:
        recipe: a key of `RECIPES`.
        metric: "accuracy" or "ccc".
        gain, gain_low, gain_high: the expected difference of the student to the baseline, and the interval in which
            95 % of studies showed theirs when it was calibrated (`ERROR`, `WIDTH`).
        lead: the difference of the teacher to the baseline; `more_labels` that of twice the labels (of the last
            doubling, if all rows are labelled).
        scores: reference model -> its mean score over the folds.
        curve: share of the kept labels -> the baseline's score.
        noise: share of labels that look wrong, which a weak teacher makes too high; NaN for values.
        passes: I(privileged; student) and I(student; labels) in bits.
        coverage: privileged modality -> share of the rows that have it.
        counts: rows, labelled rows, labelled and other groups.
        changes: what would change the advice.
        spread: standard error of the pilot's mean gain; 0 where all its folds agree.
    """

    name: str
    recipe: str
    metric: str
    gain: float
    gain_low: float
    gain_high: float
    lead: float
    lead_low: float
    more_labels: float
    unlabelled_share: float
    scores: dict[str, float]
    curve: dict[str, float]
    noise: float
    passes: tuple[float, float]
    coverage: dict[str, float]
    counts: dict[str, int]
    changes: tuple[str, ...]
    spread: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values; None for what is not known."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: plain(v) for k, v in value.items()}
            if isinstance(value, tuple | list):
                return [plain(v) for v in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        told: dict[str, Any] = plain(asdict(self) | {"first": RECIPES[self.recipe]})
        return told

    def to_text(self, width: int = 100) -> str:
        """The same as text for a terminal of this width."""
        from rich.console import Console
        from rich.table import Table

        f = 100 if self.metric == "accuracy" else 1
        unit = " points of accuracy" if f == 100 else " of CCC"
        console = Console(file=io.StringIO(), width=width, force_terminal=False)

        def say(text: str) -> None:
            console.print(text, markup=False, highlight=False)

        def table(title: str, rows: dict[str, str]) -> None:
            new = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
            new.add_column()
            new.add_column(justify="right")
            for name, value in rows.items():
                new.add_row(name, value)
            console.print(new)

        say(f"{self.name}: {RECIPES[self.recipe]}.")
        interval = f"{self.gain_low * f:+.3g} to {self.gain_high * f:+.3g}"
        say(
            f"Expect {self.gain * f:+.3g}{unit} over the baseline (95 % of studies: {interval}). The teacher leads by "
            f"{self.lead * f:+.3g}; twice the labels give {self.more_labels * f:+.3g}."
        )
        for change in self.changes:
            say(f"- {change}")
        table("\ncounts", {k: str(v) for k, v in self.counts.items()})
        table("rows with the modality", {m: f"{share:.0%}" for m, share in self.coverage.items()})
        table(f"reference models ({self.metric})", {k: f"{v:.3f}" for k, v in self.scores.items()})
        table("baseline by share of the kept labels", {k: f"{v:.3f}" for k, v in self.curve.items()})
        noise = f"{self.noise:.0%}" if math.isfinite(self.noise) else "not estimated for values"
        shown = {
            "labels that look wrong (confident learning)": noise,
            "I(privileged; student), bits": f"{self.passes[0]:.2f}",
            "I(student; labels), bits": f"{self.passes[1]:.2f}",
        }
        table("labels, and what can pass", shown)
        return str(console.file.getvalue())  # type: ignore[attr-defined]


@known_keywords
def advise(
    dataset: Dataset,
    available: Sequence[str] = (),
    privileged: Sequence[str] = (),
    *,
    label_fraction: float | None = None,
    seed: int = 0,
) -> Advice:
    """Say what to expect of a teacher, and which recipe to try first, from reference models; no network is trained.

    A pilot over group folds, repeated three times: a linear teacher on all modalities, a linear baseline on the
    available ones, and a student that learns from the teacher's probabilities (averaged with the labels) on labelled
    and unlabelled rows. Rows of an official test part are not read.

    Args:
        dataset: the data.
        available, privileged: the modalities; by default the data set's own.
        label_fraction: the share of the labelled groups that keep their labels; by default the data set's own, else 1.
        seed: of folds, labels and samples.

    Raises:
        ConfigError: there is no available or no privileged modality, or one does not exist or has both roles.
        DataError: the target is no class or value of a row, or there are too few labelled groups.
    """
    roles = dict(zip(("available", "privileged"), map(list, dataset.resolve(available, privileged)), strict=True))
    if dataset.size:
        raise DataError(f"{dataset.name}: advice is for classes or values of whole rows, not for maps; use `inspect`.")
    share = label_fraction or float((dataset.default_modalities.get("label_fraction") or [1.0])[0])
    rows = dataset
    if dataset.split is not None and (dataset.labelled & (dataset.split != "test")).any():
        rows = dataset.take(np.flatnonzero(dataset.split != "test"))
    if rows.lazy or len(rows) > ROWS:
        rows = rows.sample(min(ROWS, 500 if rows.lazy else ROWS), seed)
    return _conclude(rows, run_pilot(rows, roles["available"], roles["privileged"], share, seed), roles, share)


def _conclude(rows: Dataset, pilot: Pilot, roles: dict[str, list[str]], share: float) -> Advice:
    gain, lead = pilot.difference("student", "baseline"), pilot.difference("teacher", "baseline")
    without = pilot.difference("labelled student", "baseline")
    more = pilot.difference("labels 2", "baseline") if share < 1 else pilot.difference("baseline", "labels 0.5")
    through = 1 - max(0.0, without.mean) / gain.mean if gain.mean > 0 else 0.0
    known = rows.labelled & np.isfinite(pilot.predicted["baseline"]).all(1)
    student = _scores(rows, pilot.predicted["baseline"][known])
    alone = _scores(rows, pilot.predicted["privileged"][known])
    if rows.task == "classification":
        noise = estimate_label_noise(pilot.predicted["teacher"][known], rows.target[known])
        truth = np.eye(len(rows.class_names))[rows.target[known]]
    else:
        noise, truth = math.nan, np.nan_to_num(rows.target[known])
    passes = gaussian_information(alone, student), gaussian_information(student, truth)
    recipe = _choose(gain, lead, more, through, passes)
    spread = _spread(gain)
    half = WIDTH * math.hypot(spread, ERROR)
    groups = {}
    if rows.group is not None:
        groups = {"groups": len(np.unique(rows.group)), "groups with labels": len(np.unique(rows.group[rows.labelled]))}
    return Advice(
        name=rows.name,
        recipe=recipe,
        metric="accuracy" if rows.task == "classification" else "ccc",
        gain=gain.mean,
        gain_low=gain.mean - half,
        gain_high=gain.mean + half,
        lead=lead.mean,
        lead_low=lead.low,
        more_labels=more.mean,
        unlabelled_share=through,
        scores={name: pilot.mean(name) for name in pilot.scores if not name.startswith("labels ")},
        curve={f"{c:.0%}": pilot.mean(f"labels {c:g}" if c < 1 else "baseline") for c in CURVE}
        | ({"200%": pilot.mean("labels 2")} if share < 1 else {}),
        noise=noise,
        passes=passes,
        coverage={m: float(rows.present[m].mean()) if m in rows.present else 1.0 for m in roles["privileged"]},
        counts={
            "rows": len(rows),
            "rows with labels": int(rows.labelled.sum()),
            "labels in a fold": round(pilot.labelled),
            **groups,
        },
        changes=_changes(recipe, noise, share, roles, rows),
        spread=spread,
    )


def _spread(found: Interval) -> float:
    """The standard error of a mean; 0 where all differences are the same."""
    return found.half / student_quantile(0.95, found.n - 1) if math.isfinite(found.half) else 0.0


def _scores(rows: Dataset, predicted: np.ndarray) -> np.ndarray:
    """Log probabilities, or values."""
    return np.log(predicted.clip(1e-3, 1)) if rows.task == "classification" else predicted


def _choose(gain: Interval, lead: Interval, more: Interval, through: float, passes: tuple[float, float]) -> str:
    if not lead.low > 0:
        return "baseline"
    if (gain.low > 0 and gain.mean > LEAST) or gain.mean > 0.25 * lead.mean:
        if more.low > 0 and more.mean > 2 * gain.mean:
            return "more-labels"
        return "auto-unlabelled" if through > 0.5 else "auto"
    if passes[0] < 0.5 * passes[1]:
        return "nothing-can-pass"
    return "more-labels" if more.low > 0 and more.mean > gain.mean else "try-auto"


def _changes(recipe: str, noise: float, share: float, roles: dict[str, list[str]], rows: Dataset) -> tuple[str, ...]:
    """What would change the advice, as sentences."""
    out = []
    if recipe == "baseline":
        out.append("More rows, or better features of the privileged modalities, may give the teacher its lead.")
    if recipe == "nothing-can-pass":
        out.append("Another available sensor that shows a part of what the privileged ones see would change this.")
    if recipe in ("more-labels", "try-auto"):
        out.append("Unlabelled rows with every modality would let the teacher do more.")
    if share == 1 and bool(rows.labelled.all()):
        out.append("All rows are labelled: with few labels a teacher gains more (--label-fraction 0.2 says how much).")
    if noise > 0.15:
        out.append(
            f"Up to {noise:.0%} of the labels are wrong, or the teacher is: where labels are, larger weights of soft "
            "labels pay, and so do mended labels."
        )
    missing = [m for m in roles["privileged"] if m in rows.present and rows.present[m].mean() < 0.8]
    if missing:
        out.append(f"Many rows lack {', '.join(missing)}: there the teacher knows no more than the student.")
    return tuple(out)
