"""What a method of several stages is given to build itself from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from torch import nn

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.methods.base import Method
from sidelight.methods.teacher_outputs import TeacherOutputs
from sidelight.networks.network import Network, Output
from sidelight.tasks import Task

FusionChoice = Literal["", "concat", "cross-translation"]
"""The fusion of a method's own student; "" is the fusion of the experiment's settings."""


class TrainingContext(Protocol):
    """The rows, networks and settings of one job, as `MultiStageMethod.build` sees them.

    Every network is trained only on the rows that the job may see, and every draw of first weights depends on the fold
    and the seed alone.

    Attributes:
        config: the experiment's settings, with every default filled in.
        task: the task, fitted to the labels of the train rows.
        available: the modalities that the deployed student reads.
        privileged: the modalities of training only.
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
        """A network with fresh weights that reads these modalities; every call gives the same weights."""

    def trained(self, reads: Sequence[str]) -> Network:
        """A copy of the network on these modalities that the task loss alone has trained, in evaluation mode."""

    def student(
        self, start: Network, hallucinate: str | Mapping[str, nn.Module] = "", fusion: FusionChoice = ""
    ) -> Network:
        """A student that starts from the weights of `start` wherever the two networks agree.

        Args:
            hallucinate: "" for no privileged slots, "t-net" for frozen T-Nets trained on the teacher's features,
                "encoder" for trainable networks on the available modalities, or the modules themselves.
            fusion: the student's fusion, where the method needs one of its own; it starts from fresh weights.
        """

    def hallucination_networks(self, start: Network, target: Network | None = None) -> dict[str, nn.Module]:
        """Privileged modality -> a trainable network on the available ones, with encoders that start from `start`.

        Its features have the shape of those of `target` (by default, of `start`).
        """

    def translation_networks(self, start: Network) -> dict[str, nn.Module]:
        """Privileged modality -> a network that translates available rows into its rows and encodes them."""

    def outputs(self, network: Network, part: str = "train") -> Output:
        """The network's outputs on every row of a part, computed once, in evaluation mode."""

    def teacher_outputs(self, network: Network, part: str = "train") -> TeacherOutputs:
        """The network as a teacher: its outputs on every row, cached where they fit in memory."""

    def fit(self, method: Method, stage: str) -> None:
        """Train an earlier stage on the job's rows; `stage` names its checkpoint."""
