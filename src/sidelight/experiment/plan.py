"""What an experiment consists of: jobs, and the plan that lists them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sidelight.config import Config
from sidelight.methods import CONTROLS, MethodSpec
from sidelight.results.job import job_id

UNDECIDED = "?"
"""In the place of the best method's name, as long as it is not known."""


@dataclass(frozen=True)
class Job:
    """One network to train and test: a method (or `baseline`, `teacher`) with its control, on one fold and seed.

    control: "", "placebo" (privileged rows permuted) or "self" (a baseline as the teacher).
    labels: share of the training groups whose labels are kept.
    """

    method: str
    control: str
    labels: float
    fold: int
    seed: int

    @property
    def id(self) -> str:
        """The name of the job's folder."""
        return job_id(self.method, self.control, self.labels, self.fold, self.seed)


def seed_of(*what: object) -> int:
    """A seed that depends only on its arguments (stable over machines and versions)."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, what)).encode()).digest()[:6], "big")


def controlled(config: Config, names: list[str]) -> list[str]:
    """The methods whose control is run, read from a setting such as `placebo: [kl]`; "best" is left for later."""
    if "all" in names:
        return list(config.methods)
    return [name for name in names if name not in ("best", "none")]


def plan(config: Config, specs: Mapping[str, MethodSpec], folds: int, budgets: list[float]) -> list[Job]:
    """Every job that is known before the first result: controls first, then methods, then named placebos.

    Args:
        config: the experiment's settings, with every default filled in.
        specs: the methods of the experiment, parsed.
        folds: number of folds of each seed.
        budgets: the shares of labelled groups. Where labels were hidden, the baseline with all labels is added as a
            reference.
    """
    placebo = controlled(config, config.placebo)
    self_distilled = [m for m in controlled(config, config.self_distillation) if not specs[m].no_self_distillation]
    jobs: list[Job] = []
    for seed in range(config.seed, config.seed + config.seeds):
        for fold in range(folds):
            if 1.0 not in budgets:
                jobs.append(Job("baseline", "", 1.0, fold, seed))
            for labels in budgets:
                named = [(m, "") for m in (*CONTROLS, *dict.fromkeys(config.methods))]
                named += [("teacher", "placebo")] * bool(placebo)
                named += [(m, "placebo") for m in placebo] + [(m, "self") for m in self_distilled]
                jobs += [Job(method, control, labels, fold, seed) for method, control in named]
    return jobs


def later(config: Config, specs: Mapping[str, MethodSpec], jobs: Iterable[Job], best: Mapping[float, str]) -> list[Job]:
    """The controls of the best method, once it is known.

    A best method whose teacher a baseline cannot replace has no self-distillation.

    Args:
        best: labels -> the method that was best on the select rows, or UNDECIDED.
    """
    known = set(jobs)
    added: list[Job] = []
    for setting, control in ((config.placebo, "placebo"), (config.self_distillation, "self")):
        if "best" not in setting or set(setting) & {"all", "none"}:
            continue
        for job in known:
            if job.method == "baseline" and job.control == "" and job.labels in best:
                method = best[job.labels]
                if control == "self" and method != UNDECIDED and specs[method].no_self_distillation:
                    continue
                added += [Job(method, control, job.labels, job.fold, job.seed)]
                if control == "placebo":
                    added.append(Job("teacher", control, job.labels, job.fold, job.seed))
    return sorted(
        set(added) - known, key=lambda j: (j.seed, j.fold, j.labels, j.control, j.method != "teacher", j.method)
    )


def without_self_distillation(config: Config, specs: Mapping[str, MethodSpec], best: Mapping[float, str]) -> list[str]:
    """Warnings that the best method has no self-distillation, because a baseline cannot replace its teacher."""
    if "best" not in config.self_distillation or set(config.self_distillation) & {"all", "none"}:
        return []
    lacking = {m: specs[m].no_self_distillation for m in best.values() if m != UNDECIDED}
    return [
        f"no self-distillation beside {name!r}, the best method: it {reason}"
        for name, reason in lacking.items()
        if reason
    ]
