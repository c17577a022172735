"""The interface through which a method of several stages reads rows, builds networks and trains its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor, nn

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.methods.base import Method
from sidelight.methods.teacher_outputs import TeacherOutputs
from sidelight.networks.network import Network, Output, OutputParts
from sidelight.tasks import Task

if TYPE_CHECKING:
    from sidelight.methods.distillation import Teacher

FusionChoice = Literal["", "concat", "cross-translation"]
"""The fusion of the student, where the method needs a particular one; "" for the fusion of the settings."""


class TrainingContext(Protocol):
    """The rows, networks and settings of one job, as `MultiStageMethod.build` sees them.

    Networks are trained only on the rows that the job may see. Initial weights depend on the fold and the seed alone.

    Attributes:
        config: the experiment's settings, with every default filled in.
        task: the task, fitted to the labels of the train rows.
        available: the modalities that the deployed student reads.
        privileged: the modalities that exist in training only.
    """

    @property
    def config(self) -> Config: ...

    @property
    def task(self) -> Task: ...

    @property
    def available(self) -> list[str]: ...

    @property
    def privileged(self) -> list[str]: ...

    def seed(self) -> None:
        """Seed torch, so that the weights drawn next depend on the fold and the seed alone."""

    def rows(self, part: str = "train") -> Batch:
        """The "train" or "select" rows."""

    def network(
        self, reads: Sequence[str], hallucinators: Mapping[str, nn.Module] | None = None, fusion: FusionChoice = ""
    ) -> Network:
        """Build a network with fresh weights; every call gives the same weights.

        Args:
            reads: the modalities that the network reads.
            hallucinators: privileged modality -> the module that fills its slot.
            fusion: the fusion, where the method needs a particular one.
        """

    def trained_network(self, reads: Sequence[str]) -> Network:
        """A copy of the network on these modalities, trained on the task loss alone, in evaluation mode.

        It is trained on the first call for these modalities and stored.
        """

    def student(
        self, start: Network, hallucinate: str | Mapping[str, nn.Module] = "", fusion: FusionChoice = ""
    ) -> Network:
        """Build a student that starts from the weights of `start` wherever the two networks have the same parts.

        Args:
            start: the network to start from, usually the teacher.
            hallucinate: "" for no privileged slots, "t-net" for frozen T-Nets trained on the teacher's features,
                "encoder" for trainable networks on the available modalities, or the modules themselves.
            fusion: the fusion, where the method needs a particular one; it starts from fresh weights.
        """

    def hallucination_networks(self, start: Network, target: Network | None = None) -> dict[str, nn.Module]:
        """Privileged modality -> a trainable network that hallucinates its features from the available modalities.

        Args:
            start: the network whose encoders the hallucination networks start from.
            target: the network whose feature shapes they produce; `start` by default.
        """

    def translation_networks(self, start: Network) -> dict[str, nn.Module]:
        """Privileged modality -> a network that translates available inputs into its inputs, and encodes these."""

    def outputs(self, network: Network, part: str = "train") -> Output:
        """Compute the outputs of a network on every "train" or "select" row, in evaluation mode."""

    def teacher_outputs(self, network: Network, part: str = "train") -> TeacherOutputs:
        """The outputs of a network on every "train" or "select" row, cached where they fit in memory."""

    def baseline(self) -> tuple[Method, float]:
        """The fold's baseline as a trained method, and its score (as of `fit`)."""

    def teachers(self, crossfit: bool, reads: OutputParts) -> Teacher | Mapping[str, Teacher]:
        """The teacher of the job, or one for each set of `teacher.sets`, by name.

        Args:
            crossfit: whether rows are taught by cross-fitted siblings of the teacher.
            reads: the parts of their outputs that are read.
        """

    def fit(self, method: Method, stage: str, teacher_fold: Tensor | None = None) -> float:
        """Train an earlier stage on the rows of the job, or a candidate for the last one.

        A method that was trained here and that `build` returns is not trained again.

        Args:
            method: the method of the stage; its networks are trained in place.
            stage: the name of the stage, from which the checkpoint is named.
            teacher_fold: (train rows,) int64, the cross-fitted teacher of each train row; None without cross-fitting.

        Returns:
            The score of its best epoch on the select rows, or its mean over the inner folds; higher is better.
        """
