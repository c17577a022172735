"""What a cell lends to the method of one job: rows, fresh networks, and networks that were trained before it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.errors import RunError, SidelightWarning
from sidelight.experiment.jobs import Job
from sidelight.methods import Hallucination, Method, Supervised, Teacher
from sidelight.methods.kept import MAPS_IN_MEMORY, Live, Said, Speech
from sidelight.networks.build import build_network, feature_shape
from sidelight.networks.hallucination import HallucinationNetwork, freeze, make_hallucinators
from sidelight.networks.network import Network, Output, outputs
from sidelight.networks.translation import TranslationNetwork
from sidelight.tasks import Task
from sidelight.training import History
from sidelight.utils.tensorfile import read_tensors, write_tensors

if TYPE_CHECKING:
    from sidelight.experiment.cell import Cell

OwnFusion = Literal["", "concat", "cross-translation"]
"""A fusion that a method asks for; "": the experiment's."""


class Parts:
    """The view that one job has of its cell. Networks are trained on the rows that the job is allowed to see."""

    def __init__(self, cell: Cell, job: Job):
        self.cell, self.job, self.data = cell, job, cell.data
        self.config: Config = cell.config
        self.task: Task = self.data.task_of(job.labels)
        self.available, self.privileged = self.data.available, self.data.privileged

    def lent(self, method: str, control: str) -> Parts:
        """The same for the job of the fold's `baseline` or `teacher`."""
        return Parts(self.cell, replace(self.job, method=method, control=control))

    def network_of_job(self) -> Network:
        """The trained network of a `baseline` or `teacher` job; not to be changed."""
        return self.cell.supervised(self.job)

    def seed(self) -> None:
        """Make what is drawn next (first weights) depend on the fold and seed alone."""
        torch.manual_seed(self.cell.initial)

    def rows(self, part: str = "train") -> Batch:
        """The "train" or "select" rows."""
        if part == "train":
            return self.data.rows("train", self.job.labels, self.job.control)
        return self.data.rows(part, control=self.job.control)

    def network(
        self, reads: Sequence[str], hallucinators: Mapping[str, nn.Module] | None = None, fusion: OwnFusion = ""
    ) -> Network:
        """A network with fresh weights, the same at every call."""
        self.seed()
        settings = self.config.network
        return build_network(
            {m: self.data.preprocessor.shapes[m] for m in reads},
            list(reads),
            len(self.data.dataset.labels),
            replace(settings, fusion=fusion or settings.fusion),
            slots=self.data.modalities if hallucinators else list(reads),
            hallucinators=hallucinators,
            encoders={m: e for m, e in self.cell.own_encoders().items() if m in reads},
            size=self.data.dataset.size,
            drop=self.config.student.drop if list(reads) == self.available else 0,
        )

    def trained(self, reads: Sequence[str]) -> Network:
        """A copy of the network on these modalities that the task loss alone has trained: the fold's teacher (all of
        them), its baseline (the available ones), or another branch, kept in `shared/`.
        """
        reads = [m for m in self.data.modalities if m in reads]
        if reads == self.data.modalities:
            return copy.deepcopy(self.cell.supervised(replace(self.job, method="teacher")))
        if reads == self.available:
            return copy.deepcopy(self.cell.supervised(replace(self.job, method="baseline", control="")))
        network = self.network(reads)
        numbers = "-".join(str(self.data.modalities.index(m)) for m in reads)
        name = replace(self.job, method=f"branch-{numbers}").id
        self._once(network, name, partial(self._fit_branch, network, reads, name))
        return network.eval()

    def _once(self, module: nn.Module, name: str, train: Callable[[], object]) -> None:
        """Train a module, or give it the weights that were kept of it in `shared/`."""
        kept = self._kept(name)
        if kept is None:
            train()
            self._keep(name, dict(module.state_dict()))
            return
        try:
            module.load_state_dict(kept)
        except RuntimeError as error:
            raise RunError(
                f"{self._file(name)} is of another network: {error}. Delete it to train this one again."
            ) from error

    def _file(self, name: str) -> Path:
        return self.cell.folder / "shared" / f"{name}.safetensors"

    def _keep(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        write_tensors(self._file(name), tensors, {"name": name, "data": self.cell.made_with["data"]})

    def _kept(self, name: str) -> dict[str, Tensor] | None:
        """What was kept by this name in `shared/`; None where nothing was, or where it is damaged, with a warning."""
        file = self._file(name)
        if not file.exists():
            return None
        try:
            tensors, told = read_tensors(file, mend="It is made again.")
        except RunError as error:
            warnings.warn(str(error), SidelightWarning, stacklevel=2)
            return None
        expected = {"name": name, "data": self.cell.made_with["data"]}
        if told and told != expected:  # of an earlier version there is nothing to compare
            warnings.warn(
                f"{file} was made as {told.get('name')!r}, or of other data. It is made again.",
                SidelightWarning,
                stacklevel=2,
            )
            return None
        return tensors

    def _fit_branch(self, network: Network, reads: Sequence[str], name: str) -> None:
        lacks = {part: lacking(self.rows(part), reads) for part in ("train", "select")}
        for part, absent in lacks.items():
            if not (self.rows(part).labelled & ~absent).any():
                raise RunError(f"fold {self.data.fold.name}: no labelled {part} row has any of {list(reads)}.")
        rows = {part: self.rows(part) for part in lacks}
        train, select = (replace(rows[part], labelled=rows[part].labelled & ~lacks[part]) for part in lacks)
        self.cell.fit(Supervised(network, self.task), train, select, name)

    def fit(self, method: Method, stage: str) -> History:
        """Train an earlier stage of the job's recipe on the job's rows."""
        return self.cell.fit(method, self.rows(), self.rows("select"), f"{self.job.id}-{stage}")

    # teachers -----------------------------------------------------------------------------------------------------

    def says(self, network: Network, part: str = "train") -> Output:
        """What a network says of every row, computed once."""
        rows = self.rows(part)
        return outputs(network, rows, rows.index)

    def speech(self, network: Network, part: str = "train") -> Speech:
        """What a network says of every row; or the network itself, to be asked at every step.

        Vectors, and maps up to `MAPS_IN_MEMORY` bytes, are computed once. Larger maps are not, and none where views are
        drawn (`augment.crop`, `augment.flip`), which maps of the centre view would not match.
        """
        if self.data.dataset.size:
            rows = self.rows(part)
            one = outputs(network, rows, rows.index[:1])
            if self.config.augment.moves or one.nbytes * len(rows) > MAPS_IN_MEMORY:
                return Live([network], one)
        return Said(self.says(network, part))

    def teacher(self, crossfit: bool = False) -> Teacher:
        """What the fold's teacher, or its cross-fitted siblings, says of every train row."""
        key = (self.job.method, self.job.control, self.job.labels, crossfit)
        if key not in self.cell.speech:
            said = self.speech(self.cell.supervised(self.job))
            self.cell.speech[key] = self._crossfit(said) if crossfit else Teacher(said)
        return self.cell.speech[key]

    def teacher_on(self, members: Sequence[str]) -> Teacher:
        """A teacher on some privileged modalities and the available ones, silent of rows that have none of these."""
        absent = lacking(self.rows(), members)
        said = self.speech(self.trained([*self.available, *members]))
        return Teacher(said, silent=absent if absent.any() else None)

    def _crossfit(self, said: Speech) -> Teacher:
        """`said`, replaced where groups are labelled by what teachers say that were not trained on the row's group.

        It governs what is said in the loss. The student's first weights and its T-Nets are the fold's own teacher's.
        """
        part = torch.as_tensor(self.data.crossfit_parts(self.job.labels, self.config.teacher.crossfit or 5))
        if isinstance(said, Live):
            return Teacher(self._crossfit_live(said, part), part)
        name = f"{self.job.id}-crossfit"
        if (kept := self._kept(name)) is not None:
            return Teacher(Said(_unflatten(kept)), part)
        train, flat = self.rows(), _flatten(said.every)
        for p in self._parts_taught(part):
            sibling = self.network(self.cell.reads(self.job))
            self._fit_sibling(sibling, part, p)
            rows = (part == p).nonzero()[:, 0]
            for kind, value in _flatten(outputs(sibling, train, rows)).items():
                flat[kind][rows] = value
        self._keep(name, flat)
        return Teacher(Said(_unflatten(flat)), part)

    def _crossfit_live(self, said: Live, part: Tensor) -> Live:
        """The fold's own teacher and its siblings, each to be asked about its part; they are kept in `shared/`."""
        networks, speaker = [*said.networks], torch.zeros_like(part)
        for p in self._parts_taught(part):
            sibling = self.network(self.cell.reads(self.job))
            self._once(sibling, f"{self.job.id}-part{p}", partial(self._fit_sibling, sibling, part, p))
            speaker[part == p] = len(networks)
            networks.append(sibling)
        return Live(networks, said.sample, speaker)

    def _parts_taught(self, part: Tensor) -> list[int]:
        """The parts with labelled rows, about which a sibling speaks."""
        return [p for p in torch.unique(part[self.rows().labelled]).tolist() if p >= 0]

    def _fit_sibling(self, network: Network, part: Tensor, p: int) -> None:
        """Train a teacher on the labelled rows of all parts but p."""
        train = self.rows()
        others = replace(train, labelled=train.labelled & (part != p))
        self.cell.fit(Supervised(network, self.task), others, self.rows("select"), f"{self.job.id}-part{p}")

    # students -----------------------------------------------------------------------------------------------------

    def student(
        self, start: Network, hallucinate: str | Mapping[str, nn.Module] = "", fusion: OwnFusion = ""
    ) -> Network:
        """A student that begins where `start` (teacher, or baseline for "self") ended, as far as they agree.

        hallucinate: "" (no slot for privileged modalities), "t-net" (trained on the teacher's features and frozen) or
        "encoder" (reads the available modalities itself, and is trained), or the modules themselves. With
        slots it has the teacher's, so fusion and head begin there too; without, only available encoders. A `fusion`
        other than the experiment's, and the head after it, begin with fresh weights.
        """
        slots: dict[str, nn.Module] = {} if isinstance(hallucinate, str) else dict(hallucinate)
        if hallucinate == "t-net":
            slots = {m: freeze(copy.deepcopy(tnet)) for m, tnet in self.tnets().items()}
        elif hallucinate == "encoder":
            slots = self.hallucination_networks(start)
        student = self.network(self.available, slots, fusion)
        if self.config.student.init == "teacher":
            for m in self.available:
                student.encoders[m].load_state_dict(start.encoders[m].state_dict())
            if slots and not fusion:
                student.fusion.load_state_dict(start.fusion.state_dict())
                student.head.load_state_dict(start.head.state_dict())
        if self.config.student.freeze:
            for m in self.available:
                student.encoders[m] = freeze(student.encoders[m])
        return student

    def hallucination_networks(self, start: Network, target: Network | None = None) -> dict[str, nn.Module]:
        """Privileged modality -> a network of its own on the available ones, its encoders begun where `start` ended.

        Its features have the shape of those of `target` (default: `start`).
        """
        shapes, sources = feature_shape(target or start), feature_shape(start)
        self.seed()
        encoders = {m: start.encoders[m] for m in self.available}
        return {
            m: HallucinationNetwork(copy.deepcopy(encoders), {a: sources[a] for a in encoders}, shapes[m], slot=m)
            for m in self.privileged
        }

    def translation_networks(self, start: Network) -> dict[str, nn.Module]:
        """Privileged modality -> a network that makes its rows from available ones, and reads them as `start` does."""
        shapes = feature_shape(start)
        self.seed()
        return {
            m: TranslationNetwork(
                {a: copy.deepcopy(start.encoders[a]) for a in self.available},
                {a: shapes[a] for a in self.available},
                self.data.preprocessor.shapes[m],
                copy.deepcopy(start.encoders[m]),
                shapes[m],
            )
            for m in self.privileged
        }

    def tnets(self) -> dict[str, nn.Module]:
        """T-Nets trained on the features of the fold's teacher, kept in `shared/` (the recipe's second stage)."""
        teacher = replace(self.job, method="teacher")
        if teacher not in self.cell.tnets:
            network = self.cell.supervised(teacher)
            self.seed()
            tnets = make_hallucinators(feature_shape(network), self.available, self.privileged)
            of_teacher = Parts(self.cell, teacher)
            self._once(nn.ModuleDict(tnets), f"{teacher.id}-tnets", partial(of_teacher.fit_tnets, network, tnets))
            self.cell.tnets[teacher] = tnets
        return self.cell.tnets[teacher]

    def fit_tnets(self, network: Network, tnets: dict[str, nn.Module]) -> None:
        """Train T-Nets on the features of `network`."""
        for part in ("train", "select"):
            rows = self.rows(part)
            for m in tnets:
                if m in rows.present and not rows.present[m].any():
                    raise RunError(
                        f"fold {self.data.fold.name}: no {part} row has {m!r}, so its T-Net cannot learn. Leave it "
                        "out of --privileged, or set student.hallucinate=no."
                    )
        said, select_said = self.speech(network), self.speech(network, "select")
        self.fit(Hallucination(tnets, said, select_said, self.task, self.config.teacher.hallucination), "tnets")


def lacking(rows: Batch, modalities: Sequence[str]) -> Tensor:
    """(N,) bool: which rows have none of the modalities."""
    lack = torch.ones(len(rows), dtype=torch.bool)
    for m in modalities:
        lack &= ~rows.present[m] if m in rows.present else torch.zeros_like(lack)
    return lack


def _flatten(said: Output) -> dict[str, Tensor]:
    return {"prediction": said.prediction, "fused": said.fused, **{f"feature.{m}": f for m, f in said.features.items()}}


def _unflatten(flat: dict[str, Tensor]) -> Output:
    features = {name.removeprefix("feature."): f for name, f in flat.items() if name.startswith("feature.")}
    return Output(flat["prediction"], flat["fused"], features)
