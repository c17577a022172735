"""Several processes train as one: the same losses, gradients, scores, weights and outputs."""

from __future__ import annotations

import pytest

from helpers.processes import launch

METHODS = ("teacher:classification", "kl:classification", "pkdot:classification")


def run(count: int, *command: str, limit: float = 240.0) -> list[str]:
    outputs = []
    for code, output in launch(count, "-m", *command, limit=limit):
        assert code == 0, output
        outputs.append(output)
    return outputs


def test_two_processes_train_as_one():
    for output in run(2, "helpers.equal_training", *METHODS):
        assert output.count("of 2:") == len(METHODS), output


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 4])
def test_more_processes_train_as_one(count):
    for output in run(count, "helpers.equal_training", *METHODS):
        assert output.count(f"of {count}:") == len(METHODS), output
