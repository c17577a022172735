"""ADMD: hallucination networks learn to produce privileged features that a discriminator cannot tell from real ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.data.batch import Batch
from sidelight.methods.base import Method, Step, Supervised, TrainState, trainable_parameters
from sidelight.methods.context import TrainingContext
from sidelight.methods.discriminators import build_discriminator
from sidelight.methods.distillation import Teacher
from sidelight.methods.multi_stage import MultiStageMethod
from sidelight.methods.ranges import POSITIVE_INT
from sidelight.networks.network import Network
from sidelight.networks.tokens import pool
from sidelight.tasks import Task
from sidelight.utils.precision import to_float32


class AdversarialHallucination(Method):
    """The adversarial stage: a (C + 1)-way discriminator D against the hallucination network, for each modality.

    critic: CE(D(f), y) + CE(D(h), C) for the teacher's features f and hallucinated features h; class C means
    "hallucinated". main: CE(D(h), y), so that D classifies h as a real feature of its class. For an unlabelled row y is
    the teacher's prediction. Rows without the modality are left out.

    Args:
        student: the network whose hallucination networks are trained; the rest of it is frozen here.
        teacher: the teacher's outputs.
        task: the task.
        hidden: the units of each hidden layer of D.
    """

    learns_from = "all"

    def __init__(self, student: Network, teacher: Teacher, task: Task, hidden: int):
        super().__init__(task)
        self.student, self.teacher = student, teacher
        self.teacher_outputs = teacher.outputs  # a module, so that it moves with the method
        self.reads = student.reads
        # The teacher's fusion and head score the hallucinated features, so they must not adapt to them.
        student.requires_grad_(False)
        student.hallucinators.requires_grad_(True)
        self.critics = nn.ModuleDict()
        for m in student.hallucinators:
            width = teacher.outputs.sample.vector(m).shape[1]
            self.critics[m] = build_discriminator(width, 3, hidden, task.outputs + 1)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"critic": list(self.critics.parameters()), "main": list(self.student.hallucinators.parameters())}

    def steps(self, batch: Batch, state: TrainState) -> Iterator[Step]:
        outputs = self.teacher(batch)
        classes = batch.target.where(batch.labelled, outputs.prediction.argmax(1))
        hallucinated = {m: pool(network(batch)) for m, network in self.student.hallucinators.items()}
        fake_class = torch.full_like(classes, self.task.outputs)

        critic = {}
        for m, features in hallucinated.items():
            present = batch.present.get(m)
            real = self._cross_entropy(m, outputs.vector(m), classes, present)
            # detach: this step trains the critic alone.
            critic[f"critic {m}"] = real + self._cross_entropy(m, features.detach(), fake_class, present)
        yield Step("critic", critic)

        # The loop has updated the critic by now, so the generator plays against the new one.
        main = {}
        for m, features in hallucinated.items():
            main[f"fool {m}"] = self._cross_entropy(m, features, classes, batch.present.get(m))
        yield Step("main", main)

    def _cross_entropy(self, m: str, features: Tensor, classes: Tensor, present: Tensor | None) -> Tensor:
        """Mean cross-entropy of the critic of a modality over the rows that have the modality."""
        per_row = F.cross_entropy(to_float32(self.critics[m](features)), classes, reduction="none")
        if present is None:
            return per_row.mean()
        return (per_row * present).sum() / present.sum().clamp(min=1)

    def deployed_network(self) -> Network:
        return self.student


class ADMD(MultiStageMethod):
    """Adversarial discriminative modality distillation: hallucination against a (C+1)-way discriminator, fine-tuned.

    It has three stages: the teacher; hallucination networks on the available modalities, which start from the teacher's
    encoders, against the discriminator (`AdversarialHallucination`; the score that chooses the epoch applies the
    teacher's fusion and head to the hallucinated features); the student with these networks, fine-tuned on the task
    loss. The OS-MD paper calls the method ADDA. Our choices where the paper gives no detail: the discriminator has
    three layers, and the teacher's prediction is the class of an unlabelled row. The paper numbers no equation for it.

    Args:
        hidden: the units of each hidden layer of the discriminator.
    """

    tasks = ("classification",)
    alternative = "its discriminator predicts classes; use 'mers', which matches hallucinated features"
    paper = "Garcia et al., TPAMI 2019"
    stages = ("teacher", "hallucination", "student")
    hallucinates = "encoder"
    ranges = {"hidden": POSITIVE_INT}

    @classmethod
    def build(cls, context: TrainingContext, hidden: int = 256) -> Method:
        cls.validate_settings(hidden=hidden)
        start = context.trained_network([*context.available, *context.privileged])
        student = context.student(start, "encoder")
        # With `student.freeze` this leaves out the encoders, which stay frozen in the last stage too.
        trained = trainable_parameters(student)
        context.seed()
        adversarial = AdversarialHallucination(student, Teacher(context.teacher_outputs(start)), context.task, hidden)
        context.fit(adversarial, "hallucination")
        for p in trained:
            p.requires_grad_(True)
        return Supervised(student, context.task)
