"""What a method is: named loss terms over a batch, the parameters they train, and the network that leaves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.methods.ranges import Range, check_ranges
from sidelight.networks.network import Network, Output, predict_in_chunks
from sidelight.tasks import Task

if TYPE_CHECKING:
    from sidelight.config import Config


@dataclass(frozen=True)
class TrainState:
    """Where training is: `epoch` of `epochs`, and the step since the start of the stage."""

    epoch: int = 0
    epochs: int = 1
    step: int = 0


class Step(NamedTuple):
    """One optimiser step: the parameter group that it moves, and the unweighted named scalars that move it."""

    group: str
    terms: dict[str, Tensor]


def keyword_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a function (or constructor) that have a default."""
    taken = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in taken if p.default is not p.empty}


class MethodInfo:
    """What the registry says of a method: what `sidelight methods` prints, and what a task is checked against."""

    paper: ClassVar[str] = ""
    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression", "segmentation")
    """The kinds of task on which it has a meaning."""
    instead: ClassVar[str] = ""
    """What to use where it has none: the end of the sentence that refuses it."""
    online: ClassVar[bool] = False
    """Teacher and student are trained together, not one after the other."""
    stages: ClassVar[tuple[str, ...]] = ("teacher", "student")
    """What is trained, in order."""

    ranges: ClassVar[Mapping[str, Range]] = {}
    """Setting -> the values that it may have; a constructor (or `build`) asks `within`."""
    check_settings: ClassVar[Mapping[str, Any]] = {}
    """The settings with which `check_method` builds it, where the defaults leave a part untrained for some steps."""
    section: ClassVar[str] = ""
    """The section of the settings that is its own, instead of `options.<name>`."""

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Setting -> its default; the settings are the arguments of the constructor that have one."""
        return keyword_defaults(cls)

    @classmethod
    def fixed(cls) -> bool:
        """Whether its settings cannot be changed: a preset that is known by its name."""
        return False

    @classmethod
    def means_something(cls, task: Task | type[Task]) -> bool:
        """Whether the method has a meaning for a task (or a class of tasks)."""
        return task.kind in cls.tasks

    @classmethod
    def within(cls, **settings: Any) -> None:
        """Refuse settings outside of `ranges` (ConfigError)."""
        check_ranges(f"options.{cls.__name__.lower()}", cls.ranges, settings)

    @classmethod
    def refuse(cls, task: Task, name: str) -> None:
        """Refuse a task on which the method has no meaning.

        Raises:
            ConfigError: names the method, the task and what to use instead.
        """
        if not cls.means_something(task):
            instead = cls.instead or f"it needs {' or '.join(cls.tasks)}"
            raise ConfigError(f"method {name!r} has no meaning for {task.name}: {instead}.")

    @classmethod
    def check_experiment(cls, name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        """Refuse, before anything is trained, settings or data with which the method could not be built.

        Args:
            name: what the experiment calls it.
            config: a settled configuration: what is available and privileged is in it.
            shapes: modality -> one row's shape.

        Raises:
            ConfigError: names the method and the mend.
        """


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
    balance: Literal["fixed", "target-ratio", "gradnorm"] = "fixed"
    """How its terms are weighed unless the settings say otherwise: a kind of `BalanceConfig`."""
    within_teacher_folds: bool = False
    """Each batch is drawn from the rows of one cross-fitted teacher (relational terms compare rows of one space)."""

    def __init__(self, task: Task):
        super().__init__()
        self.task = task
        self.weights = {}

    def terms(self, batch: Batch, clock: TrainState) -> dict[str, Tensor]:
        """Unweighted named scalars of one batch."""
        raise TypeError(f"{type(self).__name__} must define terms() or steps()")

    def steps(self, batch: Batch, clock: TrainState) -> Iterator[Step]:
        """The optimiser steps of one batch; by default one step of the group "main"."""
        yield Step("main", self.terms(batch, clock))

    def groups(self) -> dict[str, list[Parameter]]:
        """Group name -> its parameters: every trainable parameter in exactly one group, one optimiser per group."""
        return {"main": [p for p in self.parameters() if p.requires_grad]}

    def export(self) -> Network:
        """The network that is deployed, without the rest."""
        raise TypeError(f"{type(self).__name__} must define export()")

    def shared(self) -> list[Parameter]:
        """The parameters on which GradNorm compares the terms' gradients: by default those of the network's fusion.

        The last ones on which every term depends, so a method whose terms lie before the fusion has others; [] where
        there are none.
        """
        network = self.export()
        fusion = [p for p in network.fusion.parameters() if p.requires_grad]
        return fusion or [p for p in network.parameters() if p.requires_grad]

    def score(self, select: Batch) -> float:
        """What chooses the epoch, higher is better: by default the task's primary metric of `export()`."""
        rows = torch.arange(len(select), device=select.index.device)
        kept = predict_in_chunks(self.export(), select, rows, self.task.compact_answer)
        return self.task.score(kept, select.truth, select.labelled)


class Supervised(Method):
    """Task loss alone. Trains teachers (network reads everything) and baselines (network reads what is available)."""

    def __init__(self, network: Network, task: Task):
        super().__init__(task)
        self.network = network
        self.reads = network.reads

    def terms(self, batch: Batch, clock: TrainState) -> dict[str, Tensor]:
        outputs: Output = self.network(batch)
        return {"task": self.task.loss(outputs.prediction, batch.target, batch.labelled)} | outputs.losses

    def export(self) -> Network:
        return self.network
