"""Several processes train as one: the same losses, gradients, scores, weights and outputs."""

from __future__ import annotations

import pytest

from helpers.processes import launch
from sidelight.methods import METHODS
from sidelight.testing.subjects import tasks_of

NETWORKS = ("collectives", "random", "normalised", "dropped", "sequences", "online")
BALANCED = ("fitnet:classification:gradnorm", "pkdot:classification:gradnorm", "kl:classification:target-ratio")
ALL = tuple(f"{method}:classification" for method in ("teacher", *METHODS, "kl+pkdot@crossfit"))


def check(count: int, names: tuple[str, ...], limit: float = 300.0) -> None:
    for code, output in launch(count, "-m", "helpers.equal_training", *names, limit=limit):
        assert code == 0, output
        assert [name for name in names if f"{name} done by process" not in output] == []


def test_two_processes_train_as_one():
    """Every method, batch normalisation, missing modalities, varying lengths, and gradients that are weighed."""
    check(2, (*NETWORKS, *ALL, *BALANCED))


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 4])
def test_more_processes_train_as_one(count):
    check(count, (*NETWORKS, "pictures", *ALL, *BALANCED), limit=900)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["regression", "segmentation", "retrieval", "anti-spoofing"])
def test_two_processes_train_as_one_on_every_task(task):
    check(
        2,
        tuple(
            f"{method}:{task}" for method in ("teacher", *METHODS) if method == "teacher" or task in tasks_of(method)
        ),
    )
