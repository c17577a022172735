"""ADMD: a hallucination network learns to make privileged features that a discriminator takes for real ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.data.batch import Batch
from sidelight.methods.base import Method, Step, Supervised, TrainState
from sidelight.methods.context import TrainingContext
from sidelight.methods.discriminators import discriminator
from sidelight.methods.distillation import Teacher
from sidelight.methods.multi_stage import MultiStageMethod
from sidelight.methods.ranges import SOME
from sidelight.networks.network import Network
from sidelight.networks.tokens import pool
from sidelight.tasks import Task


class AdversarialHallucination(Method):
    """The adversarial stage: a (C + 1)-way discriminator per privileged modality against its hallucination network.

    critic: CE(D(f), y) + CE(D(h), C) for the teacher's features f and hallucinated ones h (class C: "made up").
    main: CE(D(h), y), so that h is taken for a real feature *of its class*. y of an unlabelled row is the
    teacher's own choice. Rows without the modality take no part.
    """

    learns_from = "all"

    def __init__(self, student: Network, teacher: Teacher, task: Task, hidden: int):
        super().__init__(task)
        self.student, self.teacher = student, teacher
        self.reads = student.reads
        student.requires_grad_(False)
        student.hallucinators.requires_grad_(True)
        widths = {m: teacher.outputs.sample.vector(m).shape[1] for m in student.hallucinators}
        self.critics = nn.ModuleDict({m: discriminator(w, 3, hidden, task.outputs + 1) for m, w in widths.items()})

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"critic": list(self.critics.parameters()), "main": list(self.student.hallucinators.parameters())}

    def steps(self, batch: Batch, clock: TrainState) -> Iterator[Step]:
        outputs = self.teacher(batch)
        classes = batch.target.where(batch.labelled, outputs.prediction.argmax(1))
        made = {m: pool(network(batch)) for m, network in self.student.hallucinators.items()}
        fake = torch.full_like(classes, self.task.outputs)
        critic, main = {}, {}
        for m, h in made.items():
            there = batch.present.get(m)
            real = self._entropy(m, outputs.vector(m), classes, there)
            critic[f"critic {m}"] = real + self._entropy(m, h.detach(), fake, there)
        yield Step("critic", critic)
        for m, h in made.items():
            main[f"fool {m}"] = self._entropy(m, h, classes, batch.present.get(m))
        yield Step("main", main)

    def _entropy(self, m: str, features: Tensor, classes: Tensor, there: Tensor | None) -> Tensor:
        each = F.cross_entropy(self.critics[m](features), classes, reduction="none")
        return each.mean() if there is None else (each * there).sum() / there.sum().clamp(min=1)

    def export(self) -> Network:
        return self.student


class ADMD(MultiStageMethod):
    """Adversarial discriminative modality distillation: hallucination against a (C+1)-way discriminator, fine-tuned.

    Three stages: the teacher; hallucination networks on the available modalities, begun from the teacher's encoders,
    against the discriminator (`AdversarialHallucination`; the epoch is chosen by the teacher's own fusion and head on
    hallucinated features); the student of both, fine-tuned on the task loss. OS-MD calls it ADDA. Our reading:
    the discriminator has three layers, and unlabelled rows have the class that the teacher gives them. No numbered
    equation is cited.

    Args:
        hidden: units of the discriminator's two hidden layers.
    """

    tasks = ("classification",)
    instead = "its discriminator names classes; use 'mers', which matches hallucinated features"
    paper = "Garcia et al., TPAMI 2019"
    stages = ("teacher", "hallucination", "student")
    hallucinates = "encoder"
    ranges = {"hidden": SOME}

    @classmethod
    def build(cls, context: TrainingContext, hidden: int = 256) -> Method:
        cls.within(hidden=hidden)
        start = context.trained([*context.available, *context.privileged])
        student = context.student(start, "encoder")
        trained = [p for p in student.parameters() if p.requires_grad]  # without encoders that `student.freeze` keeps
        context.seed()
        adversarial = AdversarialHallucination(student, Teacher(context.teacher_outputs(start)), context.task, hidden)
        context.fit(adversarial, "hallucination")
        for p in trained:
            p.requires_grad_(True)
        return Supervised(student, context.task)
