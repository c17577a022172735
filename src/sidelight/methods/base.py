"""The contract of a method: named loss terms of a batch, the parameters they train, and the deployed network."""

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
    """The position in a training stage.

    Attributes:
        epoch: the epoch, from 0.
        epochs: the number of epochs of the stage, if early stopping does not end it.
        step: the optimiser step since the start of the stage, from 0.
    """

    epoch: int = 0
    epochs: int = 1
    step: int = 0


class Step(NamedTuple):
    """One optimiser step.

    Attributes:
        group: the parameter group that the step updates, a key of `Method.groups`.
        terms: name -> unweighted scalar loss.
    """

    group: str
    terms: dict[str, Tensor]


def keyword_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a function (or constructor) that have a default: name -> default."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def trainable_parameters(module: nn.Module) -> list[Parameter]:
    """The parameters of a module that are not frozen."""
    return [p for p in module.parameters() if p.requires_grad]


class MethodInfo:
    """The metadata of a registered method: `sidelight methods` prints it, and experiments are checked against it."""

    paper: ClassVar[str] = ""
    """The source, such as "Hinton et al. 2015"."""
    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression", "segmentation")
    """The kinds of task that the method supports (`Task.kind`)."""
    alternative: ClassVar[str] = ""
    """Why the method does not support the other kinds, and what to use there: the end of the error message."""
    online: ClassVar[bool] = False
    """Whether teacher and student are trained together, not one after the other."""
    stages: ClassVar[tuple[str, ...]] = ("teacher", "student")
    """The networks that are trained, in order."""

    ranges: ClassVar[Mapping[str, Range]] = {}
    """Setting -> its range. The constructor (or `build`) calls `validate_settings`."""
    check_settings: ClassVar[Mapping[str, Any]] = {}
    """The settings with which `check_method` builds it, if the defaults leave a part untrained for some steps."""
    check_study: ClassVar[Mapping[str, Any]] = {}
    """The settings of the study in which `check_method` builds a method of several stages, if it does not suit one with
    a single available modality and two privileged ones (`phone`; `watch`, `pulse`)."""
    section: ClassVar[str] = ""
    """The section of the configuration that holds the settings of the method, if not `options.<name>`."""

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Setting -> its default; the settings are the arguments of the constructor that have a default."""
        return keyword_defaults(cls)

    @classmethod
    def fixed(cls) -> bool:
        """Whether its settings cannot be changed, because it is a named preset."""
        return False

    @classmethod
    def supports_task(cls, task: Task | type[Task]) -> bool:
        """Whether the method supports a task (or a class of tasks)."""
        return task.kind in cls.tasks

    @classmethod
    def validate_settings(cls, **settings: Any) -> None:
        """Check settings against `ranges`.

        Raises:
            ConfigError: names the setting, its range and the value.
        """
        check_ranges(f"options.{cls.__name__.lower()}", cls.ranges, settings)

    @classmethod
    def check_task(cls, task: Task, name: str) -> None:
        """Check that the method supports a task.

        Args:
            task: the task of the experiment.
            name: the registered name of the method, for the error.

        Raises:
            ConfigError: names the method, the task and what to use instead.
        """
        if not cls.supports_task(task):
            alternative = cls.alternative or f"it needs {' or '.join(cls.tasks)}"
            raise ConfigError(f"method {name!r} does not support {task.name}: {alternative}.")

    @classmethod
    def check_experiment(cls, name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        """Check, before anything is trained, that the method can be built with these settings and data.

        Args:
            name: the name of the method in the experiment.
            config: the settings, with every default filled in (available and privileged modalities too).
            task: the task of the experiment.
            shapes: modality -> the shape of one row.

        Raises:
            ConfigError: names the method and the mend.
        """


class Method(nn.Module):
    """A training method: losses, the parameters they train, and the network that is deployed.

    Most methods write only `terms`. Adversarial methods write `steps`, a generator of `Step`s: the training loop takes
    the gradient of each step's weighted terms with respect to the step's group, updates the group, and resumes the
    generator.
    """

    weights: dict[str, float]
    """Term name -> default weight; terms without an entry have weight 1."""
    logged: dict[str, Tensor]
    """Name -> scalar of the last batch that trains nothing, such as the share of rows that a choice kept; `terms` or
    `steps` sets it, and the record of the training holds its mean over each epoch."""
    chosen: dict[str, Any]
    """What the method chose inside the fold, for job.json, such as {"weight": 4.0}; values that JSON can hold."""
    reads_labels: ClassVar[bool] = True
    """Whether its losses read targets; without, `training.batches=balanced` draws its rows alike."""
    learns_from: ClassVar[str] = "labelled"
    """The training rows that batches are drawn from: "labelled" or "all"."""
    reads: tuple[str, ...] | None = None
    """The modalities that the training steps read; None for all."""
    balance: Literal["fixed", "target-ratio", "gradient-ratio", "gradnorm"] = "fixed"
    """The default loss weighting, a kind of `BalanceConfig`; the settings `balance.*` override it."""
    stackable: bool = False
    """Whether `terms` may run on several models at once: under `torch.vmap`, on batches with padding rows
    (`Batch.valid`). Then no branch may depend on the value of a tensor, and padding rows must not count."""
    within_teacher_folds: bool = False
    """Whether each batch holds the rows of one cross-fitted teacher (relational losses compare rows of one space)."""

    def __init__(self, task: Task):
        super().__init__()
        self.task = task
        self.weights = {}
        self.logged = {}
        self.chosen = {}

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        """Compute the unweighted losses of one batch.

        Args:
            batch: B rows.
            state: the position in training.

        Returns:
            Name -> scalar. The task loss is called "task".
        """
        raise TypeError(f"{type(self).__name__} must define terms() or steps()")

    def steps(self, batch: Batch, state: TrainState) -> Iterator[Step]:
        """Yield the optimiser steps of one batch; by default one step of the group "main" on `terms`."""
        yield Step("main", self.terms(batch, state))

    def groups(self) -> dict[str, list[Parameter]]:
        """Group name -> its parameters; each group has an optimiser of its own.

        Every trainable parameter is in exactly one group.
        """
        return {"main": trainable_parameters(self)}

    def deployed_network(self) -> Network:
        """The network that is deployed, without teachers, projections and critics."""
        raise TypeError(f"{type(self).__name__} must define export()")

    def shared_parameters(self) -> list[Parameter]:
        """The parameters at which GradNorm compares the gradients of the terms: by default those of the fusion.

        They are the last parameters on which every term depends. A method whose terms lie before the fusion overrides
        this; [] means that the terms share no trained parameter.
        """
        network = self.deployed_network()
        # A fusion may have no parameters (it concatenates); then every parameter of the network is compared.
        return trainable_parameters(network.fusion) or trainable_parameters(network)

    def score(self, select: Batch) -> float:
        """Compute the score that chooses the epoch; higher is better.

        By default it is the task's primary metric of the deployed network.

        Args:
            select: the select rows.
        """
        rows = torch.arange(len(select), device=select.index.device)
        answers = predict_in_chunks(self.deployed_network(), select, rows, self.task.compact_answer)
        return self.score_measured(answers, select)

    def measure(self, select: Batch) -> Tensor:
        """Compute what `score_measured` reads; a stack calls it for all models at once, in evaluation mode.

        Args:
            select: the select rows, in a stack with padding rows.

        Returns:
            The answers of the deployed network, with one row per sample, or a scalar.
        """
        return self.task.compact_answer(self.deployed_network()(select))

    def score_measured(self, measured: Tensor, select: Batch) -> float:
        """The `score` of what `measure` returned, without padding rows."""
        return float(self.task.score(measured, select.truth, select.labelled))


class Supervised(Method):
    """The task loss alone: trains teachers (on every modality) and baselines (on the available ones)."""

    def __init__(self, network: Network, task: Task):
        super().__init__(task)
        self.stackable = task.stackable
        self.network = network
        self.stackable = task.stackable
        self.reads = network.reads

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        outputs: Output = self.network(batch)
        return {"task": self.task.loss(outputs.prediction, batch.target, batch.counted)} | outputs.losses

    def deployed_network(self) -> Network:
        return self.network
