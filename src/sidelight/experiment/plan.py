"""The jobs of an experiment, and the plan that lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sidelight.config import Config
from sidelight.methods import CONTROLS, MethodSpec
from sidelight.results.budget import REFERENCES
from sidelight.results.job import job_id
from sidelight.utils.seeds import derive_seed as derive_seed

UNDECIDED = "?"
"""Stands for the name of the best method until it is known."""


@dataclass(frozen=True)
class Job:
    """One network to train and test.

    Attributes:
        method: a method, `baseline` or `teacher`, or a reference row such as `linear`.
        control: "", "placebo" (privileged rows permuted) or "self" (a baseline is the teacher).
        label_fraction: the share of the training groups that keep their labels.
        fold: the fold.
        seed: the seed of the split and of everything random.
    """

    method: str
    control: str
    label_fraction: float
    fold: int
    seed: int

    @property
    def id(self) -> str:
        """The name of the job's folder."""
        return job_id(self.method, self.control, self.label_fraction, self.fold, self.seed)

    @cached_property
    def spec(self) -> MethodSpec | None:
        """The method, parsed once per job; None for a `baseline` or `teacher`, and for a reference row."""
        return None if self.method in (*CONTROLS, *REFERENCES) else MethodSpec.parse(self.method)

    def to_dict(self) -> dict[str, Any]:
        """The job as `job.json` and the student's metadata hold it."""
        return {
            "method": self.method,
            "control": self.control,
            "labels": self.label_fraction,
            "fold": self.fold,
            "seed": self.seed,
        }


def list_controlled(config: Config, names: list[str]) -> list[str]:
    """The methods that a setting such as `placebo: [kl]` names; `plan_best_controls` plans those of "best"."""
    if "all" in names:
        return list(config.methods)
    return [name for name in names if name not in ("best", "none")]


def plan(config: Config, specs: Mapping[str, MethodSpec], folds: int, label_fractions: list[float]) -> list[Job]:
    """List the jobs that are known before the first result: controls, methods, named placebos, then reference rows.

    Args:
        config: the experiment's settings, with every default filled in.
        specs: name -> the method of that name, parsed.
        folds: the number of folds of each seed.
        label_fractions: the shares of labelled groups. If none of them is 1, the baseline with all labels is added as
            a reference.
    """
    placebo = list_controlled(config, config.placebo)
    self_distilled = [
        m for m in list_controlled(config, config.self_distillation) if not specs[m].self_distillation_obstacle
    ]

    # Teachers come first: jobs of the same fold and seed share them.
    named = [(method, "") for method in (*CONTROLS, *dict.fromkeys(config.methods))]
    if placebo:
        named.append(("teacher", "placebo"))
    named += [(method, "placebo") for method in placebo]
    named += [(method, "self") for method in self_distilled]
    named += [(name, "") for name in config.reference if name != "none"]

    jobs: list[Job] = []
    for seed in range(config.seed, config.seed + config.seeds):
        for fold in range(folds):
            if 1.0 not in label_fractions:
                jobs.append(Job("baseline", "", 1.0, fold, seed))
            for label_fraction in label_fractions:
                jobs += [Job(method, control, label_fraction, fold, seed) for method, control in named]
    return jobs


def plan_best_controls(
    config: Config, specs: Mapping[str, MethodSpec], jobs: Iterable[Job], best: Mapping[float, str]
) -> list[Job]:
    """List the controls of the best method, which are known once the other jobs are finished.

    If a baseline cannot replace the teacher of the best method, the method has no self-distillation.

    Args:
        config: the experiment's settings, with every default filled in.
        specs: name -> the method of that name, parsed.
        jobs: the jobs that are planned already.
        best: share of labelled groups -> the method with the highest score on the select rows, or `UNDECIDED`.
    """
    known = set(jobs)
    added: list[Job] = []
    for setting, control in ((config.placebo, "placebo"), (config.self_distillation, "self")):
        if "best" not in setting or set(setting) & {"all", "none"}:
            continue
        # There is one baseline for each share, fold and seed.
        for job in known:
            if job.method != "baseline" or job.control or job.label_fraction not in best:
                continue
            method = best[job.label_fraction]
            if control == "self" and method != UNDECIDED and specs[method].self_distillation_obstacle:
                continue
            added.append(Job(method, control, job.label_fraction, job.fold, job.seed))
            if control == "placebo":
                added.append(Job("teacher", control, job.label_fraction, job.fold, job.seed))

    # Sorted, because sets have no order; a placebo's teacher comes before its students.
    def order(job: Job) -> tuple[Any, ...]:
        return job.seed, job.fold, job.label_fraction, job.control, job.method != "teacher", job.method

    return sorted(set(added) - known, key=order)


def explain_missing_self_distillation(
    config: Config, specs: Mapping[str, MethodSpec], best: Mapping[float, str]
) -> list[str]:
    """Warnings for the user: the best method has no self-distillation, because a baseline cannot replace its teacher.

    Args:
        config: the experiment's settings, with every default filled in.
        specs: name -> the method of that name, parsed.
        best: share of labelled groups -> the best method, or `UNDECIDED`.
    """
    if "best" not in config.self_distillation or set(config.self_distillation) & {"all", "none"}:
        return []
    warnings = []
    for name in dict.fromkeys(best.values()):
        obstacle = specs[name].self_distillation_obstacle if name != UNDECIDED else ""
        if obstacle:
            warnings.append(f"no self-distillation beside {name!r}, the best method: it {obstacle}")
    return warnings
