"""The trained networks of one fold and seed: each is trained once, stored, and lent to the jobs that need it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sidelight.config import Config
from sidelight.data import Dataset
from sidelight.data.batch import Batch
from sidelight.errors import CheckpointError, RunError, SidelightWarning
from sidelight.experiment.artifacts import Similarities, is_stored, store_job
from sidelight.experiment.crossfit import CrossFit
from sidelight.experiment.evaluate import evaluate
from sidelight.experiment.fold import FoldData
from sidelight.experiment.plan import Job, seed_of
from sidelight.experiment.provenance import Encoders, environment, made_with
from sidelight.experiment.shared_files import SharedFiles
from sidelight.experiment.student_builder import StudentBuilder
from sidelight.export import load_student
from sidelight.methods import Hallucination, Method, Supervised, Teacher, parse_methods
from sidelight.methods.teacher_outputs import MAPS_IN_MEMORY, CachedOutputs, OnlineOutputs, TeacherOutputs
from sidelight.networks.network import Network, Output, compute_outputs
from sidelight.training import History, fit


class FoldModels:
    """Trains, loads and stores the networks of one fold and seed, and caches what several jobs need.

    It caches teachers and baselines, branches on other subsets of the modalities, T-Nets, and teachers' outputs on the
    train rows. Every network is trained only on the rows that its job may see.

    Args:
        config: the experiment's settings, with every default filled in.
        dataset: all rows.
        folder: the run folder.
        encoders: modality -> the user's own encoder, built anew for every network.
        fold, seed: which fold, and the seed of its split and of everything that is random.
        made_with: the digests of data and code that every job stores; by default they are computed here.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        folder: Path,
        encoders: Encoders,
        fold: int,
        seed: int,
        *,
        made_with: Mapping[str, Any] | None = None,
    ):
        self.config, self.folder, self.encoders = config, folder, encoders
        self.data = FoldData(config, dataset, fold, seed)
        self.build = StudentBuilder(config, self.data, encoders, seed_of(seed, fold, "initial weights"))
        self.order_seed = seed_of(seed, fold, "order and dropout")
        self._made_with = made_with
        self._supervised: dict[Job, Network] = {}
        self._tnets: dict[Job, dict[str, nn.Module]] = {}
        self._teachers: dict[tuple[Job, bool], Teacher] = {}

    @cached_property
    def made_with(self) -> Mapping[str, Any]:
        """The digest of the data, the names of own encoders, and the digests of the code of own methods."""
        if self._made_with is not None:
            return self._made_with
        return made_with(environment(self.data.dataset, self.encoders, parse_methods(self.config.methods).values()))

    @cached_property
    def shared(self) -> SharedFiles:
        return SharedFiles(self.folder, self.made_with["data"])

    def rows(self, job: Job, part: str = "train") -> Batch:
        """The "train" or "select" rows as a job may see them."""
        return self.data.rows(part, job.labels if part == "train" else 1.0, job.control)

    # networks -----------------------------------------------------------------------------------------------------

    def supervised(self, job: Job) -> Network:
        """The network of a `baseline` or `teacher` job, trained here or loaded; callers must not change it."""
        if job not in self._supervised:
            network = self.build.network(self._reads(job))
            if is_stored(self.folder, job):
                self._load(network, job)
            else:
                self.train_and_store(Supervised(network, self.data.task_of(job.labels)), job)
            self._supervised[job] = network
        return self._supervised[job]

    def _reads(self, job: Job) -> list[str]:
        """What the network of a `baseline` or `teacher` job reads."""
        return self.data.modalities if job.method == "teacher" else self.data.available

    def _load(self, network: Network, job: Job) -> None:
        """Load the stored weights of a job into a fresh network (a loaded student is frozen, and this one is not)."""
        stored = self.folder / "jobs" / job.id / "model.safetensors"
        student = load_student(stored, encoders=self.build.own_encoders(self._reads(job)))
        try:
            network.load_state_dict(student.network.state_dict())
        except RuntimeError as error:
            raise RunError(f"{stored} is of another network: {error}. Delete its folder and resume.") from error
        network.eval()

    def trained(self, job: Job, reads: Sequence[str]) -> Network:
        """A copy of the network on these modalities that the task loss alone has trained, in evaluation mode.

        On every modality it is the fold's teacher, on the available ones its baseline; any other is a branch, which is
        stored in `shared/`.
        """
        reads = [m for m in self.data.modalities if m in reads]
        if reads == self.data.modalities:
            return copy.deepcopy(self.supervised(replace(job, method="teacher")))
        if reads == self.data.available:
            return copy.deepcopy(self.supervised(replace(job, method="baseline", control="")))
        network = self.build.network(reads)
        numbers = "-".join(str(self.data.modalities.index(m)) for m in reads)
        name = replace(job, method=f"branch-{numbers}").id
        self.shared.train_once(network, name, partial(self._fit_branch, job, network, reads, name))
        return network.eval()

    def _fit_branch(self, job: Job, network: Network, reads: Sequence[str], name: str) -> None:
        """Train a branch on the labelled rows that have one of its modalities."""
        rows: dict[str, Batch] = {}
        for part in ("train", "select"):
            batch = self.rows(job, part)
            labelled = batch.labelled & ~lacking(batch, reads)
            if not labelled.any():
                raise RunError(f"fold {self.data.fold.name}: no labelled {part} row has any of {list(reads)}.")
            rows[part] = replace(batch, labelled=labelled)
        self._fit(Supervised(network, self.data.task_of(job.labels)), rows["train"], rows["select"], name)

    def tnets(self, job: Job) -> dict[str, nn.Module]:
        """T-Nets trained on the features of the fold's teacher, stored in `shared/`; callers must not change them."""
        job = replace(job, method="teacher")
        if job not in self._tnets:
            teacher = self.supervised(job)
            tnets = self.build.tnets(teacher)
            self.shared.train_once(
                nn.ModuleDict(tnets), f"{job.id}-tnets", partial(self.fit_tnets, job, teacher, tnets)
            )
            self._tnets[job] = tnets
        return self._tnets[job]

    def fit_tnets(self, job: Job, teacher: Network, tnets: dict[str, nn.Module]) -> None:
        """Train T-Nets on a teacher's features."""
        for part in ("train", "select"):
            present = self.rows(job, part).present
            for m in tnets:
                if m in present and not present[m].any():
                    raise RunError(
                        f"fold {self.data.fold.name}: no {part} row has {m!r}, so its T-Net cannot learn. Leave it "
                        "out of --privileged, or set student.hallucinate=no."
                    )
        train, select = (self.teacher_outputs(job, teacher, part) for part in ("train", "select"))
        loss = self.config.teacher.hallucination
        self.fit(job, Hallucination(tnets, train, select, self.data.task_of(job.labels), loss), "tnets")

    # teachers' outputs --------------------------------------------------------------------------------------------

    def outputs(self, job: Job, network: Network, part: str = "train") -> Output:
        """A network's outputs on every row of a part, in evaluation mode."""
        rows = self.rows(job, part)
        return compute_outputs(network, rows, rows.index)

    def teacher_outputs(self, job: Job, network: Network, part: str = "train") -> TeacherOutputs:
        """A network's outputs on every row of a part, cached; or computed at every step where caching is not possible.

        Vectors are cached, and maps of up to `MAPS_IN_MEMORY` bytes. Larger maps are not, nor any maps where views are
        drawn (`augment.crop`, `augment.flip`): they would not match the maps of the centre view.
        """
        if self.data.dataset.size:
            rows = self.rows(job, part)
            sample = compute_outputs(network, rows, rows.index[:1])
            if self.config.augment.moves or sample.nbytes * len(rows) > MAPS_IN_MEMORY:
                return OnlineOutputs([network], sample)
        return CachedOutputs(self.outputs(job, network, part))

    def teacher(self, job: Job, crossfit: bool = False) -> Teacher:
        """The outputs of a `baseline` or `teacher` job's network on the train rows, or of its cross-fitted siblings."""
        if (job, crossfit) not in self._teachers:
            network_outputs = self.teacher_outputs(job, self.supervised(job))
            self._teachers[job, crossfit] = (
                self._crossfit(job).teacher(network_outputs) if crossfit else Teacher(network_outputs)
            )
        return self._teachers[job, crossfit]

    def teacher_on(self, job: Job, members: Sequence[str]) -> Teacher:
        """A teacher on the available modalities and some privileged ones, of the rows that have one of the latter."""
        present = ~lacking(self.rows(job), members)
        network = self.trained(job, [*self.data.available, *members])
        return Teacher(self.teacher_outputs(job, network), mask=None if present.all() else present)

    def _crossfit(self, job: Job) -> CrossFit:
        teacher_fold = torch.as_tensor(self.data.crossfit_parts(job.labels, self.config.teacher.crossfit or 5))
        network = partial(self.build.network, self._reads(job))
        return CrossFit(job.id, self.rows(job), teacher_fold, self.shared, network, partial(self._fit_sibling, job))

    def _fit_sibling(self, job: Job, network: Network, labelled: Tensor, name: str) -> None:
        """Train a teacher on some of the labelled rows."""
        rows = replace(self.rows(job), labelled=labelled)
        self._fit(Supervised(network, self.data.task_of(job.labels)), rows, self.rows(job, "select"), name)

    # training and storing -----------------------------------------------------------------------------------------

    def fit(self, job: Job, method: Method, stage: str) -> None:
        """Train an earlier stage of a job on the job's rows."""
        self._fit(method, self.rows(job), self.rows(job, "select"), f"{job.id}-{stage}")

    def train_and_store(self, method: Method, job: Job, teacher_fold: Tensor | None = None) -> None:
        """Train the last stage of a job, test it, and store the job."""
        train, select = self.data.rows("train", job.labels, job.control), self.data.rows("select", control=job.control)
        similarities = Similarities(select.index_select(torch.as_tensor(self.data.probe())))
        history = self._fit(method, train, select, job.id, teacher_fold, similarities)
        network = method.export()
        similarities.add(network, history.best_epoch)
        evaluation = evaluate(self.data, job, network, history, self.made_with)
        store_job(self.folder, job, evaluation, history, similarities)

    def _fit(
        self,
        method: Method,
        train: Batch,
        select: Batch,
        name: str,
        teacher_fold: Tensor | None = None,
        similarities: Similarities | None = None,
    ) -> History:
        """Train one stage; `name` is that of its checkpoint, from which a killed run continues."""
        checkpoint = self.folder / "checkpoints" / f"{name}.pt"
        train_stage = partial(
            fit,
            method,
            train,
            select,
            self.config.training,
            seed=self.order_seed,
            balance=self.config.balance,
            teacher_fold=teacher_fold,
            checkpoint=checkpoint,
            checkpoint_seconds=self.config.checkpoint_seconds,
            identity=name,
            callback=similarities,
            augment=self.config.augment,
        )
        try:
            history = train_stage()
        except CheckpointError as error:  # raised before the method is touched
            warnings.warn(f"{error} It was deleted, and the job is trained from its beginning.", SidelightWarning, 2)
            checkpoint.unlink()
            history = train_stage()
        checkpoint.unlink(missing_ok=True)
        return history


def lacking(rows: Batch, modalities: Sequence[str]) -> Tensor:
    """(N,) bool: which rows have none of the modalities."""
    lacks = torch.ones(len(rows), dtype=torch.bool)
    for m in modalities:
        lacks &= ~rows.present[m] if m in rows.present else torch.zeros_like(lacks)
    return lacks
