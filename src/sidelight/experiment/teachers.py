"""The teachers of one fold and seed: what trained networks say of its rows, computed once and shared by the jobs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol, Self

import torch
from torch import Tensor

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.experiment.crossfit import CrossFit
from sidelight.experiment.fold import FoldData
from sidelight.experiment.plan import Job
from sidelight.experiment.shared_files import SharedFiles
from sidelight.experiment.student_builder import StudentBuilder
from sidelight.methods import Teacher
from sidelight.methods.teacher_outputs import MAPS_IN_MEMORY, CachedOutputs, OnlineOutputs, TeacherOutputs
from sidelight.networks.network import EVERYTHING, Network, Output, OutputParts, compute_outputs


class Models(Protocol):
    """What teachers need of `FoldModels`."""

    config: Config
    data: FoldData
    builder: StudentBuilder
    teachers: Teachers

    @property
    def shared_files(self) -> SharedFiles: ...

    def rows(self, job: Job, part: str = "train") -> Batch: ...

    def reads(self, job: Job) -> list[str]: ...

    def owner(self, method: str) -> Self: ...

    def control_network(self, job: Job) -> Network: ...

    def trained_network(self, job: Job, reads: Sequence[str]) -> Network: ...

    def fit_sibling(self, job: Job, network: Network, labelled: Tensor, name: str) -> None: ...


class Teachers:
    """Makes teachers of the trained networks of a fold, and keeps those that several jobs share.

    Args:
        models: the models of the fold, which train the networks.
    """

    def __init__(self, models: Models):
        self.models = models
        self._kept: dict[tuple[Job, bool, OutputParts], Teacher] = {}

    def compute(self, job: Job, network: Network, part: str = "train", reads: OutputParts = EVERYTHING) -> Output:
        """Compute the outputs of a network on every "train" or "select" row, in evaluation mode."""
        rows = self.models.rows(job, part)
        return compute_outputs(network, rows, rows.index, parts=reads if self.models.data.large else EVERYTHING)

    def outputs(
        self, job: Job, network: Network, part: str = "train", reads: OutputParts = EVERYTHING
    ) -> TeacherOutputs:
        """The outputs of a network on every row of a part: cached, or computed at every step if caching is impossible.

        Vectors are cached, and maps of up to `MAPS_IN_MEMORY` bytes. Larger maps are not cached. Neither are maps with
        `augment.crop` or `augment.flip`: cached maps show the centre view, not the view of the batch.

        Args:
            job: the job whose rows are read.
            network: the trained network.
            part: "train" or "select".
            reads: the parts of the outputs that are read. The others are kept too unless the data are large.
        """
        if self.models.data.dataset.size:
            # Only a segmentation has maps. One row gives the size of all.
            rows = self.models.rows(job, part)
            sample = compute_outputs(network, rows, rows.index[:1])
            if self.models.config.augment.moves or sample.nbytes * len(rows) > MAPS_IN_MEMORY:
                return OnlineOutputs([network], sample)
        return CachedOutputs(self.compute(job, network, part, reads))

    def teacher(self, job: Job, crossfit: bool = False, reads: OutputParts = EVERYTHING) -> Teacher:
        """The network of a `baseline` or `teacher` job as a teacher, or its cross-fitted siblings."""
        if (owner := self.models.owner(job.method)) is not self.models:
            return owner.teachers.teacher(job, crossfit, reads)
        # What is small, or stored for every method, is computed once with all parts.
        reads = reads if self.models.data.large and not crossfit else EVERYTHING
        key = job, crossfit, reads
        if key not in self._kept:
            own = self.outputs(job, self.models.control_network(job), reads=reads)
            self._kept[key] = self._crossfit(job).teacher(own) if crossfit else Teacher(own)
        return self._kept[key]

    def teacher_on(self, job: Job, members: Sequence[str], reads: OutputParts = EVERYTHING) -> Teacher:
        """A teacher that reads the available modalities and some privileged ones.

        It teaches the rows that have at least one of these privileged modalities.

        Args:
            job: the job whose rows the teacher is trained on.
            members: the privileged modalities that it reads.
            reads: the parts of its outputs that are read.
        """
        present = ~find_rows_without(self.models.rows(job), members)
        network = self.models.trained_network(job, [*self.models.data.available, *members])
        return Teacher(self.outputs(job, network, reads=reads), mask=None if present.all() else present)

    def _crossfit(self, job: Job) -> CrossFit:
        models = self.models
        folds = models.config.teacher.crossfit or 5
        teacher_fold = torch.as_tensor(models.data.assign_teacher_folds(job.label_fraction, folds))
        network = partial(models.builder.network, models.reads(job))
        fit = partial(models.fit_sibling, job)
        return CrossFit(job.id, models.rows(job), teacher_fold, models.shared_files, network, fit)


def find_rows_without(rows: Batch, modalities: Sequence[str]) -> Tensor:
    """(N,) bool, which rows have none of the modalities."""
    has_any = torch.zeros(len(rows), dtype=torch.bool)
    for m in modalities:
        has_any |= rows.present.get(m, torch.ones_like(has_any))
    return ~has_any
