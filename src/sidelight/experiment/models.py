"""The trained networks of one fold and seed: each is trained once, stored, and shared by the jobs that need it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sidelight.config import Config
from sidelight.config.io import flatten
from sidelight.data import Dataset
from sidelight.data.batch import Batch
from sidelight.errors import RunError
from sidelight.experiment.artifacts import Similarities, is_stored, store_job
from sidelight.experiment.draws import Draws
from sidelight.experiment.evaluate import evaluate
from sidelight.experiment.failures import Failures
from sidelight.experiment.fold import FoldData
from sidelight.experiment.inner_folds import InnerFolds, store_scores
from sidelight.experiment.plan import Job, derive_seed
from sidelight.experiment.provenance import Encoders, describe_environment, select_digests
from sidelight.experiment.shared_files import SharedFiles
from sidelight.experiment.student_builder import StudentBuilder
from sidelight.experiment.teachers import Teachers, find_rows_without
from sidelight.experiment.train_alone import train_alone
from sidelight.export import load_student
from sidelight.methods import Hallucination, Method, Supervised, parse_methods
from sidelight.networks.network import Network
from sidelight.sweeps import Sweep
from sidelight.tracking import Tracking
from sidelight.training import History
from sidelight.training.job import Observer, TrainingJob
from sidelight.utils.device import choose_device
from sidelight.utils.distributed import on_first
from sidelight.utils.machine import release_memory


@dataclass(frozen=True)
class Within:
    """What tells the models of an inner fold, or of a draw of a sweep, from those of the whole fold.

    Args:
        data: the rows.
        suffix: follows the names of their trainings.
        owner: method -> the models that have the teacher and the baseline that these models use.
        replica: of a draw, 0 or the number of its repetition, with other initial weights, order and dropout.
        inner: whether they choose epochs for the models of the whole fold.
    """

    data: FoldData
    suffix: str
    owner: Callable[[str], FoldModels]
    replica: int = 0
    inner: bool = False


class FoldModels:
    """Trains, loads, stores and caches the networks of one fold and seed.

    Several jobs share teachers, baselines, branches (networks on other subsets of the modalities), T-Nets, and the
    teachers' outputs on the train rows. Every network is trained only on the rows that its job may see.

    Args:
        config: the experiment's settings, with every default filled in.
        dataset: all rows.
        folder: the run folder.
        encoders: modality -> the user's own encoder, built anew for every network.
        fold: the number of the fold.
        seed: the seed of the split and of everything random.
        made_with: the digests of data and code that every job stores; by default they are computed here.
        within: what tells the models of an inner fold, or of a draw, from those of the whole fold.
        sweep: the sweep of which each job is the best draw.
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
        within: Within | None = None,
        sweep: Sweep | None = None,
        tracking: Tracking | None = None,
    ):
        self.config, self.folder, self.encoders = config, folder, encoders
        self.device = choose_device(config.training.device)
        self.data = within.data if within else FoldData(config, dataset, fold, seed)
        self.suffix, self._within = within.suffix if within else "", within
        repeated = [within.replica] if within and within.replica else []
        self.builder = StudentBuilder(
            config, self.data, encoders, derive_seed(seed, fold, "initial weights", *repeated), self.device
        )
        self.order_seed = derive_seed(seed, fold, "order and dropout", *repeated)
        self.failures = Failures(folder, config.max_failures)
        self.tracking = tracking or Tracking(folder)
        self._made_with = made_with
        self.train: Callable[[FoldModels, TrainingJob], History] = FoldModels.train_alone
        self.inner = InnerFolds(self.data, folder, self._make_inner)
        self.draws = Draws(sweep, self) if sweep else None
        self._supervised: dict[Job, Network] = {}
        self._tnets: dict[Job, dict[str, nn.Module]] = {}
        self.teachers = Teachers(self)

    @cached_property
    def made_with(self) -> Mapping[str, Any]:
        """The digests of the data and of the code of the user's methods, and the names of the user's encoders."""
        if self._made_with is not None:
            return self._made_with
        specs = parse_methods(self.config.methods).values()
        return select_digests(describe_environment(self.data.dataset, self.encoders, specs))

    @cached_property
    def shared_files(self) -> SharedFiles:
        """The files of `shared/`."""
        return SharedFiles(self.folder, self.made_with["data"])

    def rows(self, job: Job, part: str = "train") -> Batch:
        """The "train" or "select" rows as a job may see them."""
        return self.data.rows(part, job.label_fraction, job.control)

    def owner(self, method: str) -> FoldModels:
        """The models that have the "teacher" (with its T-Nets) or the "baseline" that these models use.

        Draws of a sweep share those that do not depend on what differs between the draws.
        """
        return self._within.owner(method) if self._within else self

    def _make_inner(self, folder: Path, data: FoldData, label_fraction: float, number: int) -> FoldModels:
        """The models of an inner fold."""

        def find_owner(method: str) -> FoldModels:
            return self.owner(method).inner(label_fraction)[number]

        replica = self._within.replica if self._within else 0
        within = Within(data, f"{self.suffix}-inner{number}", find_owner, replica, inner=True)
        return self._make(self.config, folder, within)

    def make_draw(
        self, config: Config, folder: Path, data: FoldData, replica: int, find_owner: Callable[[str], FoldModels]
    ) -> FoldModels:
        """The models of a draw."""
        return self._make(config, folder, Within(data, f"-{folder.name}", find_owner, replica))

    def _make(self, config: Config, folder: Path, within: Within) -> FoldModels:
        made = FoldModels(
            config, self.data.dataset, folder, self.encoders, self.data.number, self.data.seed,
            made_with=self.made_with, within=within,
        )  # fmt: skip
        made.train = self.train
        if within.inner:
            made.failures = self.failures
        return made

    # networks -----------------------------------------------------------------------------------------------------

    def control_network(self, job: Job) -> Network:
        """The network of a `baseline` or `teacher` job, trained here or loaded; callers must not change it."""
        if (owner := self.owner(job.method)) is not self:
            return owner.control_network(job)
        if job not in self._supervised:
            network = self.builder.network(self.reads(job))
            # A job may run alone (resumed, or in another worker), so its teacher may be stored or missing.
            if is_stored(self.folder, job):
                self._load(network, job)
            else:
                self.failures.check(job)
                for models in self.inner(job.label_fraction):
                    models.control_network(job)
                self.train_and_store(Supervised(network, self.data.fit_task(job.label_fraction)), job)
            self._supervised[job] = network
        return self._supervised[job]

    def reads(self, job: Job) -> list[str]:
        """The modalities that the network of a `baseline` or `teacher` job reads."""
        return self.data.modalities if job.method == "teacher" else self.data.available

    def _load(self, network: Network, job: Job) -> None:
        """Load the stored weights of a job into a fresh network, which is not frozen as a loaded student is."""
        stored = self.folder / "jobs" / job.id / "model.safetensors"
        student = load_student(stored, encoders=self.builder.own_encoders(self.reads(job)))
        try:
            network.load_state_dict(student.network.state_dict())
        except RuntimeError as error:
            raise RunError(f"{stored} belongs to another network: {error}. Delete its folder and resume.") from error
        network.eval()

    def trained_network(self, job: Job, reads: Sequence[str]) -> Network:
        """A copy of the network on these modalities, trained on the task loss alone, in evaluation mode.

        The network on every modality is the fold's teacher, that on the available modalities is its baseline. Any
        other is a branch, which is stored in `shared/`.
        """
        reads = [m for m in self.data.modalities if m in reads]
        if reads == self.data.modalities:
            return copy.deepcopy(self.control_network(replace(job, method="teacher")))
        if reads == self.data.available:
            return copy.deepcopy(self.control_network(replace(job, method="baseline", control="")))
        return self.owner("teacher").branch(job, reads)

    def branch(self, job: Job, reads: Sequence[str]) -> Network:
        """The network on other modalities than teacher and baseline read, stored in `shared/`."""
        network = self.builder.network(reads)
        # Numbers, because names of modalities may hold characters that names of files may not.
        numbers = "-".join(str(self.data.modalities.index(m)) for m in reads)
        name = replace(job, method=f"branch-{numbers}").id
        self.shared_files.train_once(network, name, partial(self._fit_branch, job, network, reads, name))
        return network.eval()

    def _fit_branch(self, job: Job, network: Network, reads: Sequence[str], name: str) -> None:
        """Train a branch on the labelled rows that have at least one of its modalities."""
        rows: dict[str, Batch] = {}
        for part in ("train", "select"):
            batch = self.rows(job, part)
            labelled = batch.labelled & ~find_rows_without(batch, reads)
            if not labelled.any():
                raise RunError(f"fold {self.data.fold.name}: no labelled {part} row has any of {list(reads)}.")
            rows[part] = replace(batch, labelled=labelled)
        method = Supervised(network, self.data.fit_task(job.label_fraction))
        self._fit_stage(job, method, rows["train"], rows["select"], name)

    def tnets(self, job: Job) -> dict[str, nn.Module]:
        """T-Nets trained on the features of the fold's teacher, stored in `shared/`; callers must not change them."""
        job = replace(job, method="teacher")
        if (owner := self.owner("teacher")) is not self:
            return owner.tnets(job)
        if job not in self._tnets:
            teacher = self.control_network(job)
            tnets = self.builder.tnets(teacher)
            self.shared_files.train_once(
                nn.ModuleDict(tnets), f"{job.id}-tnets", partial(self.fit_tnets, job, teacher, tnets)
            )
            self._tnets[job] = tnets
        return self._tnets[job]

    def fit_tnets(self, job: Job, teacher: Network, tnets: dict[str, nn.Module]) -> None:
        """Train T-Nets on the features of a teacher.

        Args:
            job: the job of the teacher.
            teacher: the trained teacher.
            tnets: privileged modality -> T-Net; trained in place.

        Raises:
            RunError: no train row, or no select row, has a modality.
        """
        for part in ("train", "select"):
            present = self.rows(job, part).present
            for m in tnets:
                if m in present and not present[m].any():
                    raise RunError(
                        f"fold {self.data.fold.name}: no {part} row has {m!r}, so its T-Net cannot learn. Leave it "
                        "out of --privileged, or set student.hallucinate=no."
                    )

        train = self.teachers.outputs(job, teacher, "train")
        select = self.teachers.outputs(job, teacher, "select")
        loss = self.config.teacher.hallucination
        self.fit(job, Hallucination(tnets, train, select, self.data.fit_task(job.label_fraction), loss), "tnets")

    def fit_sibling(self, job: Job, network: Network, labelled: Tensor, name: str) -> None:
        """Train a cross-fitted sibling of the teacher on some of the labelled rows."""
        rows = replace(self.rows(job), labelled=labelled)
        method = Supervised(network, self.data.fit_task(job.label_fraction))
        self._fit_stage(job, method, rows, self.rows(job, "select"), name)

    # training and storing -----------------------------------------------------------------------------------------

    def fit(self, job: Job, method: Method, stage: str, teacher_fold: Tensor | None = None) -> History:
        """Train an earlier stage of a job on the rows of the job, or a candidate for its last stage.

        Args:
            job: the job.
            method: the method of the stage; its networks are trained in place.
            stage: the name of the stage, from which the checkpoint is named.
            teacher_fold: as in `train_and_store`.
        """
        return self._fit_stage(job, method, self.rows(job), self.rows(job, "select"), f"{job.id}-{stage}", teacher_fold)

    def train_and_store(
        self, method: Method, job: Job, teacher_fold: Tensor | None = None, history: History | None = None
    ) -> None:
        """Train the last stage of a job, test its network, and store the job.

        Args:
            method: the method of the last stage.
            job: the job.
            teacher_fold: (train rows,) int64, the cross-fitted teacher of each train row; None without cross-fitting.
            history: how it was trained, if it is trained already.
        """
        train, select = self.rows(job), self.rows(job, "select")
        similarities = Similarities(
            select.index_select(torch.as_tensor(self.data.choose_probe_rows(job.label_fraction)))
        )
        with self.tracking.training(job.id, partial(self._settings, job)) as observer:
            if history is None:
                history = self._fit(job, method, train, select, job.id, teacher_fold, similarities, observer)
            del train, select

            # Test rows are read here for the first time, when the network is chosen.
            network = method.deployed_network()
            similarities.add(network, history.best_epoch)
            evaluation = evaluate(self.data, job, network, history, self.made_with, self.inner.answers(job))
            if method.chosen:
                evaluation.facts["chosen"] = method.chosen
            if observer:
                test = {f"test/{name}": value for name, value in evaluation.facts["metrics"].items()}
                observer.log(test | {"best_epoch": history.best_epoch}, len(history.epochs))
            on_first(partial(store_job, self.folder, job, evaluation, history, similarities))
        on_first(partial(self.inner.forget_networks, job))
        del evaluation
        if self.data.large:
            release_memory()

    def _settings(self, job: Job) -> dict[str, Any]:
        """What trackers are told of a job: its fold and seed, and the settings that are not empty."""
        flat = dict(flatten(Config, asdict(self.config)))
        return job.to_dict() | {name: value for name, value in flat.items() if value not in ("", None, [], {})}

    def _fit_stage(
        self, job: Job, method: Method, train: Batch, select: Batch, name: str, teacher_fold: Tensor | None = None
    ) -> History:
        """Train what other jobs use, or an earlier stage."""
        with self.tracking.training(name, partial(self._settings, job)) as observer:
            return self._fit(job, method, train, select, name, teacher_fold, observer=observer)

    def _fit(
        self,
        job: Job,
        method: Method,
        train: Batch,
        select: Batch,
        name: str,
        teacher_fold: Tensor | None = None,
        similarities: Similarities | None = None,
        observer: Observer | None = None,
    ) -> History:
        """Train one stage. A killed run continues from the checkpoint of that `name`.

        The models of an inner fold store the scores of the stage, and those of the whole fold read them.
        """
        scores, epoch_rows = self.inner.average_scores(job, name), self.data.rows_per_epoch(job.label_fraction)
        history = self.train(
            self,
            TrainingJob(
                f"{name}{self.suffix}", method, train, select, self.order_seed, teacher_fold, similarities,
                epoch_rows=epoch_rows, scores=scores, observer=observer,
            ),
        )  # fmt: skip
        if self._within and self._within.inner:
            store_scores(self, name, history)
        return history

    def train_alone(self, job: TrainingJob) -> History:
        """Train one stage by itself, from its checkpoint if there is one."""
        history = train_alone(job, self.config, self.folder / "checkpoints")
        if self.data.large:
            release_memory()  # of batches, before test rows are read
        return history
