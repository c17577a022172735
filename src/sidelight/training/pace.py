"""How long an epoch is, and when a training ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sidelight.config import TrainingConfig
from sidelight.utils.distributed import get_world


class Pace(NamedTuple):
    """The size of an epoch.

    Attributes:
        batch_size: the largest number of rows of a step.
        steps: the number of steps of an epoch.
    """

    batch_size: int
    steps: int


SMALLEST_BATCH = 16
"""Batches of few rows are not made smaller: the losses that compare rows need some to compare."""


def set_pace(settings: TrainingConfig, rows: int) -> Pace:
    """Set the size of an epoch: a pass over the rows, or at least `settings.least_steps` steps.

    Of few rows, batches become smaller, down to `SMALLEST_BATCH`; if a pass still has too few steps, an epoch takes
    several. So epochs, patience, schedules and warm-ups, which count epochs, count steps too.

    Args:
        settings: the optimisation budget.
        rows: the number of training rows, labelled or not.
    """
    floor = max(SMALLEST_BATCH, get_world().size)  # every process gets a row of a batch
    size = min(settings.batch_size, max(floor, math.ceil(rows / settings.least_steps)))
    return Pace(size, max(settings.least_steps, math.ceil(rows / size)))


def average_scores(scores: Sequence[Sequence[float]], rows: Sequence[int], patience: int) -> list[float]:
    """Average the scores of inner trainings epoch by epoch, weighted by the rows that they were measured on.

    A training that early stopping ended before the longest one counts there with the mean of its last `patience`
    scores: none of them was better than those before.

    Args:
        scores: the score after each epoch, of each training.
        rows: the number of labelled rows that each was scored on.
        patience: the patience of early stopping, in epochs.

    Returns:
        The mean score after each epoch of the longest training.
    """
    longest = max(map(len, scores))
    extended = []
    for own in scores:
        last = own[-patience:]
        extended.append([*own, *[math.fsum(last) / len(last)] * (longest - len(own))])
    return [math.fsum(n * s for n, s in zip(rows, epoch)) / sum(rows) for epoch in zip(*extended)]


def count_epochs(scores: Sequence[float]) -> int:
    """The number of epochs until the first of the highest scores."""
    return max(range(len(scores)), key=lambda i: (scores[i], -i)) + 1
