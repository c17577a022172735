"""Models that are trained in a stack are the models that are trained alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.slow import mostly_slow
from helpers.small import fold_models, make_data
from sidelight.experiment.assemble import assemble
from sidelight.experiment.context import JobContext
from sidelight.experiment.plan import Job
from sidelight.losses.structural import StructuralTransport
from sidelight.methods import Hallucination, Method, Supervised
from sidelight.training import fit
from sidelight.training.fit_stacked import find_obstacle, fit_stacked, group_jobs
from sidelight.training.job import TrainingJob
from sidelight.training.loop import History
from sidelight.training.stacked import StackedLoop

FOLDS = ((0, 0), (1, 0), (2, 0), (0, 1))
KINDS = ("baseline", "teacher", "t-nets", "kl", "mse", "cosine", "pkdot", "pkdot+kl", "kl@crossfit")


class Watch:
    """A callback that remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def __call__(self, method: Method, epoch: int) -> None:
        self.seen.append(float(sum(p.detach().double().sum() for p in method.parameters())) + epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": list(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = list(state["seen"])


def make_jobs(tmp_path: Path, kind: str, task: str = "classification", **changes: Any) -> list[TrainingJob]:
    """The training of one kind in four folds of different sizes, in float64, so that rounding stays rounding."""
    data = make_data(task, n=150, groups=15)
    settings = {"folds": 3, "seeds": 2, "training": {"epochs": 6, "patience": 2}, "methods": ["mse"]} | changes
    jobs = []
    for fold, seed in FOLDS:
        models = fold_models(tmp_path / f"{fold}{seed}", data, fold, seed, **settings)
        job = Job(kind.replace("t-nets", "teacher"), "", 0.5 if fold == 1 else 1.0, fold, seed)
        folds = None
        method: Method
        if kind in ("baseline", "teacher"):
            reads = models.data.available if kind == "baseline" else models.data.modalities
            method = Supervised(models.builder.network(reads), models.data.fit_task(job.label_fraction))
        elif kind == "t-nets":
            teacher = models.control_network(job)
            outputs = [models.teachers.outputs(job, teacher, part) for part in ("train", "select")]
            method = Hallucination(models.builder.tnets(teacher), *outputs, models.data.fit_task(1.0))
        else:
            assert job.spec is not None
            method, folds = assemble(job.spec, JobContext(models, job))
            for part in method.modules():
                if isinstance(part, StructuralTransport):
                    part.settings["tolerance"] = 1e-13  # it stops where it is good enough, alone and in a stack
        batches = [models.rows(job, name).to(torch.float64) for name in ("train", "select")]
        jobs.append(TrainingJob(job.id, method.double(), *batches, models.order_seed, folds, Watch()))
    return jobs


def train_alone(jobs: list[TrainingJob], settings: Any) -> list[History]:
    return [
        fit(j.method, j.train, j.select, settings, seed=j.seed, teacher_fold=j.teacher_fold, callback=j.callback)
        for j in jobs
    ]


def config_of(tmp_path: Path, **changes: Any) -> Any:
    settings = {"folds": 3, "seeds": 2, "training": {"epochs": 6, "patience": 2}, "methods": ["mse"]} | changes
    return fold_models(tmp_path / "settings", make_data(n=150, groups=15), **settings).config


def same(alone: list[TrainingJob], stacked: list[TrainingJob], tolerance: float = 1e-9) -> None:
    for a, b in zip(alone, stacked):
        for (name, x), y in zip(a.method.state_dict().items(), b.method.state_dict().values()):
            assert torch.allclose(x.double(), y.double(), rtol=0, atol=tolerance), (a.name, name)
        assert a.callback.seen == pytest.approx(b.callback.seen, abs=1e-6), a.name  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", mostly_slow(KINDS, ["teacher", "pkdot+kl"]))
def test_stacked_models_are_those_trained_alone(tmp_path: Path, kind: str) -> None:
    """Folds of different sizes and label fractions, with dropout and early stopping: weights, epochs and terms."""
    config = config_of(tmp_path)
    alone = make_jobs(tmp_path, kind)
    together = copy.deepcopy(alone)
    assert not any(find_obstacle(job, config.training, config.balance) for job in together)
    expected = train_alone(alone, config.training)
    trained = fit_stacked(together, config.training, config.balance)
    for history, other in zip(expected, (t.history for t in trained)):
        assert (history.best_epoch, len(history.epochs)) == (other.best_epoch, len(other.epochs))
        assert other.stacked == len(together)
        for epoch, same_epoch in zip(history.epochs, other.epochs):
            for name in epoch.keys() - {"seconds"}:
                assert epoch[name] == pytest.approx(same_epoch[name], abs=1e-8), name
    same(alone, together)
    assert len({len(history.epochs) for history in expected}) > 1 or kind != "teacher"  # some stop before others


@pytest.mark.parametrize("kind", mostly_slow(["teacher", "mse", "cosine"], ["mse"]))
def test_regressions_are_stacked(tmp_path: Path, kind: str) -> None:
    """Every fold has its own units of the targets, and some targets are missing."""
    config = config_of(tmp_path)
    alone = make_jobs(tmp_path, kind, "regression")
    together = copy.deepcopy(alone)
    train_alone(alone, config.training)
    fit_stacked(together, config.training, config.balance)
    same(alone, together)


@pytest.mark.parametrize(
    "changes",
    [{"optimizer": "sgd"}, {"schedule": "onecycle"}, {"learning_rates": {"head": 0.1}}, {"optimizer": "adam"}],
)
def test_every_optimizer_is_stacked(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = config_of(tmp_path, training={"epochs": 3, "patience": 3} | changes)
    alone = make_jobs(tmp_path, "baseline")
    together = copy.deepcopy(alone)
    for job in together:
        job.method.deployed_network().eval()  # as an earlier stage of the method (of `admd`) leaves it
    train_alone(alone, config.training)
    for stack in group_jobs(together, config.training, config.balance, 4):
        fit_stacked([together[i] for i in stack], config.training, config.balance)
    same(alone, together)


def test_a_killed_stack_is_resumed_with_the_same_bits(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    whole = make_jobs(tmp_path, "teacher")
    killed, resumed = copy.deepcopy(whole), copy.deepcopy(whole)
    fit_stacked(whole, config.training, config.balance)
    loop = StackedLoop(killed, config.training, config.balance)
    loop.start()
    for _ in range(17):  # in the middle of an epoch, some models finished
        loop.take_step()
    state = loop.state_dict()
    assert len(state["active"]) > 0
    torch.save(state, tmp_path / "state.pt")
    again = StackedLoop(resumed, config.training, config.balance)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    while again.active:
        again.take_step()
    again.finish()
    for a, b in zip(whole, resumed):
        for x, y in zip(a.method.state_dict().values(), b.method.state_dict().values()):
            assert torch.equal(x, y)
        assert a.callback.seen == b.callback.seen  # type: ignore[union-attr]


def test_what_cannot_be_stacked_says_why(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    job = make_jobs(tmp_path, "baseline")[0]
    assert find_obstacle(job, config.training, config.balance) == ""
    config.balance.kind = "gradnorm"
    assert "balance.kind=gradnorm" in find_obstacle(job, config.training, config.balance)
    config.balance.kind = "fixed"
    job.method.network.encoders["phone"] = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))  # type: ignore[union-attr,operator]
    assert "batch normalisation" in find_obstacle(job, config.training, config.balance)
