"""One fold and seed: its teachers, made once, and every job that learns from them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sidelight.config import FREE, Config
from sidelight.data import Dataset
from sidelight.data.batch import Batch
from sidelight.data.overflow import check_answer
from sidelight.errors import CheckpointError, RunError, SidelightWarning
from sidelight.experiment.environment import Encoders, environment, made_with
from sidelight.experiment.fold_data import FoldData
from sidelight.experiment.jobs import Job, seed_of
from sidelight.experiment.parts import Parts
from sidelight.experiment.record import Similarities, examples, is_stored, measured, predictions, store_job, subsets
from sidelight.export import Student, load_student
from sidelight.methods import CONTROLS, Method, Recipe, Supervised, Teacher
from sidelight.networks.network import Network, Output, gathered
from sidelight.results.chance import describe_test
from sidelight.tasks import Task
from sidelight.training import History, fit


class Cell:
    """Runs the jobs of one fold and seed; what several of them need is made once and kept.

    Args:
        encoders: modality -> the user's own encoder, made anew for every network from the shape of one preprocessed
            row.
        made_with: which data and code every job says that it is of; by default it is found here.
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
        self._made_with = made_with
        self.config, self.folder, self.encoders = config, folder, encoders
        self.data = FoldData(config, dataset, fold, seed)
        self.initial, self.order = seed_of(seed, fold, "initial weights"), seed_of(seed, fold, "order and dropout")
        self._networks: dict[Job, Network] = {}
        self.tnets: dict[Job, dict[str, nn.Module]] = {}
        self.speech: dict[tuple[object, ...], Teacher] = {}

    def run(self, job: Job) -> None:
        """Train, test and store one job, unless it is stored."""
        if is_stored(self.folder, job):
            return
        if job.method in CONTROLS:
            self.supervised(job)
        else:
            parts = Parts(self, job)
            method, part = Recipe.parse(job.method).build(parts)
            self._train_and_store(method, job, part)

    def supervised(self, job: Job) -> Network:
        """The network of a `baseline` or `teacher` job, trained here or read back from its folder."""
        if job not in self._networks:
            stored = self.folder / "jobs" / job.id / "model.safetensors"
            parts = Parts(self, job)
            network = parts.network(self.reads(job))
            if is_stored(
                self.folder, job
            ):  # into a new network: a student's is frozen, and encoders are copied to train
                own = {m: e for m, e in self.own_encoders().items() if m in self.reads(job)}
                student = load_student(stored, encoders=own)
                try:
                    network.load_state_dict(student.network.state_dict())
                except RuntimeError as error:
                    raise RunError(f"{stored} is of another network: {error}. Delete its folder and resume.") from error
                network.eval()
            else:
                self._train_and_store(Supervised(network, parts.task), job)
            self._networks[job] = network
        return self._networks[job]

    def reads(self, job: Job) -> list[str]:
        """What the network of a `baseline` or `teacher` job reads."""
        return self.data.modalities if job.method == "teacher" else self.data.available

    @cached_property
    def made_with(self) -> Mapping[str, Any]:
        """Digest of the data, names of encoders, digests of the code of own methods."""
        return self._made_with or made_with(environment(self.data.dataset, self.encoders, self.config.methods))

    def own_encoders(self) -> dict[str, nn.Module]:
        """The user's own encoders, new."""
        return {m: make(self.data.preprocessor.shapes[m]) for m, make in self.encoders.items()}

    # training -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        method: Method,
        train: Batch,
        select: Batch,
        name: str,
        part: Tensor | None = None,
        similar: Similarities | None = None,
    ) -> History:
        """Train a stage; `name` is its checkpoint's, from which a killed run goes on."""
        checkpoint = self.folder / "checkpoints" / f"{name}.pt"
        train_it = partial(
            fit,
            method,
            train,
            select,
            self.config.training,
            seed=self.order,
            balance=self.config.balance,
            part=part,
            checkpoint=checkpoint,
            checkpoint_seconds=self.config.checkpoint_seconds,
            identity=name,
            watch=similar,
            augment=self.config.augment,
        )
        try:
            history = train_it()
        except CheckpointError as error:  # raised before the method is touched
            warnings.warn(f"{error} It was deleted, and the job is trained from its beginning.", SidelightWarning, 2)
            checkpoint.unlink()
            history = train_it()
        checkpoint.unlink(missing_ok=True)
        return history

    def _train_and_store(self, method: Method, job: Job, part: Tensor | None = None) -> None:
        select, test = self.data.rows("select", control=job.control), self.data.rows("test")
        similar = Similarities(select.take(torch.as_tensor(self.data.probe())))
        train = self.data.rows("train", job.labels, job.control)
        history = self.fit(method, train, select, job.id, part, similar)
        network = method.export()
        similar.add(network, history.best_epoch)
        task = self.data.task_of(job.labels)
        chosen = gathered(network, select, select.index, self._finite(task, self.data.fold.select))
        task = task.calibrated(chosen, select.target, select.labelled)
        said = gathered(network, test, test.index, self._finite(task, self.data.fold.test))
        facts = {
            "metrics": measured(task, said, test),
            "seconds": history.seconds,
            "n_train": len(self.data.fold.train),
            "n_labelled": int(self.data.rows("train", job.labels).labelled.sum()),
            "n_test": len(test),
            "primary": task.primary,
            "task": task.name,
            "kind": task.kind,
            "labels": list(task.labels),
            "higher_is_better": {name: metric.higher_is_better for name, metric in task.metrics().items()},
            **({"subsets": alone} if (alone := subsets(network, test, task)) else {}),
            "made_with": self._made_with_of(job),
            "config": {name: value for name, value in asdict(self.config).items() if name not in FREE},
        }
        model = self._model(network, job, task, facts)
        tested = predictions(self.data.dataset, self.data.fold.test, said, task)
        facts["test"] = describe_test(tested, task.name, task.labels, task.learnt().get("mean"))
        shown = examples(self.data.dataset, self.data.fold.test, said, task)
        store_job(self.folder, job, model, history, similar, tested, facts, shown)

    def _finite(self, task: Task, rows: NDArray) -> Callable[[Output], Tensor]:
        """`task.kept` of outputs on these rows, one chunk after the other; refuses an answer that is not finite."""
        done = 0

        def kept(said: Output) -> Tensor:
            nonlocal done
            answer = task.answer(said)
            check_answer(answer, self.data.dataset.ids[rows], ", ".join(self.data.modalities), done)
            done += len(answer)
            return task.kept(said)

        return kept

    def _made_with_of(self, job: Job) -> dict[str, Any]:
        terms = () if job.method in CONTROLS else Recipe.parse(job.method).terms
        methods = {term: code for term, code in self.made_with["methods"].items() if term in terms}
        return {**self.made_with, "methods": methods}

    def _model(self, network: Network, job: Job, task: Task, facts: dict[str, object]) -> Student:
        meta = {
            **vars(job),
            "data": {"name": self.data.dataset.name, **self.data.dataset.about},
            "recordings": {m: told for m, told in self.data.dataset.meaning.items() if m in network.reads},
            "metrics": facts["metrics"],
            "privileged": self.data.privileged if job.method != "teacher" else [],
        }
        return Student(network, self.data.preprocessor, task, meta)
