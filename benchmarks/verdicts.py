"""How often a study without an effect says "better", and how often one with an effect does.

python benchmarks/verdicts.py                 500 studies a case: minutes
python benchmarks/verdicts.py --studies 100 --only official

Studies are simulated as the scores that a run stores, and judged by the functions that judge a run (`results.compare`,
`results.headline`, `results.verdict`). A method's score on the people of a test set is the mean over them of

    ability(person) + effect + habit(method, person) + luck(method, fold, seed) + noise(rows)

in accuracy. `luck` is that of one training and is shared by its select and its test people; `habit` is how a method suits a
person, whatever is trained. The select people of a fold are others than its test people. With a share of the labels, `luck` grows by
one over its root, and as much again is shared by all folds of a seed. That is a worst case: their labelled people overlap in part.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sidelight.results import budgets, compare, verdict
from sidelight.results.crossed import crossed_interval
from sidelight.results.group_scores import GroupScores
from sidelight.results.job import job_id
from sidelight.results.verdict import headline

ROWS = 60
"""Test rows of a person."""
ABILITY, HABIT, LUCK = 0.08, 0.06, 0.02
"""Standard deviations, in accuracy: of people, and of the difference of two methods on a person and in a training."""


@dataclass(frozen=True)
class Design:
    """A simulated study.

    Args:
        methods: number of methods beside the baseline.
        effect: gain of every method, in accuracy.
        official: one test set of `people` for all seeds, instead of folds.
        placebo: whether each method has a placebo; what is more than it is judged.
        folds, seeds, people: sizes; people are divided over the folds.
        labels: label fractions; each is a study of its own on the same people and folds.
        luck: standard deviation of the difference of two methods in a training.
    """

    methods: int = 1
    effect: float = 0.0
    official: bool = False
    placebo: bool = False
    folds: int = 5
    seeds: int = 3
    people: int = 20
    labels: tuple[float, ...] = (1.0,)
    luck: float = LUCK


def simulate(design: Design, rng: np.random.Generator) -> pd.DataFrame:
    """Draw the results of one study, as `load_results` returns them."""
    names = ["baseline", *(f"m{k}" for k in range(design.methods))]
    controls = [(name, "") for name in names]
    if design.placebo:
        controls += [(name, "placebo") for name in names[1:]]
    ability = rng.normal(0.7, ABILITY, design.people)
    habit = rng.normal(0, HABIT / np.sqrt(2), (len(controls), design.people))
    folds = (
        [np.arange(design.people)] if design.official else np.array_split(rng.permutation(design.people), design.folds)
    )
    select_ability = rng.normal(0.7, ABILITY, 5)
    rows, groups, scores = [], {}, np.zeros((len(controls), design.seeds, design.people))
    for seed, share in itertools.product(range(design.seeds), design.labels):
        spread = design.luck / np.sqrt(2 * share)
        drawn = rng.normal(0, spread, len(controls)) if share < 1 else np.zeros(len(controls))
        for fold, people in enumerate(folds):
            others = np.setdiff1d(np.arange(design.people), people)
            chosen_by = rng.choice(others, 5, replace=False) if len(others) else None
            for k, (name, control) in enumerate(controls):
                gain = design.effect * (name != "baseline" and not control)
                luck = rng.normal(0, spread) + drawn[k]
                of_people = _observe(ability[people] + habit[k, people] + gain + luck, rng)
                scores[k, seed, people] = of_people
                seen = select_ability if chosen_by is None else ability[chosen_by] + habit[k, chosen_by]
                select = float(_observe(seen + gain + luck, rng).mean())
                job = {"method": name, "control": control, "labels": share, "fold": fold, "seed": seed}
                rows.append(
                    job | {"select": select, "accuracy": float(of_people.mean()), "seconds": 1.0}
                    | {"n_train": ROWS * max(len(others), 40), "n_test": ROWS * len(people)}
                )  # fmt: skip
                without = (of_people.sum() - of_people) / max(len(people) - 1, 1)
                groups[job_id(**job)] = GroupScores(names=tuple(map(str, people)), without={"accuracy": without})
    results = pd.DataFrame(rows)
    results.attrs |= {"primary": "accuracy", "task": "classification", "protocol": "group-kfold", "people": scores}
    if design.official:
        results.attrs |= {"protocol": "official", "groups": groups}
    return results


def _observe(accuracy: NDArray, rng: np.random.Generator) -> NDArray:
    """The share of right answers among `ROWS` rows of people with these accuracies."""
    return rng.binomial(ROWS, accuracy.clip(0, 1)) / ROWS


def says_better(results: pd.DataFrame) -> bool:
    """Whether the headline of the study is that the chosen method helps."""
    return headline(compare(results)) == "better"


def says_better_somewhere(results: pd.DataFrame) -> bool:
    """Whether the headline at any label fraction is that the chosen method helps."""
    return any(headline(compare(results, share)) == "better" for share in budgets(results))


def says_better_by_bbc(results: pd.DataFrame, draws: int = 200) -> bool:
    """The same by BBC-CV, out of bag in people and in seeds, to compare with the rule that is used.

    People and seeds are drawn with replacement. The method that is best in the bag is tested on the people and seeds that
    are not in it; the mean over draws is the centre of the interval, which keeps the width of that of the best method. The
    plain centre stays if it is lower.
    """
    scores, rng = results.attrs["people"], np.random.default_rng(0)
    _, seeds, people = scores.shape
    gains = []
    for _ in range(draws):
        who = rng.integers(people, size=people)
        when = rng.integers(seeds, size=seeds)
        out, late = np.setdiff1d(np.arange(people), who), np.setdiff1d(np.arange(seeds), when)
        if len(out) and len(late):
            best = 1 + scores[1:][:, when][:, :, who].mean((1, 2)).argmax()
            gains.append((scores[best] - scores[0])[late][:, out].mean())
    c = compare(results)
    d = c.rows[str(c.best)].difference
    return bool(min(d.mean, float(np.mean(gains))) > d.half)


def says_privileged(results: pd.DataFrame) -> bool:
    """Whether the study shows more of its first method than its placebo gives: an interval above 0 of the difference."""
    return bool(compare(results).rows["m0"].effect.low > 0)


def says_row_better(results: pd.DataFrame) -> bool:
    """Whether any row of the table is called better (after Holm)."""
    c = compare(results)
    return any(verdict(row) == "better" for name, row in c.rows.items() if name.startswith("m") and "~" not in name)


def unguarded(results: pd.DataFrame) -> bool:
    """What the interval over people and seeds would say of the first method, however few seeds there are."""
    people = results.attrs["people"]
    effects = (people[1] - people[0]).T
    return bool(crossed_interval(float(effects.mean()), effects, 0.95).low > 0)


def naive_over_seeds(results: pd.DataFrame) -> bool:
    """What a plain t-test over the seeds of an official split would say, for comparison."""
    from scipy.stats import ttest_1samp

    scores = results.pivot_table(index="seed", columns="method", values="accuracy")
    test = ttest_1samp(scores["m0"] - scores["baseline"], 0.0)
    return bool(test.pvalue < 0.05 and test.statistic > 0)


Judge = Callable[[pd.DataFrame], bool]


def cases() -> dict[str, tuple[Design, Judge]]:
    """Name -> a design and what is counted. Those without an effect come first."""
    kfold, official = Design(), Design(official=True, seeds=5)
    found: dict[str, tuple[Design, Judge]] = {
        "k-fold, 1 method": (kfold, says_better),
        "k-fold, headline of 8": (Design(methods=8), says_better),
        "k-fold, headline of 24": (Design(methods=24), says_better),
        "k-fold, any of 8 rows": (Design(methods=8), says_row_better),
        "placebo, k-fold": (Design(placebo=True, effect=0.0), says_privileged),
        "20 % of the labels, k-fold, 1 method": (Design(labels=(0.2,)), says_better),
        "20 % of the labels, k-fold, headline of 8": (Design(methods=8, labels=(0.2,)), says_better),
        "20 % of the labels, official, 5 seeds": (Design(official=True, seeds=5, labels=(0.2,)), says_better),
        "20 % and all labels, k-fold, either headline of 8": (
            Design(methods=8, labels=(0.2, 1.0)),
            says_better_somewhere,
        ),
        "official, 2 seeds, luck of 2 points, if it were judged": (Design(official=True, seeds=2), unguarded),
        "official, 2 seeds, luck of 5 points, if it were judged": (
            Design(official=True, seeds=2, luck=0.05),
            unguarded,
        ),
        "official, 3 seeds, luck of 5 points": (Design(official=True, seeds=3, luck=0.05), says_better),
        "official, 3 seeds, luck of 5 points, headline of 8": (
            Design(official=True, seeds=3, luck=0.05, methods=8),
            says_better,
        ),
        "official, 5 seeds": (official, says_better),
        "official, 10 seeds": (Design(official=True, seeds=10), says_better),
        "official, 5 seeds, headline of 8": (Design(official=True, seeds=5, methods=8), says_better),
        "official, 5 seeds, headline of 8 by BBC": (Design(official=True, seeds=5, methods=8), says_better_by_bbc),
        "k-fold, headline of 8 by BBC": (Design(methods=8), says_better_by_bbc),
        "official, 5 seeds, plain t over seeds": (official, naive_over_seeds),
        "official, 10 seeds, plain t over seeds": (Design(official=True, seeds=10), naive_over_seeds),
    }
    for points in (2, 5, 10):
        found[f"k-fold, an effect of {points} points"] = Design(effect=points / 100), says_better
        found[f"official, 5 seeds, an effect of {points} points"] = (
            Design(effect=points / 100, official=True, seeds=5), says_better
        )  # fmt: skip
        found[f"official, 5 seeds, headline of 8, an effect of {points} points"] = (
            Design(effect=points / 100, official=True, seeds=5, methods=8), says_better
        )  # fmt: skip
        found[f"official, 5 seeds, headline of 8 by BBC, an effect of {points} points"] = (
            Design(effect=points / 100, official=True, seeds=5, methods=8), says_better_by_bbc
        )  # fmt: skip
        found[f"20 % of the labels, k-fold, an effect of {points} points"] = (
            Design(effect=points / 100, labels=(0.2,)), says_better
        )  # fmt: skip
    return found


def rate(design: Design, judge: Judge, studies: int, seed: int = 0) -> float:
    """The share of simulated studies of which `judge` says yes."""
    return float(np.mean([judge(simulate(design, np.random.default_rng([seed, k]))) for k in range(studies)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=500, help="simulated studies of a case")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    args = parser.parse_args()
    print('| case | says "better" | ± |\n|---|---|---|')
    measure = partial(rate, studies=args.studies)
    for name, (design, judge) in cases().items():
        if args.only in name:
            start = time.monotonic()
            share = measure(design, judge)
            error = 1.96 * np.sqrt(max(share * (1 - share), 1 / args.studies) / args.studies)
            print(f"| {name} | {share:.1%} | {error:.1%} |", f"({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
