"""Adversarial mutual information distillation: teacher and student trained together (AMID)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.losses.contrastive import class_nce
from sidelight.losses.distribution import jeffreys, jensen_shannon
from sidelight.losses.mutual_information import mutual_information
from sidelight.methods.base import Method, Step, TrainState, trainable_parameters
from sidelight.methods.context import TrainingContext
from sidelight.methods.discriminators import SLOPE, Discriminators
from sidelight.methods.multi_stage import MultiStageMethod, warn_of_late_start
from sidelight.methods.ranges import BELOW_ONE, NON_NEGATIVE, NON_NEGATIVE_INT, POSITIVE
from sidelight.methods.teacher_outputs import CachedTensors, rows_where, select_rows
from sidelight.networks.build import feature_shape
from sidelight.networks.network import Network, Output
from sidelight.networks.tokens import num_channels, pool
from sidelight.tasks import Task

WARMUP = 5
"""The default number of epochs with CE and JSD alone."""


class FullModality(nn.Module):
    """M, the teacher that is trained beside the student: a 2-layer MLP from all features, concatenated, to (B, F).

    It ends with a ReLU, as the student's fusion does, so that both embeddings lie in one space. The student's head, and
    the dropout before it, read both.

    Args:
        sizes: the width of each feature vector.
        width: F.
    """

    def __init__(self, sizes: Sequence[int], width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(sum(sizes), width), nn.LeakyReLU(SLOPE), nn.Linear(width, width), nn.ReLU()
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        out: Tensor = self.layers(torch.cat([pool(f) for f in features], dim=1))
        return out


class AMID(MultiStageMethod):
    """Adversarial mutual information distillation: the teacher learns beside the student, a pretrained auxiliary helps.

    S is the student, which is deployed. A is the auxiliary, trained on the privileged modalities alone and then frozen.
    M is the teacher, a 2-layer MLP over the features of S's encoders and of A's; S's head predicts from its embedding:

        L = CE(S) + CE(M) + JSD(S, M) + α₁ L_MI(M, S) + α₂ L_MI(M, A) + α₃ L_adv(S)        (eq. 15–17)

    L_MI are the label-aware bounds (eq. 7–9) on cosine / τ of fused embeddings. L_adv and the step of the
    discriminators are eq. 11–14 (`Discriminators`); the first `warmup` epochs train CE and JSD alone. L_adv reaches M
    only through the encoders that M shares with S.

    The bounds are sums over the pairs of a row, so they grow with the number of rows per class. The paper chose its
    weights for batches of 16 and 51 classes; with few classes and batches of 128, lower `mi_student` and
    `mi_auxiliary`.

    We depart from the paper in one point: it changes all activation functions to LeakyReLU (section 4.2; in table 1
    those of the compared methods too). Here M's hidden layer and the discriminators use LeakyReLU; S, A and the end of
    M keep their activations.

    Our choices where the paper gives no detail: S starts from fresh weights; M ends with a ReLU, as S's fusion does;
    discriminators have hidden layers of F units, and their step comes first. An unlabelled row contributes to JSD and
    to D1; a row without any privileged modality contributes to CE(S) alone. The paper warms up for 20 epochs of many (5
    on IEMOCAP); here the default is 5, because the default budget is 50 epochs with a patience of 10.
    """

    paper = "Chen et al., CVPR 2023"
    tasks = ("classification",)
    alternative = "its bounds and its shared classifier need classes; use 'pkdot', which compares rows without them"
    online = True
    stages = ("auxiliary", "teacher and student")
    learns_from = "all"
    ranges = {
        "temperature": POSITIVE,
        "warmup": NON_NEGATIVE_INT,
        "mi_student": NON_NEGATIVE,
        "mi_auxiliary": NON_NEGATIVE,
        "adversarial": NON_NEGATIVE,
        "beta": BELOW_ONE,
    }
    check_settings = {"warmup": 0, "mi_student": 0.4, "mi_auxiliary": 0.16, "adversarial": 0.1}
    """Every term takes part from the first step. The bounds are sums over pairs: with three classes in a batch the
    paper's weights dominate the task loss (see above). The adversarial term grows as the discriminators learn, so its
    weight is small."""

    def __init__(
        self,
        student: Network,
        teacher: FullModality | CachedTensors,
        auxiliary: Network | CachedTensors | None,
        discriminators: Discriminators,
        task: Task,
        privileged: Sequence[str],
        *,
        temperature: float,
        warmup: int,
        contrast: Literal["mi", "nce"],
        divergence: Literal["lin", "jeffreys"],
    ):
        super().__init__(task)
        self.student, self.teacher, self.auxiliary, self.discriminators = student, teacher, auxiliary, discriminators
        self.privileged = tuple(privileged)
        self.reads = None if isinstance(auxiliary, Network) else student.reads
        self.temperature, self.warmup = temperature, warmup
        self.bound = mutual_information if contrast == "mi" else partial(class_nce, detach=False)
        self.divergence = jensen_shannon if divergence == "lin" else jeffreys

    @classmethod
    def check_experiment(cls, name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        unused = "the bounds and the discriminators; train longer or shorten it"
        warn_of_late_start(name, "warmup", WARMUP, config, unused)

    @classmethod
    def build(
        cls,
        context: TrainingContext,
        *,
        temperature: float = 0.5,
        warmup: int = WARMUP,
        mi_student: float = 4.0,
        mi_auxiliary: float = 1.6,
        adversarial: float = 1.0,
        beta: float = 0.9,
        divergence: Literal["lin", "jeffreys"] = "lin",
        contrast: Literal["mi", "nce"] = "mi",
        second_discriminator: bool = True,
        adaptive_weights: bool = True,
        fixed_auxiliary: bool = True,
        fixed_teacher: bool = False,
    ) -> Method:
        """Pretrain the auxiliary, and assemble student, teacher and discriminators.

        The paper's ablations are `fixed_teacher`, `warmup=0`, `second_discriminator=no`, `adaptive_weights=no` and
        `contrast=nce`.

        Args:
            context: the rows, networks and settings of the job.
            temperature: τ; 0.5 for video, 0.6 for IEMOCAP.
            warmup: epochs with CE and JSD alone.
            mi_student: α₁, the weight of L_MI(M, S).
            mi_auxiliary: α₂, the weight of L_MI(M, A).
            adversarial: α₃, the weight of L_adv(S).
            beta: β of the discriminators' weights.
            divergence: "lin" for Lin's JSD, "jeffreys" for the sum of both KL divergences.
            contrast: "mi" for the bounds, "nce" for CCL's contrast over classes.
            second_discriminator: whether the second discriminator, D2, takes part.
            adaptive_weights: whether the weights of the discriminators follow the alignment of M and S (eq. 14); False:
                ½ each.
            fixed_auxiliary: whether the auxiliary is frozen after its pretraining.
            fixed_teacher: whether M is the fold's teacher, frozen, with its own head and without L_MI(M, A).

        Raises:
            ConfigError: a setting outside of its range.
        """
        cls.validate_settings(
            temperature=temperature, warmup=warmup, mi_student=mi_student, mi_auxiliary=mi_auxiliary,
            adversarial=adversarial, beta=beta,
        )  # fmt: skip
        student = context.network(context.available)
        network = context.config.network
        teacher: FullModality | CachedTensors
        auxiliary: Network | CachedTensors | None = None
        if fixed_teacher:
            # The ablation: a finished teacher, whose outputs are cached.
            outputs = context.outputs(context.trained_network([*context.available, *context.privileged]))
            teacher = CachedTensors({"embedding": outputs.embedding, "prediction": outputs.prediction})
        else:
            auxiliary = context.trained_network(context.privileged)
            auxiliary.head = nn.Identity()  # the loss reads A's embedding, not its prediction
            shapes = [*feature_shape(student).values(), *feature_shape(auxiliary).values()]
            if fixed_auxiliary:
                # A frozen auxiliary gives the same outputs at every step, so they are computed once.
                outputs = context.outputs(auxiliary)
                features = {m: outputs.vector(m) for m in outputs.features}
                auxiliary = CachedTensors({"embedding": outputs.embedding} | features)
            context.seed()
            teacher = FullModality([num_channels(shape) for shape in shapes], network.width)
        discriminators = Discriminators(network.width, second_discriminator, adaptive_weights, beta)
        method = cls(
            student, teacher, auxiliary, discriminators, context.task, context.privileged,
            temperature=temperature, warmup=warmup, contrast=contrast, divergence=divergence,
        )  # fmt: skip
        method.weights = {"mi student": mi_student, "mi auxiliary": mi_auxiliary, "adversarial": adversarial}
        return method

    def steps(self, batch: Batch, state: TrainState) -> Iterator[Step]:
        student = self.student(batch)
        teacher, prediction, auxiliary = self._teacher_outputs(student, batch)
        terms = {"task": self.task.loss(student.prediction, batch.target, batch.labelled)} | student.losses

        # Rows without any privileged modality have no teacher: they contribute to the student's task loss alone.
        rows = self._rows_with_privileged(batch)
        target, labelled = select_rows(batch.target, rows), select_rows(batch.labelled, rows)
        prediction = select_rows(prediction, rows)
        if self.auxiliary is not None:
            terms["teacher"] = self.task.loss(prediction, target, labelled)
        terms["jsd"] = self.divergence(select_rows(student.prediction, rows), prediction, detach=False)
        if state.epoch < self.warmup:
            yield Step("main", terms)
            return

        s, m = select_rows(student.embedding, rows), select_rows(teacher, rows)
        label = target.where(labelled, -1)
        self.discriminators.observe(state.epoch, s, m, label)
        yield Step("discriminators", {"discriminate": self.discriminators.discriminate(s.detach(), m.detach(), label)})

        terms["mi student"] = self.bound(m, s, label, self.temperature)
        if auxiliary is not None:
            terms["mi auxiliary"] = self.bound(m, select_rows(auxiliary, rows), label, self.temperature)
        yield Step("main", terms | {"adversarial": self.discriminators.fool(s, label)})

    def _teacher_outputs(self, student: Output, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """M's embedding (B, F) and prediction (B, C) of every row, and A's embedding (B, F)."""
        if isinstance(self.teacher, CachedTensors):
            cached = self.teacher(batch.index)
            return cached["embedding"], cached["prediction"], None
        if isinstance(self.auxiliary, CachedTensors):
            features = self.auxiliary(batch.index)
            auxiliary = features.pop("embedding")
        else:
            assert self.auxiliary is not None
            outputs = self.auxiliary(batch)
            features, auxiliary = outputs.features, outputs.embedding
        embedding = self.teacher([*student.features.values(), *features.values()])
        return embedding, self.student.forward_head(embedding), auxiliary

    def _rows_with_privileged(self, batch: Batch) -> Tensor | None:
        """The positions of the rows that have a privileged modality; None for all rows."""
        present = torch.zeros_like(batch.labelled)
        for m in self.privileged:
            present = present | batch.present.get(m, torch.ones_like(present))
        return rows_where(present)

    def groups(self) -> dict[str, list[Parameter]]:
        critics = {id(p) for p in self.discriminators.parameters()}
        groups: dict[str, list[Parameter]] = {"discriminators": [], "main": []}
        for p in trainable_parameters(self):
            groups["discriminators" if id(p) in critics else "main"].append(p)
        return groups

    def shared_parameters(self) -> list[Parameter]:
        """The parameters of the encoders: M reads their features, not the student's fusion."""
        return trainable_parameters(self.student.encoders)

    def deployed_network(self) -> Network:
        return self.student
