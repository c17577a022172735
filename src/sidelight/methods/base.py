"""What a method is: named loss terms over a batch, the parameters they train, and the network that leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from sidelight.data.batch import Batch
from sidelight.networks.network import Network, outputs
from sidelight.tasks import Task


@dataclass(frozen=True)
class Clock:
    """Where training is: `epoch` of `epochs`, and the step since the start of the stage."""

    epoch: int = 0
    epochs: int = 1
    step: int = 0


class Step(NamedTuple):
    """One optimiser step: the parameter group that it moves, and the unweighted named scalars that move it."""

    group: str
    terms: dict[str, Tensor]


class Method(nn.Module):
    """How knowledge moves into a network.

    Most methods write only `terms`. Adversarial ones write `steps`, a generator of `Step`s: the loop takes the gradient
    of each step's weighted terms with respect to that step's group alone, updates the group, and resumes the generator.
    """

    weights: dict[str, float]
    """Term name -> default weight; a term that is not named weighs 1."""
    learns_from: ClassVar[str] = "labelled"
    """Which training rows make batches: "labelled" or "all"."""
    reads: tuple[str, ...] | None = None
    """The modalities that its training steps need; None: all."""
    within_parts: bool = False
    """Batches are drawn inside one part of a cross-fitted teacher (relational terms compare rows of one space)."""

    def __init__(self, task: Task):
        super().__init__()
        self.task = task
        self.weights = {}

    def terms(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Unweighted named scalars of one batch."""
        raise TypeError(f"{type(self).__name__} must define terms() or steps()")

    def steps(self, batch: Batch, clock: Clock) -> Iterator[Step]:
        """The optimiser steps of one batch; by default one step of the group "main"."""
        yield Step("main", self.terms(batch, clock))

    def groups(self) -> dict[str, list[Parameter]]:
        """Group name -> its parameters: every trainable parameter in exactly one group, one optimiser per group."""
        return {"main": [p for p in self.parameters() if p.requires_grad]}

    def export(self) -> Network:
        """The network that is deployed, without the rest."""
        raise TypeError(f"{type(self).__name__} must define export()")

    def score(self, select: Batch) -> float:
        """What chooses the epoch, higher is better: by default the task's primary metric of `export()`."""
        said = outputs(self.export(), select, torch.arange(len(select), device=select.index.device))
        return self.task.score(said.prediction, select.target, select.labelled)


class Supervised(Method):
    """Task loss alone. Trains teachers (network reads everything) and baselines (network reads what is available)."""

    def __init__(self, network: Network, task: Task):
        super().__init__(task)
        self.network = network
        self.reads = network.reads

    def terms(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        prediction = self.network(batch).prediction
        return {"task": self.task.loss(prediction, batch.target, batch.labelled)}

    def export(self) -> Network:
        return self.network
