"""Several processes train as one: the same losses, gradients, scores, weights and outputs."""

from __future__ import annotations

import pytest

from helpers.processes import launch
from sidelight.methods import METHODS
from sidelight.testing.subjects import tasks_of

NETWORKS = ("collectives", "refusals", "random", "normalised", "dropped", "sequences", "online", "dropped in pieces")
FIRST = ("collectives", "refusals", "normalised", "sequences")
"""Those of the default run; `-m slow` has all, with every method."""
FAMILIES = tuple(f"{method}:classification" for method in ("osmd", "kl+pkdot@crossfit"))
"""Stages of its own, cross-fitted transport."""
BALANCED = ("fitnet:classification:gradnorm", "pkdot:classification:gradnorm", "kl:classification:target-ratio")
ALL = tuple(f"{method}:classification" for method in ("teacher", *METHODS, "kl+pkdot@crossfit"))


def check(count: int, names: tuple[str, ...], limit: float = 300.0) -> None:
    for code, output in launch(count, "-m", "helpers.equal_training", *names, limit=limit):
        print(output)
        assert code == 0, output
        assert [name for name in names if f"{name} done by process" not in output] == []


def test_two_processes_train_as_one():
    """Families of methods, batch normalisation, missing modalities, varying lengths, and gradients that are weighed."""
    check(2, (*FIRST, *FAMILIES, BALANCED[0]))


@pytest.mark.slow
def test_two_processes_train_every_method_as_one():
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


@pytest.mark.slow  # "refusals" above has errors that end all
@pytest.mark.parametrize("kind", ["last", "first"])
def test_one_process_says_why_all_end(kind):
    ended = launch(2, "-m", "helpers.failing", kind, limit=100)
    assert [code for code, _ in ended] == [2, 2]
    assert [output for _, output in ended if output] == ["RunError: this one says why.\n"]


@pytest.mark.slow
def test_a_killed_process_ends_the_others():
    (code, output), (killed, _) = launch(2, "-m", "helpers.failing", "killed", limit=100)
    assert (code, killed) == (2, -9)
    assert "process 0 of 2 lost the others" in output
    assert "continue with --resume" in output
