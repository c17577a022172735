"""One fold and seed: its teachers, made once, and every job that learns from them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from sidelight.config import FREE, Config
from sidelight.data import Dataset
from sidelight.errors import RunError
from sidelight.experiment.fold_data import FoldData
from sidelight.experiment.jobs import Job, seed_of
from sidelight.experiment.record import Similarities, measured, predictions, store_job
from sidelight.export import Student, load_student
from sidelight.methods import Distillation, Hallucination, Method, Recipe, Supervised, Teacher
from sidelight.networks.build import build_network, feature_shape
from sidelight.networks.hallucination import freeze, make_hallucinators
from sidelight.networks.network import Network, Output, outputs
from sidelight.results.store import write_atomic
from sidelight.training import History, fit

Encoders = Mapping[str, Callable[[tuple[int, ...]], nn.Module]]


class Cell:
    """Runs the jobs of one fold and seed; what several of them need is made once and kept.

    encoders: modality -> the user's own encoder, made anew for every network from the shape of one preprocessed row.
    """

    def __init__(self, config: Config, dataset: Dataset, folder: Path, encoders: Encoders, fold: int, seed: int):
        self.config, self.folder, self.encoders = config, folder, encoders
        self.data = FoldData(config, dataset, fold, seed)
        self.initial, self.order = seed_of(seed, fold, "initial weights"), seed_of(seed, fold, "order and dropout")
        self._networks: dict[Job, Network] = {}
        self._tnets: dict[Job, dict[str, nn.Module]] = {}
        self._speech: dict[tuple[Job, bool], Teacher] = {}

    def run(self, job: Job) -> None:
        """Train, test and store one job, unless it is stored."""
        if (self.folder / "jobs" / job.id / "job.json").is_file():
            return
        if job.method in ("baseline", "teacher"):
            self._supervised(job)
        else:
            self._distil(job)

    def _supervised(self, job: Job) -> Network:
        """The network of a `baseline` or `teacher` job, trained here or read back from its folder."""
        if job not in self._networks:
            stored = self.folder / "jobs" / job.id / "model.safetensors"
            if stored.is_file():
                own = {m: e for m, e in self._own_encoders().items() if m in self._reads(job)}
                self._networks[job] = load_student(stored, encoders=own).network
            else:
                method = Supervised(self._network(self._reads(job)), self.data.task_of(job.labels))
                self._train_and_store(method, job)
                self._networks[job] = method.network
        return self._networks[job]

    def _distil(self, job: Job) -> None:
        recipe = Recipe.parse(job.method)
        alone = job.control == "self"
        taught_by = replace(job, method="baseline", control="") if alone else replace(job, method="teacher")
        start = self._supervised(taught_by)
        tnets = self._hallucinators(taught_by) if recipe.hallucinates(self.config) and not alone else {}
        teacher = self._teacher(taught_by, recipe.crossfit)
        student = self._student(start, tnets)
        task = self.data.task_of(job.labels)
        method = Distillation(student, teacher, task, recipe.build(self.config, task))
        self._train_and_store(method, job, teacher.part)

    def _reads(self, job: Job) -> list[str]:
        return self.data.modalities if job.method == "teacher" else self.data.available

    def _network(self, reads: list[str], hallucinators: dict[str, nn.Module] | None = None) -> Network:
        torch.manual_seed(self.initial)
        return build_network(
            {m: self.data.preprocessor.shapes[m] for m in reads},
            reads,
            len(self.data.dataset.labels),
            self.config.network,
            slots=self.data.modalities if hallucinators else reads,
            hallucinators=hallucinators,
            encoders={m: e for m, e in self._own_encoders().items() if m in reads},
        )

    def _own_encoders(self) -> dict[str, nn.Module]:
        return {m: make(self.data.preprocessor.shapes[m]) for m, make in self.encoders.items()}

    def _student(self, start: Network, tnets: dict[str, nn.Module]) -> Network:
        """A student that begins where `start` (teacher, or baseline for "self") ended, as far as they agree.

        With T-Nets it has the teacher's slots, so fusion and head begin there too; without, only available encoders.
        """
        frozen = {m: freeze(copy.deepcopy(tnet)) for m, tnet in tnets.items()}
        student = self._network(self.data.available, frozen)
        if self.config.student.init == "teacher":
            for m in self.data.available:
                student.encoders[m].load_state_dict(start.encoders[m].state_dict())
            if tnets:
                student.fusion.load_state_dict(start.fusion.state_dict())
                student.head.load_state_dict(start.head.state_dict())
        if self.config.student.freeze:
            for m in self.data.available:
                student.encoders[m] = freeze(student.encoders[m])
        return student

    # teachers -----------------------------------------------------------------------------------------------------

    def _hallucinators(self, job: Job) -> dict[str, nn.Module]:
        """T-Nets trained on the features of a teacher job's network, kept in `shared/` (the recipe's second stage)."""
        if job not in self._tnets:
            network = self._supervised(job)
            torch.manual_seed(self.initial)
            tnets = make_hallucinators(feature_shape(network), self.data.available, self.data.privileged)
            stored = self.folder / "shared" / f"{job.id}-tnets.safetensors"
            holder = nn.ModuleDict(tnets)
            if stored.is_file():
                holder.load_state_dict(safetensors.torch.load_file(stored))
            else:
                self._fit(self._hallucination(job, network, tnets), job, "-tnets")
                write_atomic(stored, safetensors.torch.save(dict(holder.state_dict())))
            self._tnets[job] = tnets
        return self._tnets[job]

    def _hallucination(self, job: Job, network: Network, tnets: dict[str, nn.Module]) -> Hallucination:
        features = {}
        for part in ("train", "select"):
            rows = self.data.rows(part, job.labels, job.control)
            features[part] = outputs(network, rows, rows.index).features
            for m in tnets:
                if m in rows.present and not rows.present[m].any():
                    raise RunError(
                        f"fold {self.data.fold.name}: no {part} row has {m!r}, so its T-Net cannot learn. Leave it "
                        "out of --privileged, or set student.hallucinate=no."
                    )
        loss, task = self.config.teacher.hallucination, self.data.task_of(job.labels)
        return Hallucination(tnets, features["train"], features["select"], task, loss)

    def _teacher(self, job: Job, crossfit: bool) -> Teacher:
        """What a teacher job's network, or its cross-fitted siblings, says of the fold's train rows."""
        key = (job, crossfit)
        if key not in self._speech:
            train = self.data.rows("train", job.labels, job.control)
            said = outputs(self._supervised(job), train, train.index)
            self._speech[key] = self._crossfit(job, said) if crossfit else Teacher(said)
        return self._speech[key]

    def _crossfit(self, job: Job, said: Output) -> Teacher:
        """`said`, replaced where groups are labelled by what teachers say that were not trained on the row's group.

        It governs what is said in the loss. The student's first weights and its T-Nets are the fold's own teacher's.
        """
        part = torch.as_tensor(self.data.crossfit_parts(job.labels, self.config.teacher.crossfit or 5))
        stored = self.folder / "shared" / f"{job.id}-crossfit.safetensors"
        if stored.is_file():
            return Teacher(_unflatten(safetensors.torch.load_file(stored)), part)
        train = self.data.rows("train", job.labels, job.control)
        flat = _flatten(said)
        for p in [p for p in torch.unique(part[train.labelled]).tolist() if p >= 0]:
            method = Supervised(self._network(self._reads(job)), self.data.task_of(job.labels))
            self._fit(method, job, f"-part{p}", without=part == p)
            rows = (part == p).nonzero()[:, 0]
            for name, value in _flatten(outputs(method.network, train, rows)).items():
                flat[name][rows] = value
        write_atomic(stored, safetensors.torch.save(flat))
        return Teacher(_unflatten(flat), part)

    # training -----------------------------------------------------------------------------------------------------

    def _fit(
        self,
        method: Method,
        job: Job,
        stage: str = "",
        part: Tensor | None = None,
        without: Tensor | None = None,
        similar: Similarities | None = None,
    ) -> History:
        train = self.data.rows("train", job.labels, job.control)
        if without is not None:
            train = replace(train, labelled=train.labelled & ~without)
        checkpoint = self.folder / "checkpoints" / f"{job.id}{stage}.pt"
        history = fit(
            method,
            train,
            self.data.rows("select", control=job.control),
            self.config.training,
            seed=self.order,
            part=part,
            checkpoint=checkpoint,
            checkpoint_seconds=self.config.checkpoint_seconds,
            identity=job.id + stage,
            watch=similar,
        )
        checkpoint.unlink(missing_ok=True)
        return history

    def _train_and_store(self, method: Method, job: Job, part: Tensor | None = None) -> None:
        select, test = self.data.rows("select", control=job.control), self.data.rows("test")
        similar = Similarities(select.take(torch.as_tensor(self.data.probe())))
        history = self._fit(method, job, part=part, similar=similar)
        network = method.export()
        similar.add(network, history.best_epoch)
        said = outputs(network, test, test.index).prediction
        task = self.data.task_of(job.labels)
        facts = {
            "metrics": measured(task, said, test),
            "seconds": history.seconds,
            "n_train": len(self.data.fold.train),
            "n_labelled": int(self.data.rows("train", job.labels).labelled.sum()),
            "n_test": len(test),
            "primary": task.primary,
            "task": task.name,
            "labels": list(task.labels),
            "higher_is_better": {name: metric.higher_is_better for name, metric in task.metrics().items()},
            "config": {name: value for name, value in asdict(self.config).items() if name not in FREE},
        }
        model = self._model(network, job, facts)
        tested = predictions(self.data.dataset, self.data.fold.test, said, task)
        store_job(self.folder, job, model, history, similar, tested, facts)

    def _model(self, network: Network, job: Job, facts: dict[str, object]) -> Student:
        meta = {
            **vars(job),
            "data": {"name": self.data.dataset.name, **self.data.dataset.about},
            "metrics": facts["metrics"],
            "privileged": self.data.privileged if job.method != "teacher" else [],
        }
        return Student(network, self.data.preprocessor, self.data.task_of(job.labels), meta)


def _flatten(said: Output) -> dict[str, Tensor]:
    return {"prediction": said.prediction, "fused": said.fused, **{f"feature.{m}": f for m, f in said.features.items()}}


def _unflatten(flat: dict[str, Tensor]) -> Output:
    features = {name.removeprefix("feature."): f for name, f in flat.items() if name.startswith("feature.")}
    return Output(flat["prediction"], flat["fused"], features)
