"""Adversarial mutual information distillation: teacher and student trained together (AMID)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.errors import SidelightWarning
from sidelight.losses.contrastive import class_nce
from sidelight.losses.distribution import jeffreys, jensen_shannon
from sidelight.losses.mutual_information import mutual_information
from sidelight.methods.base import Method, Step, TrainState
from sidelight.methods.context import TrainingContext
from sidelight.methods.discriminators import SLOPE, Discriminators
from sidelight.methods.multi_stage import MultiStageMethod
from sidelight.methods.ranges import ABOVE_0, BELOW_1, COUNT, FROM_0
from sidelight.methods.teacher_outputs import CachedTensors, rows_where, select_rows
from sidelight.networks.build import feature_shape
from sidelight.networks.network import Network, Output
from sidelight.networks.tokens import num_channels, pool
from sidelight.tasks import Task

WARMUP = 5
"""Epochs with CE and JSD alone, by default."""


class FullModality(nn.Module):
    """M, the teacher beside the student: every extractor's features, concatenated, -> (B, F) by a 2-layer MLP.

    It ends as the student's fusion does (ReLU), so that both can lie in one space; the student's head, and the dropout
    before it, read both.
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

    S is the student, the network that leaves; A the auxiliary, trained on the privileged modalities alone and then
    fixed; M the teacher, a 2-layer MLP over the features of S's own encoders and of A's, read out by S's head:

        L = CE(S) + CE(M) + JSD(S, M) + α₁ L_MI(M, S) + α₂ L_MI(M, A) + α₃ L_adv(S)        (eq. 15–17)

    L_MI are the label-aware bounds (eq. 7–9) on cosine / τ of fused embeddings, L_adv and the discriminators' own step
    eq. 11–14 (`Discriminators`), before which `warmup` epochs have CE and JSD alone. L_adv gives M no gradient but
    through the encoders that M shares with S.

    The bounds are sums over a row's pairs, so they grow with the rows per class: the paper's weights were chosen for
    batches of 16 and 51 classes. With few classes and batches of 128 smaller `mi_student` and `mi_auxiliary` serve.

    A departure: the paper changes all activation functions to LeakyReLU (section 4.2; in table 1 the compared methods'
    too); here M's hidden layer and the discriminators have it, S, A and the end of M keep their own.

    Our reading where the paper is silent: S begins with fresh weights; M ends as S's fusion does; discriminators have
    hidden layers of F units and step before the rest. A row without a label is in JSD and before D1; one without any
    privileged modality teaches CE(S) alone. The paper's warm-up is 20 epochs of many (5 on IEMOCAP); here it is 5,
    since the usual budget is 50 epochs with a patience of 10.
    """

    paper = "Chen et al., CVPR 2023"
    tasks = ("classification",)
    instead = "its bounds and its shared classifier need classes; use 'pkdot', which compares rows without them"
    online = True
    stages = ("auxiliary", "teacher and student")
    learns_from = "all"
    ranges = {
        "temperature": ABOVE_0, "warmup": COUNT, "mi_student": FROM_0, "mi_auxiliary": FROM_0, "adversarial": FROM_0,
        "beta": BELOW_1,
    }  # fmt: skip
    check_settings = {"warmup": 0, "mi_student": 0.4, "mi_auxiliary": 0.16, "adversarial": 0.1}
    """Every term from the first step on. The bounds are sums over pairs: with three classes in a batch the paper's
    weights drown the task (see above). The adversarial term, which rises as the discriminators learn, is kept small."""

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
        warmup, epochs = config.options.get(name, {}).get("warmup", WARMUP), config.training.epochs
        if warmup >= epochs:
            warnings.warn(
                f"options.{name}.warmup={warmup} leaves none of {epochs} epochs to the bounds and the discriminators; "
                "train longer or shorten it",
                SidelightWarning,
                stacklevel=2,
            )

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
        """Pretrain the auxiliary, and put the networks together.

        The paper's ablations: `fixed_teacher` (the fold's own teacher, frozen, with its own head and without
        L_MI(M, A)), `warmup=0`, `second_discriminator=no`, `adaptive_weights=no`, `contrast=nce` (CCL's contrast over
        classes in the place of the bounds).

        Args:
            temperature: τ; 0.5 for video, 0.6 for IEMOCAP.
            warmup: epochs with CE and JSD alone.
            mi_student: α₁, the weight of L_MI(M, S).
            mi_auxiliary: α₂, the weight of L_MI(M, A).
            adversarial: α₃, the weight of L_adv(S).
            beta: β of the discriminators' weights.
            divergence: "lin" for Lin's JSD, "jeffreys" for the sum of both KL divergences.
            contrast: "mi" for the bounds, "nce" for CCL's contrast over classes in their place.
            second_discriminator: whether the second discriminator (D2) takes part.
            adaptive_weights: whether the discriminators' weights follow how well M and S are aligned (eq. 14); False:
                ½ each.
            fixed_auxiliary: whether the auxiliary stays as it was pretrained.
            fixed_teacher: whether the fold's own teacher, frozen, takes the place of M.
        """
        cls.within(
            temperature=temperature, warmup=warmup, mi_student=mi_student, mi_auxiliary=mi_auxiliary,
            adversarial=adversarial, beta=beta,
        )  # fmt: skip
        student = context.network(context.available)
        network = context.config.network
        teacher: FullModality | CachedTensors
        auxiliary: Network | CachedTensors | None = None
        if fixed_teacher:
            outputs = context.outputs(context.trained([*context.available, *context.privileged]))
            teacher = CachedTensors({"embedding": outputs.embedding, "prediction": outputs.prediction})
        else:
            auxiliary = context.trained(context.privileged)
            auxiliary.head = nn.Identity()  # what A predicts has no part in the loss
            sizes = [num_channels(shape) for n in (student, auxiliary) for shape in feature_shape(n).values()]
            if fixed_auxiliary:
                outputs = context.outputs(auxiliary)
                features = {m: outputs.vector(m) for m in outputs.features}
                auxiliary = CachedTensors({"embedding": outputs.embedding} | features)
            context.seed()
            teacher = FullModality(sizes, network.width)
        discriminators = Discriminators(network.width, second_discriminator, adaptive_weights, beta)
        method = cls(
            student, teacher, auxiliary, discriminators, context.task, context.privileged,
            temperature=temperature, warmup=warmup, contrast=contrast, divergence=divergence,
        )  # fmt: skip
        method.weights = {"mi student": mi_student, "mi auxiliary": mi_auxiliary, "adversarial": adversarial}
        return method

    def steps(self, batch: Batch, clock: TrainState) -> Iterator[Step]:
        student = self.student(batch)
        teacher, prediction, auxiliary = self._teach(student, batch)
        terms = {"task": self.task.loss(student.prediction, batch.target, batch.labelled)} | student.losses
        rows = self._rows_with_privileged(batch)
        target, labelled, prediction = (select_rows(x, rows) for x in (batch.target, batch.labelled, prediction))
        if self.auxiliary is not None:
            terms["teacher"] = self.task.loss(prediction, target, labelled)
        terms["jsd"] = self.divergence(select_rows(student.prediction, rows), prediction, detach=False)
        if clock.epoch < self.warmup:
            yield Step("main", terms)
            return
        s, m, label = select_rows(student.embedding, rows), select_rows(teacher, rows), target.where(labelled, -1)
        self.discriminators.observe(clock.epoch, s, m, label)
        yield Step("discriminators", {"discriminate": self.discriminators.discriminate(s.detach(), m.detach(), label)})
        terms["mi student"] = self.bound(m, s, label, self.temperature)
        if auxiliary is not None:
            terms["mi auxiliary"] = self.bound(m, select_rows(auxiliary, rows), label, self.temperature)
        yield Step("main", terms | {"adversarial": self.discriminators.fool(s, label)})

    def _teach(self, student: Output, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """M's embedding (B, F) and prediction (B, C) of every row, and A's embedding (B, F)."""
        if isinstance(self.teacher, CachedTensors):
            kept = self.teacher(batch.index)
            return kept["embedding"], kept["prediction"], None
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
        """The positions of the rows that have a privileged modality; None: all."""
        there = torch.zeros_like(batch.labelled)
        for m in self.privileged:
            there = there | batch.present.get(m, torch.ones_like(there))
        return rows_where(there)

    def groups(self) -> dict[str, list[Parameter]]:
        against = {id(p) for p in self.discriminators.parameters()}
        trained = [p for p in self.parameters() if p.requires_grad]
        return {
            "discriminators": [p for p in trained if id(p) in against],
            "main": [p for p in trained if id(p) not in against],
        }

    def shared(self) -> list[Parameter]:
        """The encoders: M reads their features, not the student's fusion."""
        return [p for p in self.student.encoders.parameters() if p.requires_grad]

    def export(self) -> Network:
        return self.student
