"""The models of a fold as one job sees them: implements `TrainingContext` for methods."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.experiment.artifacts import load_history
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.methods import Method, Supervised, Teacher
from sidelight.methods.context import FusionChoice
from sidelight.methods.teacher_outputs import TeacherOutputs
from sidelight.methods.teacher_sets import parse_teacher_sets
from sidelight.networks.hallucination import freeze
from sidelight.networks.network import EVERYTHING, Network, Output, OutputParts
from sidelight.tasks import Task
from sidelight.training import History


class JobContext:
    """A `TrainingContext`: the rows that one job may see, and networks trained on those rows."""

    def __init__(self, models: FoldModels, job: Job):
        self.models, self.job = models, job
        self.config: Config = models.config
        self.task: Task = models.data.fit_task(job.label_fraction)
        self.available, self.privileged = models.data.available, models.data.privileged
        self.histories: dict[Method, History] = {}  # of the methods that were trained here

    # `TrainingContext` documents these.

    def seed(self) -> None:
        self.models.builder.seed()

    def rows(self, part: str = "train") -> Batch:
        return self.models.rows(self.job, part)

    def network(
        self, reads: Sequence[str], hallucinators: Mapping[str, nn.Module] | None = None, fusion: FusionChoice = ""
    ) -> Network:
        return self.models.builder.network(reads, hallucinators, fusion)

    def trained_network(self, reads: Sequence[str]) -> Network:
        return self.models.trained_network(self.job, reads)

    def student(
        self, start: Network, hallucinate: str | Mapping[str, nn.Module] = "", fusion: FusionChoice = ""
    ) -> Network:
        if hallucinate == "t-net":
            # Copies, because the job's student must not change the T-Nets of the other jobs.
            hallucinate = {m: freeze(copy.deepcopy(tnet)) for m, tnet in self.models.tnets(self.job).items()}
        elif hallucinate == "encoder":
            hallucinate = self.hallucination_networks(start)
        slots = None if isinstance(hallucinate, str) else hallucinate
        return self.models.builder.student(start, slots, fusion)

    def hallucination_networks(self, start: Network, target: Network | None = None) -> dict[str, nn.Module]:
        return self.models.builder.hallucination_networks(start, target)

    def translation_networks(self, start: Network) -> dict[str, nn.Module]:
        return self.models.builder.translation_networks(start)

    def outputs(self, network: Network, part: str = "train") -> Output:
        return self.models.teachers.compute(self.job, network, part)

    def teacher_outputs(self, network: Network, part: str = "train") -> TeacherOutputs:
        return self.models.teachers.outputs(self.job, network, part)

    def baseline(self) -> tuple[Method, float]:
        method = Supervised(self.trained_network(self.available), self.task)
        history = load_history(self.models.owner("baseline").folder, replace(self.job, method="baseline", control=""))
        self.histories[method] = history
        return method, history.best_score

    def teachers(self, crossfit: bool, reads: OutputParts) -> Teacher | dict[str, Teacher]:
        # A baseline has no privileged modalities to be divided into sets.
        sets = {} if self.job.control == "self" else parse_teacher_sets(self.config)
        if sets:
            return {name: self.teacher_on(members, reads) for name, members in sets.items()}
        return self.teacher(crossfit, reads)

    def fit(self, method: Method, stage: str, teacher_fold: Tensor | None = None) -> float:
        self.histories[method] = self.models.fit(self.job, method, stage, teacher_fold)
        return self.histories[method].best_score

    # A sum of losses needs these too.

    def teacher_job(self) -> Job:
        """The job whose network teaches: the fold's teacher, or its baseline for the control "self"."""
        if self.job.control == "self":
            return replace(self.job, method="baseline", control="")
        return replace(self.job, method="teacher")

    def teacher(self, crossfit: bool = False, reads: OutputParts = EVERYTHING) -> Teacher:
        """The teacher of the job, or its cross-fitted siblings; of large data, with the outputs that are read."""
        return self.models.teachers.teacher(self.teacher_job(), crossfit, reads)

    def teacher_on(self, members: Sequence[str], reads: OutputParts = EVERYTHING) -> Teacher:
        """A teacher that reads the available modalities and some privileged ones."""
        return self.models.teachers.teacher_on(self.job, members, reads)
